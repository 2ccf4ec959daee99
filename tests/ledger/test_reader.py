import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.bus.port import SequenceGap, Stored
from tabard.events import chain
from tabard.events.codec import encode
from tabard.events.envelope import Envelope
from tabard.events.ledger import (
    CursorAdvanced,
    EndpointUnbound,
    EventQuarantined,
    LedgerEvent,
    NodeAdded,
)
from tabard.events.observed import PodStopped
from tabard.ledger.messages import sealed
from tabard.ledger.reader import Stopped, take, take_all
from tabard.ledger.state import State


def log(*every: LedgerEvent, start: int = 1, previous: bytes = chain.GENESIS) -> list[Stored]:
    """A ledger as a bus stores it."""
    batch = [(event, Envelope(bytes(16), "k", 0)) for event in every]
    messages, _ = sealed(previous, batch)
    return [Stored(start + i, one.subject, one.payload, 0) for i, one in enumerate(messages)]


def numbered(count: int) -> list[Stored]:
    return log(*(NodeAdded(f"n{number}", (), ()) for number in range(1, count + 1)))


def with_payload(message: Stored, payload: bytes) -> Stored:
    return Stored(message.sequence, message.subject, payload, 0)


def stops(state: State, message: Stored, match: str) -> None:
    """The reader stops before `message`, says so, and stays as it was."""
    before = copy.deepcopy(state)
    with pytest.raises(Stopped, match=match) as caught:
        take(state, message)
    assert caught.value.sequence == message.sequence
    assert f"tabard events quarantine {message.sequence}" in str(caught.value)
    assert state == before


def test_a_good_log_is_taken_whole() -> None:
    state, messages = State(), numbered(3)
    records = take_all(state, messages)
    assert [record.sequence for record in records] == [1, 2, 3]
    assert list(state.nodes) == ["n1", "n2", "n3"]
    assert state.chain == chain.chain_of(messages[-1].payload)


@pytest.mark.parametrize("sequence", [1, 2, 4, 9])
def test_what_is_not_the_next_message_is_a_gap(sequence: int) -> None:
    state = State()
    take_all(state, numbered(2))
    before = copy.deepcopy(state)
    with pytest.raises(SequenceGap, match=f"LEDGER/{sequence} came where LEDGER/3 must"):
        take(state, Stored(sequence, "s", b"", 0))
    assert state == before


def test_it_stops_before_what_cannot_be_read() -> None:
    state = State()
    take_all(state, numbered(1))
    previous = state.chain
    unknown = encode(PodStopped("u"), Envelope(b"", "", 0)).replace(b"pod.stopped", b"pod.changed")
    for event, match in (
        (unknown, "event type 'pod.changed' is unknown"),
        (encode(EndpointUnbound("u"), Envelope(b"", "", 0)), "endpoint u, which is not bound"),
    ):
        payload, _ = chain.link(previous, event)
        stops(state, Stored(2, "s", payload, 0), match)
    bare = encode(CursorAdvanced("OBSERVED", 1), Envelope(b"", "", 0))
    stops(state, Stored(2, "s", bare, 0), "carries no chain hash")
    stops(state, Stored(2, "s", b"junk", 0), "carries no chain hash")


def test_it_stops_before_a_rewritten_past_goes_on() -> None:
    state, old = State(), numbered(3)
    take_all(state, log(NodeAdded("other", (), ())))
    stops(state, old[1], "does not follow from the event before it")


@given(st.integers(0, 2), st.data())
def test_no_flipped_bit_is_taken(index: int, data: st.DataObject) -> None:
    messages = numbered(3)
    payload = bytearray(messages[index].payload)
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    messages[index] = with_payload(messages[index], bytes(payload))
    state = State()
    with pytest.raises(Stopped):
        take_all(state, messages)
    assert state.sequence == index
    assert len(state.nodes) == index


@pytest.mark.parametrize("payload", [None, b"junk", b""])
def test_a_quarantined_message_is_passed_over_whatever_it_holds(payload: bytes | None) -> None:
    messages = numbered(4)
    if payload is not None:
        messages[1] = with_payload(messages[1], payload)
    state = State()
    state.quarantined["LEDGER", 2] = "an operator's reason"
    records = take_all(state, messages)
    assert [record.sequence for record in records] == [1, 3, 4]
    assert list(state.nodes) == ["n1", "n3", "n4"]
    assert state.chain == chain.chain_of(messages[-1].payload)


def test_after_a_quarantined_message_the_chain_is_checked_again() -> None:
    messages = numbered(4)
    broken = bytearray(messages[3].payload)
    broken[20] ^= 1
    messages[3] = with_payload(messages[3], bytes(broken))
    state = State()
    state.quarantined["LEDGER", 2] = "reason"
    take_all(state, messages[:3])
    stops(state, messages[3], "does not follow")


def test_a_quarantine_in_the_log_itself_counts() -> None:
    first = log(EventQuarantined("LEDGER", 2, "reason"))
    state = State()
    take_all(state, first)
    assert take(state, Stored(2, "s", b"junk", 0)) is None
    assert state.sequence == 2
