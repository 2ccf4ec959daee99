import asyncio
import json

import pytest

from command import Tabard
from ledgers import Answering, append, append_raw, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Stored, Stream
from tabard.events import ledger as events
from tabard.events.observed import QuarantineRequested


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *small()))


def spoil(store: MemoryStore, sequence: int) -> None:
    """Flip a bit of a stored event."""
    log = store.logs[Stream.LEDGER]
    old = log.messages[sequence - 1]
    payload = old.payload[:30] + bytes([old.payload[30] ^ 1]) + old.payload[31:]
    log.messages[sequence - 1] = Stored(old.sequence, old.subject, payload, old.stored_at)


def test_tail_shows_the_events_up_to_the_head(tabard: Tabard) -> None:
    result = tabard("events", "tail", "--no-follow", "--from", "7")
    assert result.exit_code == 0
    head, *lines = [line.split() for line in result.stdout.splitlines()]
    assert head == ["SEQUENCE", "TIME", "TYPE", "CAUSE", "DATA"]
    assert [(line[0], line[2]) for line in lines] == [
        ("7", "endpoint.bound"),
        ("8", "cursor.advanced"),
    ]


def test_tail_in_json_is_an_event_a_line(tabard: Tabard) -> None:
    result = tabard("events", "tail", "--no-follow", "-o", "json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["sequence"] for each in found] == list(range(1, 9))
    assert found[6]["data"]["identity"] == 256


def test_tail_of_an_empty_stream_is_empty(tabard: Tabard) -> None:
    result = tabard("events", "tail", "--stream", "flows", "--no-follow", "-o", "json")
    assert (result.exit_code, result.stdout) == (0, "")


def test_show_gives_one_event_whole(tabard: Tabard) -> None:
    found = json.loads(tabard("events", "show", "4").stdout)
    assert found["type"] == "identity.allocated"
    assert found["data"]["identity"] == 256
    assert found["chain"] == ""


def test_show_explains_an_unreadable_event_and_how_to_go_on(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1junk"))
    result = tabard("events", "show", "9")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["error"]["kind"] == "UndecodableError"
    assert (found["bytes"], found["raw"]) == (5, b"\xc1junk".hex())
    assert "tabard events quarantine 9 --stream LEDGER --reason" in result.stderr


def test_show_of_a_changed_event_says_that_its_chain_is_broken(
    tabard: Tabard, store: MemoryStore
) -> None:
    spoil(store, 2)
    result = tabard("events", "show", "2")
    assert result.exit_code == 1
    assert "chain" in result.stderr


def test_show_of_what_is_not_there_says_what_is(tabard: Tabard) -> None:
    result = tabard("events", "show", "99")
    assert result.exit_code == 1
    assert "LEDGER holds 1 to 8, and no 99" in result.stderr


def test_a_quarantine_is_an_event(tabard: Tabard, store: MemoryStore) -> None:
    words = ("events", "quarantine", "3", "--stream", "ledger", "--reason", "flipped bit")
    assert tabard(*words).exit_code == 0
    assert Answering(store).observed() == [QuarantineRequested("LEDGER", 3, "flipped bit")]


def test_what_nobody_stops_before_cannot_be_quarantined(tabard: Tabard, store: MemoryStore) -> None:
    words = ("--stream", "FLOWS", "--reason", "x")
    assert tabard("events", "quarantine", "1", *words).exit_code == 1
    assert (
        tabard("events", "quarantine", "99", "--stream", "LEDGER", "--reason", "x").exit_code == 1
    )
    assert Answering(store).observed() == []


def test_verify_of_a_whole_ledger(tabard: Tabard) -> None:
    result = tabard("events", "verify")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "LEDGER is whole: 8 events" in result.stderr


def test_verify_names_the_first_changed_event(tabard: Tabard, store: MemoryStore) -> None:
    spoil(store, 5)
    spoil(store, 7)
    result = tabard("events", "verify", "-o", "json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["verified"], found["bad"]) == (4, 5)


def test_verify_names_a_hole(tabard: Tabard, store: MemoryStore) -> None:
    store.forget(Stream.LEDGER, 6)
    result = tabard("events", "verify")
    assert result.exit_code == 1
    assert "LEDGER/6 is the first bad event" in result.stderr


def test_verify_goes_on_past_what_is_quarantined_and_counts_it(
    tabard: Tabard, store: MemoryStore
) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append_raw(bus, b"\xc1")
        await append(bus, events.EventQuarantined("LEDGER", 9, "junk"))

    asyncio.run(build())
    result = tabard("events", "verify")
    assert result.exit_code == 0, result.stderr
    assert "10 events, contiguous and chained, 1 quarantined" in result.stderr
