import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deciding import SETTINGS
from tabard.allocator.numbering import Allotment, FreeNumbers, Numbering
from tabard.events.ledger import IdentityAllocated, IdentityReleased, IdentityRetired
from tabard.identity.labels import LabelSet
from tabard.identity.numbers import CIDR_SCOPE, NumberSpace
from tabard.ledger.fold import apply
from tabard.ledger.state import State

LAST = 40


@given(
    taken=st.sets(st.integers(0, LAST + 3)),
    steps=st.lists(
        st.one_of(
            st.just("take"),
            st.tuples(st.integers(0, LAST), st.booleans()),
            st.sets(st.integers(3, LAST)),
        ),
        max_size=60,
    ),
)
def test_free_numbers_are_those_of_a_naive_scan_and_doubtful_ones_come_last(
    taken: set[int], steps: list[Any]
) -> None:
    free = FreeNumbers(3, LAST, taken)
    naive = {number for number in range(3, LAST + 1) if number not in taken}
    doubtful: set[int] = set()
    for step in steps:
        used = [number for number in range(3, LAST + 1) if number not in naive | doubtful]
        match step:
            case "take" if naive | doubtful:
                first = min(naive or doubtful)
                free.take(first)
                naive.discard(first)
                doubtful.discard(first)
            case number, is_doubtful if used:
                back = used[number % len(used)]
                free.release(back, is_doubtful)
                (doubtful if is_doubtful else naive).add(back)
            case set():
                free.doubt_only(step)
                naive |= doubtful - step
                doubtful &= step
        assert list(free) == [*sorted(naive), *sorted(doubtful)]
        assert len(free) == len(naive | doubtful)
    used = [number for number in range(3, LAST + 1) if number not in naive | doubtful]
    assert list(FreeNumbers(3, LAST, used, doubtful)) == list(free)


def test_the_lowest_of_many_is_found_without_a_scan() -> None:
    free = FreeNumbers(256, 65_535, range(256, 65_000))
    for number in (64_000, 300, 7_000):
        free.release(number)
    looked_at = iter(free)
    assert [next(looked_at) for _ in range(4)] == [300, 7_000, 64_000, 65_000]
    free.take(300)
    assert next(iter(free)) == 7_000


def test_taking_another_than_the_lowest_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="taken while 256 was free"):
        FreeNumbers(256, 300).take(257)


def test_a_number_past_the_last_is_never_handed_out() -> None:
    free = FreeNumbers(256, 257)
    free.take(256)
    free.take(257)
    assert list(free) == []
    assert len(free) == 0
    with pytest.raises(AssertionError):
        free.take(258)


def _state() -> State:
    state = State()
    apply(state, SETTINGS, 1, 0)
    return state


def test_live_retired_and_cidr_numbers_are_not_free() -> None:
    state = _state()
    numbering = Numbering(state)
    for sequence, event in enumerate(
        (
            IdentityAllocated(256, ("k8s:a=",)),
            IdentityAllocated(257, ("k8s:b=",)),
            IdentityAllocated(CIDR_SCOPE, ("cidr:10.0.0.0/8",)),
            IdentityRetired(256),
        ),
        2,
    ):
        apply(state, event, sequence, 0)
        numbering.note(event)
    for known in (numbering, Numbering(state)):
        assert next(iter(known.cluster)) == 258
        assert next(iter(known.cidr)) == CIDR_SCOPE + 1
    apply(state, IdentityReleased(256), 6, 0)
    numbering.note(IdentityReleased(256))
    for known in (numbering, Numbering(state)):
        assert next(iter(known.cluster)) == 256


def test_the_space_follows_cluster_id_and_bits() -> None:
    state = State()
    apply(state, dataclasses.replace(SETTINGS, cluster_id=3, cluster_bits=8), 1, 0)
    assert next(iter(Numbering(state).cluster)) == NumberSpace(3, 8).first == (3 << 16) + 256


def test_an_allotment_hands_out_each_number_once_and_changes_nothing() -> None:
    state = _state()
    free = FreeNumbers(256, 258, (257,))
    allotment = Allotment(state, free)
    sets = [LabelSet((f"k8s:{name}=",)) for name in "abc"]
    assert [allotment.draw(labels) for labels in sets] == [256, 258, None]
    assert [allotment.known(labels) for labels in sets] == [256, 258, None]
    assert (len(allotment), allotment.left) == (2, 0)
    assert allotment.events == [IdentityAllocated(256, sets[0]), IdentityAllocated(258, sets[1])]
    assert list(free) == [256, 258]
