"""The past: every reading command at a sequence, at a time, or so long ago."""

import asyncio
import itertools
import json
import time

import pytest
import yaml

from command import Tabard
from ledgers import append, append_raw, bound, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Bus, Outgoing, Stream, subject
from tabard.cli.failing import Failure
from tabard.cli.moments import At, parse
from tabard.cli.past import replayed, sequence_at, start_at, stored_by
from tabard.cli.records import date
from tabard.events import ledger as events
from tabard.ledger.state import State

BEGIN = 1_795_761_900
"""2026-11-27T06:45:00Z, when the first event is stored; each next one a second later."""
SECOND = 1_000_000_000


@pytest.fixture
def ledger(store: MemoryStore) -> MemoryBus:
    """The small ledger (8 events), then web-1 bound (9) and web-0 gone (10); both nodes spoke."""
    store.clock = itertools.count(BEGIN * SECOND, SECOND).__next__
    bus = MemoryBus(store)

    async def build() -> None:
        await append(bus, *small())
        await append(bus, bound("web-1", address="10.244.1.3"), events.EndpointUnbound("uid-web-0"))
        await say(bus, "n1", 10, endpoints=1)
        await say(bus, "n2", 9)

    asyncio.run(build())
    return bus


def pods(tabard: Tabard, at: str) -> list[str]:
    result = tabard("get", "pods", "-o", "name", "--at", at)
    assert result.exit_code == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("0", []),
        ("6", []),
        ("7", ["pod/shop/web-0"]),
        ("9", ["pod/shop/web-0", "pod/shop/web-1"]),
        ("10", ["pod/shop/web-1"]),
        ("2026-11-27T06:44:59Z", []),
        ("2026-11-27T06:45:06Z", ["pod/shop/web-0"]),
        ("2026-11-27T06:45:08.999Z", ["pod/shop/web-0", "pod/shop/web-1"]),
        ("2026-11-27T07:45:09+01:00", ["pod/shop/web-1"]),
    ],
)
def test_the_ledger_is_read_through_any_point(
    tabard: Tabard, ledger: MemoryBus, at: str, found: list[str]
) -> None:
    assert pods(tabard, at) == found


def test_how_long_ago_is_a_time_too(tabard: Tabard, store: MemoryStore) -> None:
    store.clock = lambda: time.time_ns() - 3600 * SECOND
    asyncio.run(append(MemoryBus(store), *small()))
    store.clock = time.time_ns
    asyncio.run(append(MemoryBus(store), events.EndpointUnbound("uid-web-0")))
    assert pods(tabard, "-30m") == ["pod/shop/web-0"]
    assert pods(tabard, "-2h") == []
    assert tabard("get", "pods").stdout == ""


def test_a_table_of_the_past_says_of_when_it_is(tabard: Tabard, ledger: MemoryBus) -> None:
    result = tabard("get", "pods", "--at", "2026-11-27T06:45:06.5Z")
    assert result.stderr == "as of LEDGER/7, stored 2026-11-27T06:45:06.000Z\n"
    result = tabard("get", "pods", "--at", "0")
    assert result.stderr.splitlines() == [
        "as of before the first event: LEDGER begins 2026-11-27T06:45:00.000Z",
        "no pods",
    ]
    found = json.loads(tabard("get", "pods", "--at", "7", "-o", "json").stdout)
    assert (found["sequence"], found["stored_at"]) == (7, (BEGIN + 6) * SECOND)
    found = json.loads(tabard("get", "pods", "--at", "0", "-o", "json").stdout)
    assert (found["sequence"], found["stored_at"], found["items"]) == (0, None, [])


def test_what_nodes_said_in_the_past_is_not_known(tabard: Tabard, ledger: MemoryBus) -> None:
    now = json.loads(tabard("get", "nodes", "-o", "json").stdout)["items"]
    assert [(row["status"], row["watermark"]) for row in now] == [("Current", 10), ("Lagging", 9)]
    then = json.loads(tabard("get", "nodes", "-o", "json", "--at", "10").stdout)["items"]
    assert [(row["status"], row["watermark"], row["lag_ms"]) for row in then] == [
        ("Unknown", None, None)
    ] * 2
    rows = json.loads(tabard("get", "pods", "-o", "json", "--at", "10").stdout)["items"]
    assert [row["status"] for row in rows] == ["Bound"]


def test_status_of_the_past_is_what_was_decided_by_then(tabard: Tabard, ledger: MemoryBus) -> None:
    found = json.loads(tabard("status", "-o", "json", "--at", "7").stdout)
    stored = (BEGIN + 6) * SECOND
    now = json.loads(tabard("status", "-o", "json").stdout)["ledger"]
    assert found["ledger"].pop("digest") != now["digest"]
    assert found["ledger"] == {"sequence": 7, "stored_at": stored, "head": 10}
    assert found["observed"] == {"head": None, "cursor": 0, "lag": None, "error": ""}
    assert (found["pods"]["bound"], found["enforced"]) == (1, None)
    lines = tabard("status", "--at", "7").stdout.splitlines()
    assert "ledger     as of 7, stored 2026-11-27T06:45:06.000Z; head 10" in lines
    lines = tabard("status", "--at", "0").stdout.splitlines()
    assert "ledger     as of 0, before the first event; head 10" in lines


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("get", "pods", "--at", "11"), "LEDGER ends at 10, before 11"),
        (("status", "--at", "11"), "LEDGER ends at 10, before 11"),
        (("describe", "pod", "shop/web-0", "--at", "11"), "LEDGER ends at 10, before 11"),
        (("get", "pods", "--at", "2027-01-01"), "2027-01-01T00:00:00.000Z is yet to come"),
        (("events", "tail", "--at", "2027-01-01", "--no-follow"), "is yet to come"),
    ],
    ids=" ".join,
)
def test_what_is_yet_to_come_is_refused(
    tabard: Tabard, ledger: MemoryBus, words: tuple[str, ...], fact: str
) -> None:
    result = tabard(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert fact in result.stderr


def test_before_an_unreadable_event_the_past_can_be_read_and_past_it_not(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    async def build() -> None:
        await append_raw(ledger, b"\xc1")  # 11
        await append(ledger, events.NodeRemoved("n2"))  # 12

    asyncio.run(build())
    assert pods(tabard, "10") == ["pod/shop/web-1"]
    result = tabard("get", "pods", "--at", "12")
    assert result.exit_code == 1
    assert "  next: tabard events show 11" in result.stderr


def test_a_quarantined_event_is_passed_at_any_later_point(
    tabard: Tabard, ledger: MemoryBus
) -> None:
    async def build() -> None:
        await append_raw(ledger, b"\xc1")  # 11
        await append(ledger, bound("web-2", address="10.244.1.4"))  # 12
        await append(ledger, events.EventQuarantined("LEDGER", 11, "junk"))  # 13

    asyncio.run(build())
    for at, count in (("10", 1), ("11", 1), ("12", 2), ("13", 2)):
        assert len(pods(tabard, at)) == count, at


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("get", "pods", "-w", "--at", "5"), "-w and --at exclude each other"),
        (("status", "-w", "--at", "5"), "-w and --at exclude each other"),
        (("get", "pods", "--timeout", "5"), "--timeout ends -w"),
        (("get", "streams", "--at", "5"), "a stream is shown as it is now"),
        (("get", "streams", "-w"), "tabard events tail --stream NAME"),
        (("get", "streams", "-l", "a=b"), "streams have no labels"),
        (("describe", "stream", "LEDGER", "--at", "5"), "a stream is shown as it is now"),
        (("drift", "-w", "--at", "5"), "-w and --at exclude each other"),
        (("get", "pods", "--at", "yesterday"), "'yesterday' is no point in time"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_at_another_time_says_why(
    tabard: Tabard, words: tuple[str, ...], told: str
) -> None:
    result = tabard(*words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_yaml_is_the_same_value_as_json(tabard: Tabard, ledger: MemoryBus) -> None:
    for words in (
        ("get", "pods"),
        ("get", "policies", "--at", "8"),
        ("status", "--at", "8"),
        ("describe", "policy", "shop/web", "--at", "8"),
        ("events", "show", "6"),
        ("events", "verify"),
        ("explain",),
    ):
        found = tabard(*words, "-o", "yaml").stdout
        assert yaml.safe_load(found) == json.loads(tabard(*words, "-o", "json").stdout), words


def tail(tabard: Tabard, *words: str) -> list[str]:
    result = tabard("events", "tail", "--no-follow", "-o", "name", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout.split()


def test_a_tail_begins_where_it_is_told_to(tabard: Tabard, ledger: MemoryBus) -> None:
    assert tail(tabard, "--at", "9") == ["LEDGER/9", "LEDGER/10"]
    assert tail(tabard, "--from", "9") == ["LEDGER/9", "LEDGER/10"]
    assert tail(tabard, "--at", "2026-11-27T06:45:09Z") == ["LEDGER/10"]
    assert tail(tabard, "--at", "2026-11-27T06:45:08.001Z") == ["LEDGER/10"]
    assert len(tail(tabard, "--at", "0")) == len(tail(tabard, "--at", "06:00")) == 10
    assert tail(tabard, "--stream", "status", "--at", "2026-11-27T06:45:00Z") == [
        "STATUS/1",
        "STATUS/2",
    ]


def test_a_tail_is_yaml_documents_and_wide_is_not_cut(tabard: Tabard, ledger: MemoryBus) -> None:
    words = ("events", "tail", "--no-follow", "--at", "7")
    found = list(yaml.safe_load_all(tabard(*words, "-o", "yaml").stdout))
    assert [each["sequence"] for each in found] == [7, 8, 9, 10]
    assert "…" in tabard(*words).stdout
    wide = tabard(*words, "-o", "wide").stdout
    assert "…" not in wide
    assert "owner=Deployment/shop/web" in wide


async def test_messages_that_came_in_one_instant_count_all() -> None:
    bus = MemoryBus(MemoryStore(clock=iter([5, 7, 7, 7, 9, *[99] * 99]).__next__))
    await append(bus, *small()[:5])
    assert await stored_by(bus, Stream.LEDGER, 7) == 4
    assert await start_at(bus, Stream.LEDGER, At(time=7)) == 2
    assert await sequence_at(bus, At(time=4)) == 0
    assert await sequence_at(bus, At(time=8)) == 4


async def test_a_printed_time_fed_back_is_the_state_that_it_was_printed_of() -> None:
    """Two events in one millisecond, of which each is printed cut to it."""
    begin = BEGIN * SECOND
    times = [begin + 1, begin + 123_999_999, begin + 123_999_999, begin + 124_000_000]
    bus = MemoryBus(MemoryStore(clock=iter([*times, *[begin + SECOND] * 99]).__next__))
    await append(bus, *small()[:4])
    printed = date(times[1])
    assert printed.endswith(".123Z")
    assert await sequence_at(bus, parse(printed)) == 3
    assert await start_at(bus, Stream.LEDGER, parse(printed)) == 2
    assert await sequence_at(bus, parse(date(begin).replace(".000", ""))) == 4


async def test_the_second_that_still_runs_is_not_yet_to_come() -> None:
    begin = BEGIN * SECOND
    bus = MemoryBus(MemoryStore(clock=lambda: begin + 5))
    await append(bus, *small()[:1])
    assert await sequence_at(bus, At(time=begin, span=SECOND)) == 1


async def test_where_messages_expired_the_first_that_is_left_comes_next() -> None:
    store = MemoryStore(clock=itertools.count(1).__next__)
    bus = MemoryBus(store)
    await bus.publish(Stream.OBSERVED, [Outgoing(subject(Stream.OBSERVED, "x"), b"")] * 9)
    store.forget(Stream.OBSERVED, 1, 2, 3, 6)
    assert await stored_by(bus, Stream.OBSERVED, 2) == 3
    assert await start_at(bus, Stream.OBSERVED, At(time=2)) == 4
    assert await stored_by(bus, Stream.OBSERVED, 6) == 5
    assert await stored_by(bus, Stream.OBSERVED, 7) == 7


async def test_an_empty_stream_has_no_past() -> None:
    bus = MemoryBus(MemoryStore(clock=time.time_ns))
    assert await sequence_at(bus, At(time=5)) == 0
    assert await start_at(bus, Stream.FLOWS, At(time=5)) == 1
    with pytest.raises(Failure, match="yet to come"):
        await stored_by(bus, Stream.LEDGER, time.time_ns() + 60 * SECOND)


async def test_a_replay_gives_each_event_after_it_was_folded() -> None:
    bus, state, seen = MemoryBus(), State(), []
    await append(bus, *small())
    async for message, record in replayed(bus, state, 5):
        seen.append((message.sequence, record.sequence, state.sequence))
    assert seen == [(n, n, n) for n in range(1, 6)]


@pytest.mark.nats
async def test_a_real_bus_finds_a_time_by_its_own_stamps(nats_bus: Bus) -> None:
    for event in small():
        await append(nats_bus, event)
    stored = await nats_bus.read(Stream.LEDGER, 1)
    for n, message in enumerate(stored, 1):
        later = [each for each in stored if each.stored_at == message.stored_at][-1]
        assert await sequence_at(nats_bus, At(time=message.stored_at)) == later.sequence
        assert await sequence_at(nats_bus, At(time=message.stored_at - 1)) < n
        assert await start_at(nats_bus, Stream.LEDGER, At(time=message.stored_at)) <= n
    assert await sequence_at(nats_bus, At(time=stored[0].stored_at - 1)) == 0
    assert await sequence_at(nats_bus, At(time=(await nats_bus.info(Stream.LEDGER)).now)) == 8


@pytest.mark.nats
async def test_a_real_bus_finds_a_time_among_replaced_words(nats_bus: Bus) -> None:
    for n in range(1, 6):
        await say(nats_bus, f"n{n % 2}", n)
    kept = await nats_bus.read(Stream.STATUS, 1)
    assert [message.sequence for message in kept] == [4, 5]
    assert await start_at(nats_bus, Stream.STATUS, At(time=kept[0].stored_at)) == 4
    assert await stored_by(nats_bus, Stream.STATUS, kept[0].stored_at - 1) == 3
