import asyncio
import os
import random
import signal

import pytest

from bus.proxy import Proxy
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.jetstream.append import append
from tabard.bus.port import BusError, BusUnavailable, Conflict, Outgoing, Stored, Stream
from tabard.bus.server import EmbeddedServer

pytestmark = pytest.mark.nats


def ledger(count: int, mark: str = "", size: int = 0) -> list[Outgoing]:
    return [
        Outgoing("tabard.ledger.x", f"{mark}/{n}/{count}".encode().ljust(size))
        for n in range(1, count + 1)
    ]


async def everything(bus: JetStreamBus) -> list[Stored]:
    got: list[Stored] = []
    while found := await bus.read(Stream.LEDGER, len(got) + 1):
        got += found
    return got


@pytest.mark.parametrize("count", [1, 40])
async def test_an_append_whose_answer_is_lost_can_be_learnt(nats_url: str, count: int) -> None:
    async with Proxy(nats_url) as proxy:
        options = Options(request_timeout_s=0.5)
        bus = await JetStreamBus.connect(proxy.url, name="test", options=options)
        await bus.ensure_streams()
        assert await bus.append(ledger(3, "a"), 0) == 3
        proxy.deaf = True
        with pytest.raises(BusUnavailable, match="append on LEDGER"):
            await bus.append(ledger(count, "b"), 3)
        proxy.deaf = False
        proxy.cut()
        assert [m.payload for m in await bus.read(Stream.LEDGER, 4)] == [
            m.payload for m in ledger(count, "b")
        ]
        with pytest.raises(Conflict):
            await bus.append(ledger(count, "b"), 3)
        await bus.close()


async def test_an_append_broken_off_in_the_middle_stores_nothing(nats_bus: JetStreamBus) -> None:
    connection = nats_bus._connection
    session = await connection.session()
    send = session.send
    sent = 0

    def stumble(*args: object) -> int:
        nonlocal sent
        sent += 1
        if sent == 6:
            raise BusUnavailable("broken off")
        return send(*args)  # type: ignore[arg-type]

    session.send = stumble  # type: ignore[method-assign, assignment]
    with pytest.raises(BusUnavailable, match="broken off"):
        await append(connection, ledger(10), 0)
    assert await nats_bus.last_sequence(Stream.LEDGER) == 0
    assert await nats_bus.append(ledger(10), 0) == 10


async def test_a_large_batch_passes(nats_bus: JetStreamBus) -> None:
    assert await nats_bus.append(ledger(60, "large", 500_000), 0) == 60
    assert [len(m.payload) for m in await everything(nats_bus)] == [500_000] * 60


async def test_a_full_ledger_refuses_the_append_whole_and_says_what_to_raise(
    nats_url: str,
) -> None:
    options = Options(ledger_bytes_max=100_000)
    bus = await JetStreamBus.connect(nats_url, name="test", options=options)
    await bus.ensure_streams()
    assert await bus.append(ledger(100, size=500), 0) == 100
    for count in (100, 1000):
        with pytest.raises(BusError, match=r"LEDGER is full.*ledger_bytes_max"):
            await bus.append(ledger(count, size=500), 100)
        assert await bus.last_sequence(Stream.LEDGER) == 100
    assert await bus.append(ledger(1), 100) == 101
    await bus.close()


async def test_a_server_killed_under_appends_keeps_each_whole_or_not_at_all(
    own_nats_server: EmbeddedServer,
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    await bus.ensure_streams()
    randomness = random.Random(7)
    done = asyncio.Event()
    last = batch = unknown = 0
    known: dict[int, int] = {}
    """Batch number → its last sequence."""

    async def write() -> None:
        nonlocal last, batch, unknown
        while not done.is_set():
            batch += 1
            try:
                last = await bus.append(ledger(randomness.choice([1, 20, 1000]), str(batch)), last)
            except BusUnavailable:
                unknown += 1
                while True:
                    try:
                        last = await bus.last_sequence(Stream.LEDGER)
                        break
                    except BusUnavailable:
                        continue
                continue
            except Conflict:
                # The one before was stored after we had looked: what the fence is for.
                last = await bus.last_sequence(Stream.LEDGER)
                continue
            known[batch] = last

    async def kill() -> None:
        for _ in range(6):
            await asyncio.sleep(randomness.uniform(0.1, 0.4))
            os.kill(own_nats_server.pid, signal.SIGKILL)
            await own_nats_server.wait()
            await own_nats_server.start()
        done.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(kill())
    stored = await everything(bus)
    at = 0
    seen = set()
    while at < len(stored):
        mark, _, count = stored[at].payload.decode().split("/")
        whole = [m.payload for m in stored[at : at + int(count)]]
        assert whole == [m.payload for m in ledger(int(count), mark)]
        at += int(count)
        seen.add(int(mark))
        assert known.get(int(mark), at) == at
    assert seen >= known.keys()
    assert unknown > 0
    await bus.close()
