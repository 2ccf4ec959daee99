"""Whatever comes from outside is taken, or refused by the parser's own error, and ends nothing.

A few bent inputs of each kind here, all that were kept, and the hunt itself; `make fuzz
TARGET=parsers` goes on.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import structlog

from fuzzing.parsers import hunt
from fuzzing.parsers.hunt import Hunt, corpus, failure, findings, grow, keep, smaller
from fuzzing.parsers.mutation import BYTES, JSON, PARTS_MAX
from fuzzing.parsers.target import Target
from fuzzing.parsers.targets import TARGETS
from tabard.cli import selector

FOUND = [(name, path) for name, target in TARGETS.items() for path in findings(target)]
every = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """What is discarded is logged; here that is most of it."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(("name", "path"), FOUND, ids=[f"{n}-{path.name}" for n, path in FOUND])
def test_an_input_that_once_failed_is_taken_or_refused(name: str, path: Path) -> None:
    assert failure(TARGETS[name], path.read_bytes()) is None


@every
def test_what_there_is_and_what_was_kept_is_taken_or_refused(target: Target) -> None:
    for data in (*target.seeds(), *corpus(target)):
        assert failure(target, data) is None, data


@every
def test_bent_inputs_are_taken_or_refused(target: Target) -> None:
    random, pool = Random(target.name), [*target.seeds(), *corpus(target)]
    for _ in range(target.short):
        data = target.form.bent(random, random.choice(pool), random.choice(pool))
        assert failure(target, data) is None, data


def _planted(data: bytes) -> None:
    selector.parse(data.decode(errors="replace"))
    if b"!" in data:
        raise KeyError("planted")


PLANTED = Target("planted", BYTES, lambda: [b"a=b", b"a in (b, c)"], _planted, (ValueError,))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hunt, "FINDINGS", tmp_path / "findings")
    monkeypatch.setattr(hunt, "CORPORA", tmp_path / "corpora")


@pytest.mark.usefixtures("elsewhere")
def test_a_fault_is_found_made_small_and_kept() -> None:
    hunting = Hunt(PLANTED, Random(1))
    while not hunting.failures:
        hunting.once()
    (found,) = hunting.failures.values()
    assert found.place[0] == "KeyError"
    least = smaller(PLANTED, found, float("inf"))
    assert (least.data[:1], len(least.data), least.place) == (b"!", 2, found.place)
    kept = keep(PLANTED, least)
    assert findings(PLANTED) == [kept]
    assert failure(PLANTED, kept.read_bytes()) == least


@pytest.mark.usefixtures("elsewhere")
def test_what_reaches_more_than_the_seeds_is_kept_and_hunted_from() -> None:
    hunting = Hunt(PLANTED, Random(1))
    from_seeds = hunting.arcs
    while not hunting.grown:
        hunting.once()
    assert grow(PLANTED, hunting.grown) == len(corpus(PLANTED)) > 0
    assert Hunt(PLANTED, Random(2), corpus(PLANTED)).arcs > from_seeds


def test_an_input_that_takes_too_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hunt, "INPUT_S_MAX", 0.05)

    def forever(data: bytes) -> None:
        while True:
            pass

    found = failure(Target("slow", BYTES, lambda: [b"x"], forever), b"x")
    assert found is not None
    assert found.place[0] == "TooSlow"


def test_one_seed_bends_the_same_way_and_no_value_grows_without_end() -> None:
    def bent(seed: int) -> list[bytes]:
        random, data, found = Random(seed), b'{"a": [1, "b", {"c": null}]}', []
        for _ in range(300):
            data = JSON.bent(random, data, data)
            found.append(data)
        return found

    assert bent(3) == bent(3)
    assert len(set(bent(3))) > 100
    assert all(data.count(b",") <= PARTS_MAX for data in bent(3))
