import time
from dataclasses import replace
from typing import Any

import pytest

from deciding import Desk, kinds, started
from tabard.allocator.batch import Batch
from tabard.allocator.decide import ahead, answer
from tabard.allocator.react import react
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import (
    EndpointUnbound,
    EventQuarantined,
    IdentityAllocated,
    LedgerTrimmed,
    NodeRemoved,
)
from tabard.events.observed import QuarantineRequested, TrimRequested
from tabard.ledger.digest import Row, rows
from tabard.ledger.state import State


def test_reacting_to_a_well_formed_event_is_the_event() -> None:
    pod = started("a")
    assert react(Recorded("OBSERVED", 1, Envelope(b"i" * 16, "", 0), pod), 0) is pod


def test_an_operators_quarantine_is_recorded_once() -> None:
    desk = Desk()
    for stream in ("OBSERVED", "LEDGER"):
        desk.observe(started("a"))
        request = QuarantineRequested(stream, 1, "known bad")
        assert desk.observe(request) == [EventQuarantined(stream, 1, "known bad")]
        assert desk.observe(request) == []


@pytest.mark.parametrize(
    "request_",
    [
        QuarantineRequested("OBSERVED", 2, "not yet there"),
        QuarantineRequested("OBSERVED", 1, "itself"),
        QuarantineRequested("LEDGER", 5_000, "not yet there"),
        QuarantineRequested("LEDGER", 0, "nothing"),
        QuarantineRequested("STATUS", 1, "not in order"),
        QuarantineRequested("a b.>", 1, "no stream"),
    ],
)
def test_what_does_not_stand_before_the_request_cannot_be_quarantined(
    request_: QuarantineRequested,
) -> None:
    desk = Desk()
    (rejected,) = desk.observe(request_)
    assert isinstance(rejected, EventQuarantined)
    assert (rejected.stream, rejected.sequence) == ("OBSERVED", 1)
    assert set(desk.state.quarantined) == {("OBSERVED", 1)}


def digest_rows(state: State) -> list[Row]:
    return [row for row in rows(state) if row[0] not in ("ledger", "cursor")]


def test_an_operators_trim_is_recorded_and_changes_nothing_else() -> None:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}))
    before = digest_rows(desk.state)
    asked = TrimRequested(2, b"d" * 16, "LEDGER-1-2.jsonl.gz", b"s" * 32)
    assert desk.observe(asked) == [LedgerTrimmed(2, b"d" * 16, "LEDGER-1-2.jsonl.gz", b"s" * 32)]
    assert digest_rows(desk.state) == before


@pytest.mark.parametrize(
    "change",
    [
        {"before": 0},
        {"before": 1_000},
        {"digest": b""},
        {"archive": ""},
        {"archive": "a" * 1025},
        {"archive_sha256": b"s" * 31},
    ],
    ids=str,
)
def test_a_trim_that_cannot_be_is_quarantined(change: dict[str, Any]) -> None:
    desk = Desk()
    asked = replace(TrimRequested(1, b"d" * 16, "a", b"s" * 32), **change)
    (event,) = desk.observe(asked)
    assert isinstance(event, EventQuarantined)


def test_a_long_reason_is_cut_to_what_an_event_carries() -> None:
    desk = Desk()
    desk.observe(started("a"))
    assert kinds(desk.observe(QuarantineRequested("OBSERVED", 1, "x" * 1_000_000))) == [
        "EventQuarantined"
    ]


def test_only_what_harms_nobody_goes_ahead() -> None:
    allocated, unbound = IdentityAllocated(256, ()), EndpointUnbound("a")
    assert ahead([allocated, allocated, NodeRemoved("n1"), allocated]) == 2
    assert ahead([NodeRemoved("n1")]) == 0
    assert ahead([unbound]) == 1


def test_ten_thousand_starts_are_decided_and_sealed_in_seconds() -> None:
    desk = Desk()
    desk.observe(started("warm"))
    pods = [
        started(
            f"pod-{number}",
            {"app": f"app-{number % 500}", "tier": "x", "pod-template-hash": str(number)},
            f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
        )
        for number in range(10_000)
    ]
    begun = time.perf_counter()
    batch = Batch(desk.state, desk.indexes, 0)
    for sequence, pod in enumerate(pods, 2):
        record = Recorded("OBSERVED", sequence, Envelope(b"i" * 16, "", 0), pod)
        events = answer(desk.state, desk.indexes, record, desk.now)
        if len(events) > batch.room:
            batch.close(sequence - 1)
            batch = Batch(desk.state, desk.indexes, 0)
        batch.add(events, record)
    took = time.perf_counter() - begun
    assert len(desk.state.endpoints) == 10_001
    assert took < 10, f"{took:.1f} s"
