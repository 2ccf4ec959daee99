import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.events import chain
from tabard.events.codec import decode, encode
from tabard.events.envelope import Envelope
from tabard.events.errors import ChainError
from tabard.events.ledger import CursorAdvanced


def stored(count: int, start: bytes = chain.GENESIS) -> list[bytes]:
    """A ledger of `count` events."""
    log = []
    for number in range(1, count + 1):
        envelope = Envelope(number.to_bytes(16), "k", number)
        payload, start = chain.link(start, encode(CursorAdvanced("OBSERVED", number), envelope))
        log.append(payload)
    return log


def verify(log: list[bytes]) -> int:
    """How many events follow one another from the first."""
    previous = chain.GENESIS
    for index, payload in enumerate(log):
        try:
            previous = chain.follow(previous, payload, f"LEDGER/{index + 1}")
        except ChainError:
            return index
    return len(log)


def test_an_untouched_log_follows_and_is_readable() -> None:
    log = stored(5)
    assert verify(log) == 5
    assert decode(log[4], "LEDGER", 5).event == CursorAdvanced("OBSERVED", 5)
    assert chain.chain_of(log[4]) == log[4][-16:]


@given(st.integers(0, 4), st.data())
def test_any_flipped_bit_is_found_where_it_is(index: int, data: st.DataObject) -> None:
    log = stored(5)
    place = data.draw(st.integers(0, len(log[index]) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(log[index])
    changed[place] ^= 1 << bit
    log[index] = bytes(changed)
    assert verify(log) == index


def test_a_hole_is_found() -> None:
    log = stored(5)
    del log[2]
    assert verify(log) == 2


def test_swapped_events_are_found() -> None:
    log = stored(5)
    log[1], log[2] = log[2], log[1]
    assert verify(log) == 1


def test_a_rewritten_past_is_found_where_the_old_log_goes_on() -> None:
    log = stored(5)
    rewritten = stored(2, start=b"another genesis!")
    assert verify([*rewritten, *log[2:]]) == 0
    past, _ = chain.link(
        chain.GENESIS, encode(CursorAdvanced("OBSERVED", 99), Envelope(b"", "", 0))
    )
    assert verify([past, *log[1:]]) == 1


def test_an_event_without_a_chain_says_so() -> None:
    bare = encode(CursorAdvanced("OBSERVED", 1), Envelope(b"", "", 0))
    assert chain.chain_of(bare) is None
    assert chain.chain_of(b"") is None
    with pytest.raises(ChainError, match="LEDGER/8: the event carries no chain hash"):
        chain.follow(chain.GENESIS, bare, "LEDGER/8")


def test_the_hash_is_that_of_the_format() -> None:
    """A golden value: a release that changed it could not read its own past."""
    (payload,) = stored(1)
    assert payload.hex() == (
        "99af637572736f722e616476616e63656401c41000000000000000000000000000000001a16b01a0c400"
        "82a673747265616da84f42534552564544a873657175656e636501c410"
        "4ba451fc6033deab3d53f3fc853454ea"
    )
