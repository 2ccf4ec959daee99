import asyncio
import json

import pytest
from typer.testing import Result

from command import Tabard
from ledgers import Answering, append, append_raw, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Outgoing, Stored, Stream
from tabard.cli.events import TITLES, WIDTHS
from tabard.cluster.publish import publish
from tabard.events import ledger as events
from tabard.events.codec import TYPES, encode
from tabard.events.observed import PodStopped, QuarantineRequested
from tabard.events.status import FlowRow, FlowsSeen
from tabard.ledger.messages import first_cause


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    asyncio.run(append(MemoryBus(store), *small()))


def test_every_type_of_event_fits_its_column() -> None:
    assert max(len(name) for name, _ in TYPES.values()) <= WIDTHS[TITLES.index("TYPE")]


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


def test_flows_are_shown_one_a_line_without_the_kernels_own_talk(
    tabard: Tabard, store: MemoryStore
) -> None:
    rows: tuple[FlowRow, ...] = (
        (1, "egress", "allowed", "allowed_policy", "10.0.0.1", "10.0.0.2", 256, 257, 6, 999, 80),
        (2, "ingress", "denied", "denied_policy", "fd00::1", "fd00::2", 256, 2, 17, 999, 53),
        (3, "egress", "allowed", "allowed_host", "10.0.0.1", "10.0.0.2", 256, 1, 1, 8, 0),
        (4, "egress", "denied", "denied_policy", "fe80::1", "ff02::2", 256, 0, 58, 133, 0),
    )
    message = Outgoing("tabard.flows.n1", encode(FlowsSeen("n1", 0, rows), first_cause("n1", 1)))
    asyncio.run(MemoryBus(store).publish(Stream.FLOWS, [message]))
    words = ("events", "tail", "--stream", "flows", "--no-follow")
    head, *lines = [line.split(maxsplit=4) for line in tabard(*words).stdout.splitlines()]
    assert head[:4] == ["TIME", "NODE", "DIRECTION", "VERDICT"]
    assert [(line[1], line[3]) for line in lines] == [
        ("n1", "allowed_policy"),
        ("n1", "denied_policy"),
        ("n1", "allowed_host"),
    ]
    assert [" ".join(line[4].split()) for line in lines] == [
        "256 → 257 10.0.0.1:999 → 10.0.0.2:80/TCP",
        "256 → 2 [fd00::1]:999 → [fd00::2]:53/UDP",
        "256 → 1 10.0.0.1 → 10.0.0.2/ICMP",
    ]
    assert "--all shows them" in tabard(*words).stderr
    assert "ff02::2" in tabard(*words, "--all").stdout


def test_show_gives_one_event_whole(tabard: Tabard) -> None:
    found = json.loads(tabard("events", "show", "4").stdout)
    assert found["type"] == "identity.allocated"
    assert found["data"]["identity"] == 256
    assert found["chain"] == ""
    assert found["stored"] == "1970-01-01T00:00:00.000Z"
    assert found["occurred"].endswith("Z")


def test_show_explains_an_unreadable_event_and_how_to_go_on(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1junk"))
    result = tabard("events", "show", "9")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["error"]["kind"] == "UndecodableError"
    assert (found["bytes"], found["raw"]) == (5, b"\xc1junk".hex())
    assert "tabard events quarantine 9 --stream LEDGER --reason WHY" in result.stderr


def test_what_to_type_next_keeps_the_bus_that_was_given(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1junk"))
    chosen = ("--nats", "nats://there")
    assert "--reason WHY --nats nats://there\n" in tabard("events", "show", "9", *chosen).stderr
    told = tabard("events", "show", "99", *chosen).stderr
    assert "  next: tabard events tail --stream LEDGER --no-follow --nats nats://there\n" in told
    assert "--nats" not in tabard("events", "show", "99").stderr


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


def quarantine(tabard: Tabard, sequence: int, stream: str = "LEDGER") -> Result:
    words = ("--stream", stream, "--reason", "flipped bit")
    return tabard("events", "quarantine", str(sequence), *words)


def test_a_quarantine_is_an_event(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1junk"))
    assert quarantine(tabard, 9, "ledger").exit_code == 0
    assert Answering(store).observed() == [QuarantineRequested("LEDGER", 9, "flipped bit")]


def test_what_breaks_the_chain_can_be_quarantined(tabard: Tabard, store: MemoryStore) -> None:
    spoil(store, 3)
    assert quarantine(tabard, 3).exit_code == 0
    result = quarantine(tabard, 4)
    assert result.exit_code == 1
    assert "LEDGER/4 can be read; nothing to quarantine" in result.stderr


def test_a_readable_event_is_not_quarantined(tabard: Tabard, store: MemoryStore) -> None:
    result = quarantine(tabard, 3)
    assert result.exit_code == 1
    assert "LEDGER/3 can be read; nothing to quarantine" in result.stderr
    assert Answering(store).observed() == []


def test_what_is_quarantined_already_is_not_again(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        await append_raw(MemoryBus(store), b"\xc1")
        await append(MemoryBus(store), events.EventQuarantined("LEDGER", 9, "junk"))

    asyncio.run(build())
    result = quarantine(tabard, 9)
    assert result.exit_code == 1
    assert "LEDGER/9 is quarantined already" in result.stderr


def test_of_observed_only_what_cannot_be_read_or_comes_next_is_quarantined(
    tabard: Tabard, store: MemoryStore
) -> None:
    bus = MemoryBus(store)
    asyncio.run(publish(bus, [PodStopped("a"), PodStopped("b")]))
    asyncio.run(bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.raw", b"\xc1")]))
    result = quarantine(tabard, 2, "OBSERVED")
    assert result.exit_code == 1
    assert "OBSERVED/2 can be read" in result.stderr
    assert quarantine(tabard, 3, "OBSERVED").exit_code == 0
    asyncio.run(append(bus, events.CursorAdvanced("OBSERVED", 1)))
    # The allocator may stand before it: an event can be readable and yet not be decided.
    assert quarantine(tabard, 2, "OBSERVED").exit_code == 0


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
