import asyncio
import os
import signal
from typing import Any

import pytest

from bus.proxy import Proxy
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.jetstream import batch as batches
from tabard.bus.jetstream.publish import (
    BATCH_MESSAGES_MIN,
    WINDOW_BYTES_MAX,
    WINDOW_MESSAGES_MAX,
    Publication,
)
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stored, Stream
from tabard.bus.server import EmbeddedServer

pytestmark = pytest.mark.nats


def observed(count: int, first: int = 0, size: int = 0) -> list[Outgoing]:
    return [
        Outgoing("tabard.observed.x", str(n).encode().ljust(size), f"id-{n}")
        for n in range(first, first + count)
    ]


async def everything(bus: JetStreamBus) -> list[Stored]:
    got: list[Stored] = []
    while found := await bus.read(Stream.OBSERVED, got[-1].sequence + 1 if got else 1):
        got += found
    return got


@pytest.mark.parametrize("count", [WINDOW_MESSAGES_MAX, WINDOW_MESSAGES_MAX + 1])
async def test_a_full_window_and_one_past_it_are_stored(nats_bus: JetStreamBus, count: int) -> None:
    assert await nats_bus.publish(Stream.OBSERVED, observed(count)) == list(range(1, count + 1))


async def test_no_more_than_the_window_is_under_way(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [1] * (WINDOW_MESSAGES_MAX + 50) + [100_000] * 240  # long enough to outrun the server
    messages = [Outgoing("tabard.status.x", bytes(size)) for size in sizes]
    publication = Publication(nats_bus._connection, Stream.STATUS, messages)
    session = await nats_bus._connection.session()
    send = session.send
    most_messages = most_bytes = 0

    def count(*args: object) -> int:
        nonlocal most_messages, most_bytes
        token = send(*args)  # type: ignore[arg-type]
        most_messages = max(most_messages, len(publication._tokens) + 1)
        most_bytes = max(most_bytes, publication._bytes + len(args[2]))  # type: ignore[arg-type]
        return token

    monkeypatch.setattr(session, "send", count)
    await publication.run()
    assert most_messages == WINDOW_MESSAGES_MAX
    assert 3_900_000 < most_bytes <= WINDOW_BYTES_MAX


@pytest.fixture
def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each batch had that was tried."""
    sizes: list[int] = []
    store = batches.store

    async def counted(connection: Any, messages: Any, *rest: Any) -> Any:
        sizes.append(len(messages))
        return await store(connection, messages, *rest)

    monkeypatch.setattr(batches, "store", counted)
    return sizes


@pytest.mark.parametrize(
    ("messages", "sizes"),
    [
        (observed(BATCH_MESSAGES_MIN - 1), []),
        (observed(BATCH_MESSAGES_MIN), [BATCH_MESSAGES_MIN]),
        (observed(2 * WINDOW_MESSAGES_MAX + 1), [WINDOW_MESSAGES_MAX, WINDOW_MESSAGES_MAX, 1]),
        (observed(60, size=100_000), [41, 19]),
    ],
)
async def test_many_observed_messages_go_in_batches(
    nats_bus: JetStreamBus, batch_sizes: list[int], messages: list[Outgoing], sizes: list[int]
) -> None:
    sequences = await nats_bus.publish(Stream.OBSERVED, messages)
    assert batch_sizes == sizes
    assert sequences == list(range(1, len(messages) + 1))
    assert [m.payload for m in await everything(nats_bus)] == [m.payload for m in messages]


async def test_a_batch_with_a_message_that_is_stored_already_goes_message_by_message(
    nats_bus: JetStreamBus, batch_sizes: list[int]
) -> None:
    assert await nats_bus.publish(Stream.OBSERVED, observed(1, 300)) == [1]
    sequences = await nats_bus.publish(Stream.OBSERVED, observed(600))
    assert sequences == [*range(2, 302), 1, *range(302, 601)]
    assert batch_sizes == [WINDOW_MESSAGES_MAX, WINDOW_MESSAGES_MAX]
    stored = [int(m.payload) for m in await everything(nats_bus)]
    assert stored == [300, *range(300), *range(301, 600)]


@pytest.mark.parametrize("ids", [True, False])
async def test_lost_acknowledgements_store_nothing_twice(nats_url: str, ids: bool) -> None:
    async with Proxy(nats_url) as proxy:
        bus = await JetStreamBus.connect(proxy.url, name="test")
        await bus.ensure_streams()
        messages = observed(400)
        if not ids:
            messages = [Outgoing(message.subject, message.payload) for message in messages]
        proxy.deaf = True
        publishing = asyncio.create_task(bus.publish(Stream.OBSERVED, messages))
        direct = await JetStreamBus.connect(nats_url, name="observer")
        async for batch in direct.tail(Stream.OBSERVED, 1):
            if batch[-1].sequence == WINDOW_MESSAGES_MAX:
                break
        proxy.deaf = False
        proxy.cut()
        assert await publishing == list(range(1, 401))
        stored = await everything(bus)
        assert [int(m.payload) for m in stored] == list(range(400))
        await bus.close()
        await direct.close()


async def test_acknowledgements_that_never_come_are_reported_with_their_count(
    nats_url: str,
) -> None:
    async with Proxy(nats_url) as proxy:
        options = Options(request_timeout_s=0.3)
        bus = await JetStreamBus.connect(proxy.url, name="test", options=options)
        await bus.ensure_streams()
        proxy.deaf = True
        with pytest.raises(BusUnavailable, match=r"0 of 3 .*publish again with the same ids"):
            await bus.publish(Stream.OBSERVED, observed(3))
        await bus.close()


async def test_a_refused_message_is_an_error_with_the_servers_reason(
    nats_bus: JetStreamBus, nats_url: str
) -> None:
    await nats_bus._connection.request(
        "$JS.API.STREAM.UPDATE.STATUS",
        b'{"name":"STATUS","subjects":["tabard.status.>"],'
        b'"max_msgs_per_subject":1,"max_msg_size":10}',
        "test",
    )
    with pytest.raises(BusError, match=r"refused 'tabard.status.x'.*maximum"):
        await nats_bus.publish(Stream.STATUS, [Outgoing("tabard.status.x", b"x" * 500)])


async def test_the_stream_in_memory_is_made_anew_after_its_server_ended(
    own_nats_server: EmbeddedServer,
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    await bus.ensure_streams()
    await bus.publish(Stream.FLOWS, [Outgoing("tabard.flows.n1", b"1")])
    os.kill(own_nats_server.pid, signal.SIGKILL)
    await own_nats_server.wait()
    await own_nats_server.start()
    assert await bus.publish(Stream.FLOWS, [Outgoing("tabard.flows.n1", b"2")]) == [1]
    await bus.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_killed_under_load_loses_and_doubles_nothing(
    own_nats_server: EmbeddedServer, blow: signal.Signals
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    await bus.ensure_streams()
    acknowledged: dict[int, int] = {}
    done = asyncio.Event()
    progress = asyncio.Semaphore(0)

    async def publish() -> None:
        first = 0
        while not done.is_set():
            messages = observed(200, first)
            try:
                sequences = await bus.publish(Stream.OBSERVED, messages)
            except BusUnavailable:
                continue
            acknowledged.update(zip(range(first, first + 200), sequences, strict=True))
            first += 200
            progress.release()

    async def kill() -> None:
        for _ in range(3):
            for _ in range(2):
                await progress.acquire()
            await asyncio.sleep(0.03)
            os.kill(own_nats_server.pid, blow)
            await own_nats_server.wait()
            await own_nats_server.start()
        done.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(publish())
        group.create_task(kill())
    stored = await everything(bus)
    assert [int(m.payload) for m in stored] == list(range(len(stored)))
    assert {int(m.payload): m.sequence for m in stored}.items() >= acknowledged.items()
    await bus.close()


@pytest.mark.parametrize("count", [1, 40])
async def test_a_publish_whose_answers_are_lost_is_sent_again_and_stored_once(
    nats_bus: JetStreamBus, nats_url: str, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for module in ("publish", "batch"):
        monkeypatch.setattr(f"tabard.bus.jetstream.{module}.ANSWER_TIMEOUT_S", 0.2)
    messages = [Outgoing("tabard.observed.x", b"", f"id-{n}") for n in range(count)]
    async with Proxy(nats_url) as proxy:
        bus = await JetStreamBus.connect(proxy.url, name="test")
        proxy.deaf = True
        publishing = asyncio.create_task(bus.publish(Stream.OBSERVED, messages))
        while await nats_bus.last_sequence(Stream.OBSERVED) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        proxy.deaf = False
        assert await publishing == list(range(1, count + 1))
        assert bus.link.connects == 1
        await bus.close()
    assert await nats_bus.last_sequence(Stream.OBSERVED) == count
