"""fenced, on ledgers that two wrote and on one that one after the other did."""

from checked import SETTINGS, claimed, cursor, what
from tabard.bus.port import Outgoing, Stored, Stream
from tabard.events.envelope import Envelope
from tabard.events.ledger import LedgerEvent
from tabard.invariants.fence import Fenced
from tabard.ledger.messages import recorded, sealed


def messages(*told: LedgerEvent) -> list[Outgoing]:
    envelopes = (Envelope(bytes(16), "", 0) for _ in told)
    return sealed(bytes(16), zip(told, envelopes, strict=True))[0]


def found(checker: Fenced, written: list[Outgoing]) -> list[str]:
    said = []
    for sequence, message in enumerate(written, 1):
        stored = Stored(sequence, message.subject, message.payload, 0)
        said += what(checker.take(recorded(Stream.LEDGER, stored), stored.payload))
    return said


RIGHT = (claimed(1, "a"), SETTINGS, cursor(0), claimed(2, "b"), cursor(0))


def test_one_leader_after_the_other_is_right() -> None:
    checker = Fenced()
    assert found(checker, messages(*RIGHT)) == []
    assert checker.wrote(0, 3, "a", 1) == []
    assert checker.wrote(3, 2, "b", 2) == []
    assert checker.leads("b", 2) == []
    assert checker.verdict().held


def test_a_batch_from_an_older_place_breaks_the_chain() -> None:
    stale = messages(*RIGHT[:3], cursor(7))[3:]
    (one,) = found(Fenced(), [*messages(*RIGHT), *stale])
    assert "two wrote there: LEDGER/6" in one


def test_an_epoch_that_does_not_rise_is_found() -> None:
    (one,) = found(Fenced(), messages(*RIGHT, claimed(2, "c")))
    assert "claims epoch 2 for c after 2" in one


def test_what_comes_before_any_claim_is_found() -> None:
    (one,) = found(Fenced(), messages(SETTINGS))
    assert "before anybody" in one


def test_who_writes_after_anothers_claim_is_found() -> None:
    checker = Fenced()
    found(checker, messages(*RIGHT, cursor(1)))
    checker.wrote(0, 3, "a", 1)
    checker.wrote(3, 2, "b", 2)
    (one,) = what(checker.wrote(5, 1, "a", 1))
    assert "a of epoch 1 wrote LEDGER/6 to 6, for which b claimed epoch 2" in one


def test_a_sequence_that_two_wrote_is_found() -> None:
    checker = Fenced()
    found(checker, messages(*RIGHT))
    checker.wrote(0, 3, "a", 1)
    (one,) = what(checker.wrote(2, 2, "b", 2))
    assert "where LEDGER/4 was next" in one


def test_who_says_it_leads_under_anothers_epoch_is_found() -> None:
    checker = Fenced()
    found(checker, messages(*RIGHT))
    (one,) = what(checker.leads("a", 2))
    assert "which b claimed" in one
