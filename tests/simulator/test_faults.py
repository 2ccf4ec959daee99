"""The mutation check: each deliberate fault is noticed by the checker that is there for it."""

import pytest

from tabard.simulator.faults.catalogue import FAULTS
from tabard.simulator.history import run

SEEDS_MAX = 200
LAST_CAUGHT = {
    "silence-is-consent": 14,
    "older-replaces-newer": 10,
    "policy-removed-first": 9,
    "failed-write-swallowed": 44,
    "unknown-is-world": 27,
    "unknown-passes": 36,
    "answers-outlive-rules": 122,
    "answers-reopen": 128,
    "flows-outlive-pods": 21,
}
"""Fault → the seed by which it was caught when this was written, where that is none of the first:
tried before these, to save time."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_by_its_checker(name: str) -> None:
    fault = FAULTS[name]
    first = LAST_CAUGHT.get(name, 1)
    seeds = [first, *(seed for seed in range(1, SEEDS_MAX + 1) if seed != first)]
    with fault.plant():
        caught = any(
            found.violation.invariant is fault.caught_by
            for seed in seeds
            for found in run(seed, fault.steps).found
        )
    assert caught, f"{name} survived {SEEDS_MAX} histories: {fault.breaks}"


def test_where_faults_were_caught_is_of_faults_that_there_are() -> None:
    assert LAST_CAUGHT.keys() <= FAULTS.keys()
    assert set(LAST_CAUGHT.values()) <= set(range(1, SEEDS_MAX + 1))
