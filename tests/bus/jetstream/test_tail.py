import asyncio
import json
import os
import random
import signal
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.streams import settings
from tabard.bus.jetstream.tail import ASK_INTERVAL_S, LIVE_BYTES_MAX, LIVE_MESSAGES_MAX, Cursor
from tabard.bus.port import (
    READ_MESSAGES_MAX,
    BusUnavailable,
    Conflict,
    Outgoing,
    Stored,
    Stream,
)
from tabard.bus.server import EmbeddedServer


def deliver(cursor: Cursor, *sequences: int, payload: bytes = b"") -> None:
    for sequence in sequences:
        headers = (
            f"NATS/1.0\r\nNats-Subject: tabard.ledger.x\r\nNats-Sequence: {sequence}\r\n"
            "Nats-Time-Stamp: 2026-01-02T03:04:05Z\r\n\r\n"
        )
        cursor.on_message(b"tabard.live.ledger.x", headers.encode(), payload)


def take(cursor: Cursor) -> list[int]:
    return [stored.sequence for stored in cursor.take()]


def read(cursor: Cursor, last: int) -> list[int]:
    """What a Direct Get does: everything up to `last`."""
    found = list(range(cursor.next, last + 1))
    cursor.next = last + 1
    cursor.ask = False
    return found


def test_live_messages_are_given_out_when_they_are_next() -> None:
    cursor = Cursor(5)
    deliver(cursor, 3, 4, 5, 6, 6, 5, 7)
    assert take(cursor) == [5, 6, 7]
    assert take(cursor) == []


def test_a_gap_asks_and_what_came_after_it_waits() -> None:
    cursor = Cursor(5)
    cursor.ask = False
    deliver(cursor, 7, 8)
    assert take(cursor) == []
    assert cursor.ask
    assert read(cursor, 7) == [5, 6, 7]
    assert take(cursor) == [8]
    assert not cursor.ask


def test_a_gap_among_waiting_messages_asks() -> None:
    cursor = Cursor(1)
    cursor.ask = False
    deliver(cursor, 1, 2, 4)
    assert cursor.ask
    assert take(cursor) == []
    assert read(cursor, 4) == [1, 2, 3, 4]


@pytest.mark.parametrize("over", [0, 1])
def test_live_messages_beyond_the_bound_are_read_later(over: int) -> None:
    cursor = Cursor(1)
    cursor.ask = False
    deliver(cursor, *range(1, LIVE_MESSAGES_MAX + 1 + over))
    assert cursor.waiting == LIVE_MESSAGES_MAX
    assert cursor.ask == bool(over)
    got = []
    while batch := take(cursor):
        assert len(batch) <= READ_MESSAGES_MAX
        got += batch
    assert got == list(range(1, LIVE_MESSAGES_MAX + 1))


def test_live_bytes_are_bounded_and_given_back() -> None:
    cursor = Cursor(1)
    cursor.ask = False
    half = b"x" * (LIVE_BYTES_MAX // 2)
    deliver(cursor, 1, 2, payload=half)
    assert not cursor.ask
    deliver(cursor, 3, payload=b"x")
    assert cursor.ask
    assert take(cursor) == [1, 2]
    deliver(cursor, 3, 4, payload=half)
    assert take(cursor) == [3, 4]


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 4))
def test_whatever_is_lost_or_doubled_each_sequence_is_given_once_in_order(
    events: list[int], start: int
) -> None:
    cursor = Cursor(start)
    got: list[int] = []
    head = 0
    for event in events:
        head += 1
        match event:
            case 0:
                pass  # lost
            case 1:
                deliver(cursor, head)
            case 2:
                deliver(cursor, head, max(1, head - 2), head)
            case 3:
                got += take(cursor)
                deliver(cursor, head)
            case 4:
                cursor._clear()
            case 5:
                got += take(cursor)
                if cursor.ask:
                    got += read(cursor, max(head, cursor.next - 1))
                deliver(cursor, head)
    got += take(cursor)
    got += read(cursor, max(head, cursor.next - 1))
    assert got == list(range(start, max(head, start - 1) + 1))


def messages(count: int, first: int = 0) -> list[Outgoing]:
    return [Outgoing("tabard.ledger.x", str(n).encode()) for n in range(first, first + count)]


async def collect(bus: JetStreamBus, stream: Stream, count: int, pause_s: float = 0) -> list[int]:
    got: list[int] = []
    async with aclosing(bus.tail(stream, 1)) as tail:
        async for batch in tail:
            got += [m.sequence for m in batch]
            assert [m.sequence for m in batch] == [int(m.payload) + 1 for m in batch]
            if len(got) >= count:
                break
            await asyncio.sleep(pause_s)
    return got


@pytest.mark.nats
async def test_twenty_thousand_messages_reach_old_and_new_tails_once(
    nats_bus: JetStreamBus, nats_url: str
) -> None:
    count = 20_000
    reader = await JetStreamBus.connect(nats_url, name="reader")
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        early = group.create_task(collect(reader, Stream.LEDGER, count))
        for first in range(0, count // 2, 500):
            await nats_bus.append(messages(500, first), first)
        late = group.create_task(collect(nats_bus, Stream.LEDGER, count))
        for first in range(count // 2, count, 500):
            await nats_bus.append(messages(500, first), first)
    assert early.result() == late.result() == list(range(1, count + 1))
    await reader.close()


@pytest.mark.nats
async def test_a_tail_slower_than_its_bound_loses_nothing(
    nats_bus: JetStreamBus, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabard.bus.jetstream.tail.LIVE_MESSAGES_MAX", 50)
    reader = await JetStreamBus.connect(nats_url, name="reader")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        slow = group.create_task(collect(reader, Stream.LEDGER, 3000, pause_s=0.01))
        for first in range(0, 3000, 30):
            await nats_bus.append(messages(30, first), first)
    assert slow.result() == list(range(1, 3001))
    await reader.close()


@pytest.mark.nats
async def test_a_lost_live_message_is_noticed_within_two_seconds(nats_bus: JetStreamBus) -> None:
    async with aclosing(nats_bus.tail(Stream.OBSERVED, 1)) as tail:
        await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"1")])
        assert [m.payload for m in await anext(tail)] == [b"1"]
        config = dict(settings(1, 0)[Stream.OBSERVED])
        # A stream that republishes nothing loses every live message.
        config = {k: v for k, v in config.items() if v is not None and k != "republish"}
        reply = await nats_bus._connection.request(
            "$JS.API.STREAM.UPDATE.OBSERVED", json.dumps(config).encode(), "test"
        )
        assert "error" not in json.loads(reply.payload)
        await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"2")])
        start = time.monotonic()
        assert [m.payload for m in await anext(tail)] == [b"2"]
        assert time.monotonic() - start < ASK_INTERVAL_S + 0.2


@pytest.mark.nats
async def test_a_message_that_comes_during_a_read_is_given_at_once(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_before_it(*_: object) -> list[Stored]:
        await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"1")])
        await nats_bus.last_sequence(Stream.OBSERVED)
        return []

    monkeypatch.setattr("tabard.bus.jetstream.tail.direct", read_before_it)
    async with aclosing(nats_bus.tail(Stream.OBSERVED, 1)) as tail:
        start = time.monotonic()
        assert [m.payload for m in await anext(tail)] == [b"1"]
        assert time.monotonic() - start < ASK_INTERVAL_S / 2


def reads_ahead() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("bus.read_ahead.")]


@pytest.mark.nats
async def test_what_follows_a_full_batch_is_asked_for_before_the_batch_is_given_out(
    nats_bus: JetStreamBus,
) -> None:
    for first in range(0, READ_MESSAGES_MAX + 500, 500):
        await nats_bus.append(messages(500, first), first)
    async with aclosing(nats_bus.tail(Stream.LEDGER, 1)) as tail:
        assert len(await anext(tail)) == READ_MESSAGES_MAX
        assert len(reads_ahead()) == 1
    assert not reads_ahead(), "a tail that was given up still reads"


@pytest.mark.nats
async def test_a_message_that_comes_after_an_empty_read_ahead_is_given_at_once(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabard.bus.jetstream.tail.ASK_INTERVAL_S", 60)
    for first in range(0, READ_MESSAGES_MAX, 500):
        await nats_bus.append(messages(500, first), first)
    async with aclosing(nats_bus.tail(Stream.LEDGER, 1)) as tail:
        assert len(await anext(tail)) == READ_MESSAGES_MAX
        await asyncio.wait(reads_ahead())
        await nats_bus.append(messages(1, READ_MESSAGES_MAX), READ_MESSAGES_MAX)
        await nats_bus.last_sequence(Stream.LEDGER)  # the live copy is here, too
        got = await asyncio.wait_for(anext(tail), 10)
    assert [m.sequence for m in got] == [READ_MESSAGES_MAX + 1]


@pytest.mark.nats
async def test_a_tail_before_its_stream_waits_for_it(nats_url: str) -> None:
    bus = await JetStreamBus.connect(nats_url, name="test")
    async with aclosing(bus.tail(Stream.OBSERVED, 1)) as tail:
        waiting = asyncio.create_task(anext(tail))
        await asyncio.sleep(0.1)
        await bus.ensure_streams()
        await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"1")])
        assert [m.sequence for m in await asyncio.wait_for(waiting, 5)] == [1]
    await bus.close()


@pytest.mark.nats
async def test_a_server_killed_under_a_tail_costs_no_message_and_doubles_none(
    own_nats_server: EmbeddedServer,
) -> None:
    reader = await JetStreamBus.connect(own_nats_server.url, name="reader")
    writer = await JetStreamBus.connect(own_nats_server.url, name="writer")
    await writer.ensure_streams()
    randomness = random.Random(3)
    total = 4000

    async def write() -> None:
        last = 0
        while last < total:
            try:
                last = await writer.append(messages(10, last), last)
            except (BusUnavailable, Conflict):
                try:
                    last = await writer.last_sequence(Stream.LEDGER)
                except BusUnavailable:
                    continue

    async def kill() -> None:
        for _ in range(3):
            await asyncio.sleep(randomness.uniform(0.1, 0.5))
            os.kill(own_nats_server.pid, signal.SIGKILL)
            await own_nats_server.wait()
            await own_nats_server.start()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        got = group.create_task(collect(reader, Stream.LEDGER, total))
        group.create_task(write())
        group.create_task(kill())
    assert got.result() == list(range(1, total + 1))
    await reader.close()
    await writer.close()
