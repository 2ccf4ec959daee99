"""nothing lost: what was promised against what is there."""

from checked import claimed, what
from tabard.events.envelope import Envelope
from tabard.invariants.lost import NothingLost, payload_hash
from tabard.ledger.messages import sealed

(FIRST, SECOND), _ = sealed(bytes(16), [(claimed(n), Envelope(bytes(16), "", 0)) for n in (1, 2)])


def test_what_is_there_as_it_was_promised_is_right() -> None:
    checker = NothingLost()
    checker.acknowledged(1, payload_hash(b"one"))
    checker.seen(2, SECOND.payload[-16:])
    checker.observed(1, b"one")
    checker.observed(2, b"promised to nobody")
    checker.ledger(1, FIRST.payload)
    checker.ledger(2, SECOND.payload)
    assert checker.missing() == []
    assert checker.verdict().held


def test_what_is_gone_is_found() -> None:
    checker = NothingLost()
    checker.acknowledged(3, payload_hash(b"one"))
    checker.seen(4, bytes(16))
    one, two = what(checker.missing())
    assert one == "OBSERVED/3 was acknowledged, and is not there any more"
    assert two == "LEDGER/4 was shown, and is not there any more"


def test_what_is_another_is_found() -> None:
    checker = NothingLost()
    checker.acknowledged(1, payload_hash(b"one"))
    checker.seen(1, SECOND.payload[-16:])
    assert "OBSERVED/1 is another event" in what(checker.observed(1, b"two"))[0]
    assert "LEDGER/1 is another event" in what(checker.ledger(1, FIRST.payload))[0]
    assert checker.missing() == []
    assert checker.verdict().violations == 2


def test_two_promises_of_one_place_are_found() -> None:
    checker = NothingLost()
    assert checker.acknowledged(1, "a") == checker.seen(1, bytes(16)) == []
    assert "two events were acknowledged" in what(checker.acknowledged(1, "b"))[0]
    assert "two were shown different events" in what(checker.seen(1, b"x" * 16))[0]
