"""What every bus does; run on the one in memory and on a real nats-server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import pytest

from tabard.bus.port import (
    BATCH_MESSAGES_MAX,
    PAYLOAD_BYTES_MAX,
    READ_MESSAGES_MAX,
    Bus,
    BusUnavailable,
    Conflict,
    ObjectMissing,
    Outgoing,
    SequenceGap,
    Stored,
    Stream,
    subject,
)

Connect = Callable[[], Awaitable[Bus]]


def outgoing(
    count: int, stream: Stream = Stream.OBSERVED, first: int = 0, ids: bool = False
) -> list[Outgoing]:
    return [
        Outgoing(subject(stream, "test", str(n % 7)), str(n).encode(), f"id-{n}" if ids else "")
        for n in range(first, first + count)
    ]


def numbers(messages: list[Stored]) -> list[int]:
    return [int(message.payload) for message in messages]


async def collect(tail: AsyncGenerator[list[Stored], None], count: int) -> list[Stored]:
    """The next `count` messages of a tail."""
    got: list[Stored] = []
    async with asyncio.timeout(20):
        while len(got) < count:
            batch = await anext(tail)
            assert 1 <= len(batch) <= READ_MESSAGES_MAX
            got += batch
    return got


async def everything(bus: Bus, stream: Stream, start: int = 1) -> list[Stored]:
    got: list[Stored] = []
    while found := await bus.read(stream, start):
        got += found
        start = found[-1].sequence + 1
    return got


async def test_an_empty_stream_ends_at_zero_and_starts_at_one(bus: Bus) -> None:
    for stream in Stream:
        assert await bus.last_sequence(stream) == 0
        assert await bus.first_sequence(stream) == 1
        assert await bus.read(stream, 1) == []
        assert await bus.last_on_subject(stream, subject(stream, "none")) is None


async def test_ensuring_streams_again_keeps_their_messages(connect: Connect) -> None:
    bus = await connect()
    await bus.publish(Stream.OBSERVED, outgoing(3))
    other = await connect()
    assert await other.last_sequence(Stream.OBSERVED) == 3


async def test_published_messages_are_stored_in_order_as_they_are(bus: Bus) -> None:
    messages = outgoing(600)
    assert await bus.publish(Stream.OBSERVED, messages) == list(range(1, 601))
    stored = await everything(bus, Stream.OBSERVED)
    assert [(m.sequence, m.subject, m.payload) for m in stored] == [
        (n, message.subject, message.payload) for n, message in enumerate(messages, 1)
    ]
    times = [m.stored_at for m in stored]
    assert times == sorted(times)
    assert min(times) > 0


async def test_publishing_nothing_stores_nothing(bus: Bus) -> None:
    assert await bus.publish(Stream.OBSERVED, []) == []
    assert await bus.last_sequence(Stream.OBSERVED) == 0


async def test_a_second_message_with_the_same_id_gets_the_first_ones_sequence(bus: Bus) -> None:
    assert await bus.publish(Stream.OBSERVED, outgoing(5, ids=True)) == [1, 2, 3, 4, 5]
    again = outgoing(7, first=3, ids=True)
    assert await bus.publish(Stream.OBSERVED, again) == [4, 5, 6, 7, 8, 9, 10]
    assert numbers(await everything(bus, Stream.OBSERVED)) == list(range(10))


async def test_messages_without_an_id_are_all_stored(bus: Bus) -> None:
    await bus.publish(Stream.OBSERVED, outgoing(1))
    assert await bus.publish(Stream.OBSERVED, outgoing(1)) == [2]


async def test_concurrent_publishers_keep_their_own_order(connect: Connect) -> None:
    buses = [await connect() for _ in range(3)]
    firsts = (1000, 2000, 3000)
    async with asyncio.TaskGroup() as group:
        for bus, first in zip(buses, firsts, strict=True):
            group.create_task(bus.publish(Stream.OBSERVED, outgoing(300, first=first)))
    stored = await everything(buses[0], Stream.OBSERVED)
    assert [m.sequence for m in stored] == list(range(1, 901))
    for first in firsts:
        own = [n for n in numbers(stored) if first <= n < first + 1000]
        assert own == list(range(first, first + 300))


@pytest.mark.parametrize("count", [1, 2, BATCH_MESSAGES_MAX])
async def test_an_append_returns_its_last_sequence(bus: Bus, count: int) -> None:
    assert await bus.append(outgoing(count, Stream.LEDGER), 0) == count
    assert await bus.append(outgoing(2, Stream.LEDGER), count) == count + 2
    stored = await everything(bus, Stream.LEDGER)
    assert numbers(stored) == [*range(count), 0, 1]


async def test_equal_ids_in_an_append_are_no_duplicates(bus: Bus) -> None:
    messages = [Outgoing(subject(Stream.LEDGER, "test"), b"1", "same")] * 3
    assert await bus.append(messages, 0) == 3
    assert await bus.append(messages, 3) == 6


@pytest.mark.parametrize("count", [0, BATCH_MESSAGES_MAX + 1])
async def test_an_append_beyond_its_bounds_changes_nothing(bus: Bus, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        await bus.append(outgoing(count, Stream.LEDGER), 0)
    assert await bus.last_sequence(Stream.LEDGER) == 0


@pytest.mark.parametrize("expected", [0, 2, 4])
@pytest.mark.parametrize("count", [1, 5])
async def test_an_append_after_another_sequence_is_a_conflict_and_stores_nothing(
    bus: Bus, expected: int, count: int
) -> None:
    await bus.append(outgoing(3, Stream.LEDGER), 0)
    with pytest.raises(Conflict, match=f"{expected}.*read on and decide again"):
        await bus.append(outgoing(count, Stream.LEDGER, first=10), expected)
    assert numbers(await everything(bus, Stream.LEDGER)) == [0, 1, 2]


async def test_of_appends_at_one_place_exactly_one_is_stored_whole(connect: Connect) -> None:
    buses = [await connect() for _ in range(4)]

    async def attempt(bus: Bus, first: int) -> bool:
        try:
            await bus.append(outgoing(50, Stream.LEDGER, first), 0)
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(attempt(bus, 100 * n) for n, bus in enumerate(buses)))
    assert sum(won) == 1
    first = 100 * won.index(True)
    stored = await everything(buses[0], Stream.LEDGER)
    assert numbers(stored) == list(range(first, first + 50))


@pytest.mark.parametrize(
    "message",
    [
        Outgoing("tabard.status.node", b""),
        Outgoing("tabard.observed", b""),
        Outgoing("tabard.observed.", b""),
        Outgoing("tabard.observed.*", b""),
        Outgoing("tabard.observed.>", b""),
        Outgoing("tabard.observed.a b", b""),
        Outgoing("tabard.observed.a\r\nPUB x 0\r\n", b""),
        Outgoing("tabard.observed.é", b""),
        Outgoing("tabard.observed." + "x" * 512, b""),
        Outgoing("tabard.observed.x", b"", "a\r\nNats-Rollup: all"),
        Outgoing("tabard.observed.x", b"", "x" * 513),
        Outgoing("tabard.observed.x", b"x" * (PAYLOAD_BYTES_MAX + 1)),
    ],
    ids=lambda message: f"{message.subject[:24]!r}-{message.id[:8]!r}-{len(message.payload)}",
)
async def test_a_message_that_cannot_be_stored_is_refused_with_all_others(
    bus: Bus, message: Outgoing
) -> None:
    with pytest.raises(ValueError, match=r"subject|id|payload"):
        await bus.publish(Stream.OBSERVED, [*outgoing(2), message])
    assert await bus.last_sequence(Stream.OBSERVED) == 0


async def test_the_largest_message_passes_whole(bus: Bus) -> None:
    payload = bytes(range(256)) * 4096
    message = Outgoing("tabard.observed." + "s" * 496, payload[:PAYLOAD_BYTES_MAX], id="i" * 512)
    async with aclosing(bus.tail(Stream.OBSERVED, 1)) as tail:
        await bus.publish(Stream.OBSERVED, [message])
        (tailed,) = await collect(tail, 1)
    (stored,) = await bus.read(Stream.OBSERVED, 1)
    assert tailed == stored
    assert (stored.subject, stored.payload) == (message.subject, message.payload)


@pytest.mark.parametrize(("start", "limit"), [(0, 1), (-1, 1), (1, 0), (1, READ_MESSAGES_MAX + 1)])
async def test_a_read_beyond_its_bounds_is_refused(bus: Bus, start: int, limit: int) -> None:
    with pytest.raises(ValueError, match=r"start|limit"):
        await bus.read(Stream.OBSERVED, start, limit)


async def test_a_read_returns_at_most_its_limit_from_its_start(bus: Bus) -> None:
    await bus.append(outgoing(1000, Stream.LEDGER), 0)
    await bus.append(outgoing(1, Stream.LEDGER, 1000), 1000)
    assert numbers(await bus.read(Stream.LEDGER, 1)) == list(range(1000))
    assert numbers(await bus.read(Stream.LEDGER, 2)) == list(range(1, 1001))
    assert numbers(await bus.read(Stream.LEDGER, 500, 3)) == [499, 500, 501]
    assert numbers(await bus.read(Stream.LEDGER, 1001, 3)) == [1000]
    assert await bus.read(Stream.LEDGER, 1002) == []
    assert await bus.read(Stream.LEDGER, 5000) == []


async def test_status_keeps_the_last_message_of_each_subject(bus: Bus) -> None:
    await bus.publish(Stream.STATUS, outgoing(20, Stream.STATUS))
    assert await bus.last_sequence(Stream.STATUS) == 20
    assert await bus.first_sequence(Stream.STATUS) == 14
    stored = await bus.read(Stream.STATUS, 1)
    assert [m.sequence for m in stored] == list(range(14, 21))
    await bus.publish(Stream.STATUS, outgoing(1, Stream.STATUS, 16))
    assert [m.sequence for m in await bus.read(Stream.STATUS, 15)] == [15, 16, 18, 19, 20, 21]


async def test_a_streams_info_is_what_its_messages_say(bus: Bus) -> None:
    await bus.append(outgoing(20, Stream.LEDGER), 0)
    await bus.publish(Stream.STATUS, outgoing(20, Stream.STATUS))
    for stream, per_subject in ((Stream.LEDGER, None), (Stream.STATUS, 1)):
        stored = await everything(bus, stream)
        info = await bus.info(stream)
        assert (info.stream, info.first, info.last) == (stream, stored[0].sequence, 20)
        assert (info.messages, info.replicas) == (len(stored), 1)
        assert (info.first_at, info.last_at) == (stored[0].stored_at, stored[-1].stored_at)
        assert info.now >= stored[-1].stored_at
        assert info.bytes >= sum(len(message.payload) for message in stored)
        assert info.per_subject_max == per_subject
        assert info.refuses is (stream is Stream.LEDGER)
    assert (await bus.info(Stream.LEDGER)).holes == 0


async def test_info_counts_the_sequences_between_that_hold_no_message(bus: Bus) -> None:
    await bus.publish(Stream.STATUS, [*outgoing(3, Stream.STATUS), *outgoing(1, Stream.STATUS, 1)])
    info = await bus.info(Stream.STATUS)
    assert [m.sequence for m in await bus.read(Stream.STATUS, 1)] == [1, 3, 4]
    assert (info.first, info.last, info.messages, info.holes) == (1, 4, 3, 1)


async def test_an_empty_streams_info_has_no_times(bus: Bus) -> None:
    info = await bus.info(Stream.FLOWS)
    assert (info.first, info.last, info.messages, info.holes) == (1, 0, 0, 0)
    assert (info.first_at, info.last_at) == (None, None)
    assert info.now > 0


async def test_the_last_message_on_a_subject_is_found(bus: Bus) -> None:
    await bus.append(outgoing(20, Stream.LEDGER), 0)
    last = await bus.last_on_subject(Stream.LEDGER, subject(Stream.LEDGER, "test", "3"))
    assert last is not None
    assert (last.sequence, last.payload) == (18, b"17")
    assert await bus.last_on_subject(Stream.LEDGER, subject(Stream.LEDGER, "test")) is None


async def test_a_tail_gives_what_is_there_and_then_what_comes(bus: Bus) -> None:
    await bus.append(outgoing(1000, Stream.LEDGER), 0)
    await bus.append(outgoing(500, Stream.LEDGER, 1000), 1000)
    async with aclosing(bus.tail(Stream.LEDGER, 1)) as tail:
        assert numbers(await collect(tail, 1500)) == list(range(1500))
        for n in range(1500, 1520):
            await bus.append(outgoing(1, Stream.LEDGER, n), n)
        got = await collect(tail, 20)
    assert [m.sequence for m in got] == list(range(1501, 1521))
    assert got == await bus.read(Stream.LEDGER, 1501)


async def test_a_tail_that_starts_first_gives_every_message(connect: Connect) -> None:
    reader, writer = await connect(), await connect()
    async with aclosing(reader.tail(Stream.OBSERVED, 1)) as tail:
        first = asyncio.create_task(collect(tail, 1))
        await writer.publish(Stream.OBSERVED, outgoing(2500))
        got = await first
        got += await collect(tail, 2500 - len(got))
    assert numbers(got) == list(range(2500))


async def test_a_tail_may_start_in_the_middle_and_beyond_the_end(bus: Bus) -> None:
    await bus.publish(Stream.OBSERVED, outgoing(10))
    async with (
        aclosing(bus.tail(Stream.OBSERVED, 6)) as middle,
        aclosing(bus.tail(Stream.OBSERVED, 13)) as beyond,
    ):
        assert numbers(await collect(middle, 5)) == [5, 6, 7, 8, 9]
        waiting = asyncio.create_task(collect(beyond, 2))
        await bus.publish(Stream.OBSERVED, outgoing(4, first=10))
        assert numbers(await waiting) == [12, 13]
        assert numbers(await collect(middle, 4)) == [10, 11, 12, 13]


async def test_a_tail_of_status_goes_on_past_replaced_messages(bus: Bus) -> None:
    await bus.publish(Stream.STATUS, outgoing(20, Stream.STATUS))
    async with aclosing(bus.tail(Stream.STATUS, 1)) as tail:
        assert [m.sequence for m in await collect(tail, 7)] == list(range(14, 21))
        await bus.publish(Stream.STATUS, outgoing(3, Stream.STATUS))
        assert [m.sequence for m in await collect(tail, 3)] == [21, 22, 23]


async def test_tails_of_one_bus_are_independent(bus: Bus) -> None:
    async with (
        aclosing(bus.tail(Stream.OBSERVED, 1)) as one,
        aclosing(bus.tail(Stream.OBSERVED, 1)) as two,
    ):
        await bus.publish(Stream.OBSERVED, outgoing(3))
        assert numbers(await collect(one, 3)) == [0, 1, 2]
        await one.aclose()
        await bus.publish(Stream.OBSERVED, outgoing(2, first=3))
        assert numbers(await collect(two, 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(StopAsyncIteration):
            await anext(one)


async def test_a_cancelled_reader_ends_its_tail_and_no_other(bus: Bus) -> None:
    async with aclosing(bus.tail(Stream.OBSERVED, 1)) as tail:
        waiting = asyncio.create_task(anext(bus.tail(Stream.OBSERVED, 1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await bus.publish(Stream.OBSERVED, outgoing(1))
        assert numbers(await collect(tail, 1)) == [0]


async def test_a_tail_from_before_the_first_sequence_is_refused(bus: Bus) -> None:
    with pytest.raises(ValueError, match="start"):
        await anext(bus.tail(Stream.LEDGER, 0))


async def test_an_object_comes_back_as_it_was_put(bus: Bus) -> None:
    objects = bus.objects
    assert await objects.listed() == []
    content = {"7": b"", "12": bytes(range(256)) * 1000, "9": b"x"}
    for name, each in content.items():
        info = await objects.put(name, each, {"key": f"of {name}"})
        assert (info.name, info.size, info.metadata) == (name, len(each), {"key": f"of {name}"})
    listed = await objects.listed()
    assert [info.name for info in listed] == ["12", "7", "9"]
    for info in listed:
        assert b"".join([piece async for piece in objects.get(info)]) == content[info.name]
        assert info.stored_at > 0


async def test_an_object_put_again_replaces_the_one_before_it(bus: Bus) -> None:
    old = await bus.objects.put("1", b"old" * 100_000, {})
    new = await bus.objects.put("1", b"new", {"a": "b"})
    (listed,) = await bus.objects.listed()
    assert (listed.digest, listed.metadata) == (new.digest, {"a": "b"})
    assert [piece async for piece in bus.objects.get(listed)] == [b"new"]
    with pytest.raises(ObjectMissing, match="'1'"):
        await anext(bus.objects.get(old))


async def test_a_marked_object_keeps_its_bytes(bus: Bus) -> None:
    info = await bus.objects.put("1", b"bytes", {"old": "1"})
    await bus.objects.mark(info, {"kept": "yes"})
    (listed,) = await bus.objects.listed()
    assert (listed.digest, listed.metadata) == (info.digest, {"kept": "yes"})
    assert [piece async for piece in bus.objects.get(listed)] == [b"bytes"]


async def test_a_deleted_object_is_gone_and_deleting_it_again_does_nothing(bus: Bus) -> None:
    info, other = await bus.objects.put("1", b"1", {}), await bus.objects.put("2", b"2", {})
    await bus.objects.delete(info)
    await bus.objects.delete(info)
    assert [each.name for each in await bus.objects.listed()] == ["2"]
    for call in (anext(bus.objects.get(info)), bus.objects.mark(info, {})):
        with pytest.raises(ObjectMissing, match="'1'"):
            await call
    assert [piece async for piece in bus.objects.get(other)] == [b"2"]
    assert await bus.objects.tidy(0) == 0


@pytest.mark.parametrize(
    ("name", "metadata"), [("", {}), ("a b", {}), ("x" * 129, {}), ("x", {"a": "b" * 4096})]
)
async def test_an_object_beyond_its_bounds_is_refused(
    bus: Bus, name: str, metadata: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"name|metadata"):
        await bus.objects.put(name, b"", metadata)


async def test_a_trimmed_ledger_begins_where_it_was_trimmed(bus: Bus) -> None:
    await bus.append(outgoing(20, Stream.LEDGER), 0)
    assert await bus.trim(8) == 8
    assert await bus.trim(8) == 8
    assert await bus.trim(3) == 8
    assert await bus.first_sequence(Stream.LEDGER) == 8
    assert numbers(await bus.read(Stream.LEDGER, 8)) == list(range(7, 20))
    with pytest.raises(SequenceGap, match="7"):
        await bus.read(Stream.LEDGER, 7)
    assert await bus.append(outgoing(1, Stream.LEDGER, 20), 20) == 21
    assert (await bus.info(Stream.LEDGER)).holes == 0


@pytest.mark.parametrize("before", [0, -1, 21])
async def test_a_trim_of_nothing_or_of_everything_is_refused(bus: Bus, before: int) -> None:
    await bus.append(outgoing(20, Stream.LEDGER), 0)
    with pytest.raises(ValueError, match="before"):
        await bus.trim(before)
    assert await bus.first_sequence(Stream.LEDGER) == 1


async def test_a_closed_bus_is_unavailable(connect: Connect) -> None:
    bus, other = await connect(), await connect()
    await bus.close()
    await bus.close()
    for call in (
        bus.publish(Stream.OBSERVED, outgoing(1)),
        bus.append(outgoing(1, Stream.LEDGER), 0),
        bus.last_sequence(Stream.LEDGER),
        bus.first_sequence(Stream.LEDGER),
        bus.info(Stream.LEDGER),
        bus.read(Stream.LEDGER, 1),
        bus.last_on_subject(Stream.LEDGER, subject(Stream.LEDGER, "x")),
        bus.trim(1),
        bus.objects.put("1", b"", {}),
        bus.objects.listed(),
        anext(bus.tail(Stream.LEDGER, 1)),
    ):
        with pytest.raises(BusUnavailable, match="closed"):
            await call
    assert await other.last_sequence(Stream.LEDGER) == 0


async def test_closing_the_bus_ends_a_waiting_tail(connect: Connect) -> None:
    bus, other = await connect(), await connect()
    async with aclosing(bus.tail(Stream.OBSERVED, 1)) as tail:
        await other.publish(Stream.OBSERVED, outgoing(1))
        await collect(tail, 1)
        waiting = asyncio.create_task(anext(tail))
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(BusUnavailable, match="closed"):
            await waiting
