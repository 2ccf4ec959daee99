"""All checkers of ledgers on ledgers that are right: golden ones, and random stories."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checked import what
from deciding import TICK, Teller
from golden.files import Golden, every
from scenarios import well_formed
from tabard.bus.port import Stored
from tabard.events.codec import decode
from tabard.events.observed import ObservedEvent
from tabard.invariants.fence import Fenced
from tabard.invariants.numbers import OneNumberOneSet
from tabard.invariants.once import ExactlyOnce
from tabard.invariants.reuse import SafeReuse
from tabard.invariants.same import Deterministic
from tabard.invariants.verdict import Verdict
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.reader import take
from tabard.ledger.state import State

NUMBERS = {"every-event": 12, "domain-names": 100, "closed-loops": 5, "told-by-chance": 6}
"""How many there were for pods, where they were few."""


def found(
    ledger: list[Stored], observed: Iterable[tuple[int, ObservedEvent]], numbers: int | None
) -> list[str]:
    sets, reuse, fence, once = OneNumberOneSet(), SafeReuse(numbers), Fenced(), ExactlyOnce()
    for sequence, event in observed:
        once.observe(sequence, event)
    said = []
    state = State()
    for message in ledger:
        for node in state.nodes:
            reuse.said(node, state.sequence)
        record = take(state, message)
        assert record is not None
        said += what(sets.take(record)) + what(reuse.take(record)) + what(once.take(record))
        said += what(fence.take(record, message.payload)) + what(reuse.agree(state))
    assert folded_twice(ledger).held
    return said + what(sets.settled())


def folded_twice(ledger: Iterable[Stored]) -> Verdict:
    """The verdict on a whole ledger, folded in one go and by way of a snapshot half-way.

    Raises what `ledger.reader.take` does where the ledger cannot be folded.
    """
    messages = list(ledger)
    checker, state = Deterministic(), State()
    records: list[LedgerRecord] = []
    for message in messages:
        record = take(state, message)
        if message.sequence == len(messages) // 2:
            checker.freeze(state)
            records.clear()
        elif record is not None:
            records.append(record)
    checker.hold(state, records)
    return checker.verdict()


@pytest.mark.parametrize("golden", every(), ids=lambda golden: golden.name)
def test_golden_ledgers_are_right(golden: Golden) -> None:
    observed = [(record.sequence, record.event) for record in golden.observed]
    assert found(golden.ledger, observed, NUMBERS.get(golden.name)) == []


_stories = st.lists(st.one_of(well_formed, well_formed, st.just(TICK)), min_size=10, max_size=40)


@given(story=_stories, numbers=st.integers(2, 6))
@settings(deadline=None, max_examples=60)
def test_ledgers_of_random_stories_are_right(story: list[Any], numbers: int) -> None:
    teller = Teller(numbers=numbers)
    teller.tell(*story, TICK, TICK)
    ledger = [
        Stored(sequence, message.subject, message.payload, 0)
        for sequence, message in enumerate(teller.messages, 1)
    ]
    observed = [
        (sequence, decode(payload, "OBSERVED", sequence).event)
        for sequence, payload in enumerate(teller.told, 1)
    ]
    assert found(ledger, observed, numbers) == []
