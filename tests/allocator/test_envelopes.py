import dataclasses
from typing import get_args

from deciding import started
from tabard.allocator.envelopes import entity, envelope
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import (
    EndpointUnbound,
    EventQuarantined,
    IdentityRetired,
    LedgerEvent,
    PolicyForgotten,
)


def cause(correlation: bytes = b"c" * 16) -> Recorded[object]:
    return Recorded("OBSERVED", 7, Envelope(b"i" * 16, "", 1, "", correlation), started("a"))


def test_an_envelope_names_cause_story_and_entity() -> None:
    made = envelope(EndpointUnbound("a"), 12, 99, cause())  # type: ignore[arg-type]
    assert made == envelope(EndpointUnbound("a"), 12, 99, cause())  # type: ignore[arg-type]
    assert (made.key, made.occurred_at, made.cause) == ("a", 99, "OBSERVED/7")
    assert made.correlation == b"c" * 16
    assert len(made.id) == 16


def test_ids_differ_by_place_and_by_cause() -> None:
    event = EndpointUnbound("a")
    ids = {
        envelope(event, 12, 99).id,
        envelope(event, 13, 99).id,
        envelope(event, 12, 99, cause()).id,  # type: ignore[arg-type]
    }
    assert len(ids) == 3


def test_without_a_cause_an_event_begins_its_own_story() -> None:
    made = envelope(IdentityRetired(256), 12, 99)
    assert (made.cause, made.correlation) == ("", made.id)


def test_a_correlation_of_any_length_becomes_one_of_16_bytes() -> None:
    for correlation in (b"", b"x", b"x" * 100_000):
        made = envelope(EndpointUnbound("a"), 12, 99, cause(correlation))  # type: ignore[arg-type]
        assert len(made.correlation) == 16


def test_every_ledger_event_has_an_entity() -> None:
    for cls in get_args(LedgerEvent):
        fields = {
            field.name: 5 if field.type in ("int", int) else "x"
            for field in dataclasses.fields(cls)
        }
        assert isinstance(entity(cls(**fields)), str)
    assert entity(PolicyForgotten("K", "ns", "n")) == "K/ns/n"
    assert entity(EventQuarantined("LEDGER", 4, "")) == "LEDGER/4"
