"""Snapshots and a trim on a real nats-server, with allocators as processes and events going on."""

import asyncio
import json
import signal
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from agent.rig import Recorder, settings
from allocators import Process, processes
from deciding import joined, started
from serving import caught_up, publish, until
from tabard.agent.service import Agent
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Bus, Stream
from tabard.bus.subjects import CHUNKS, RECORDS
from tabard.ledger import archive
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import allocator_subject, recorded
from tabard.ledger.state import State

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]
EVENTS = {"SNAPSHOT_EVENTS": "40", "SILENCE_MS": "60000"}


async def store(bus: Bus) -> None:
    """A snapshot of the ledger's end."""
    await archive.store(bus, archive.Frozen.of(await catch_up(bus, State())), "test")


async def start_pods(bus: Bus, count: list[int]) -> None:
    """Go on for ever, a pod at a time; how many there are is in `count`."""
    while True:
        await publish(bus, started(f"p{count[0]}", {"app": f"a{count[0] % 7}"}))
        count[0] += 1
        await asyncio.sleep(0.01)


@asynccontextmanager
async def cold_node(url: str, data: Path) -> AsyncIterator[Agent]:
    """An agent that knows nothing, with a connection of its own."""

    async def connect() -> Bus:
        return await JetStreamBus.connect(url, name=f"agent-{data.name}")

    agent = Agent(settings(data), Recorder(), connect)
    work = asyncio.create_task(agent.run())
    try:
        yield agent
        assert not work.done()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def enforces(agent: Agent, bus: Bus) -> None:
    """Until the node enforces what the ledger says now."""
    head = await bus.last_sequence(Stream.LEDGER)

    async def there() -> bool:
        return agent.report.sequence >= head

    await until(there, 0.02)


async def tabard(*words: str, code: int = 0) -> str:
    command = (sys.executable, "-m", "tabard.cli", *words)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, errors = await process.communicate()
    assert process.returncode == code, errors.decode()
    return out.decode() + errors.decode()


async def spoil(url: str, entry: archive.Entry) -> None:
    """Put a wrong chunk behind the snapshot's last one, and drop its first."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        record = RECORDS + urlsafe_b64encode(entry.info.name.encode()).decode()
        said = json.loads((await stream.get_last_msg("OBJ_TABARD_SNAPSHOTS", record)).data or b"")
        chunks = CHUNKS + said["nuid"]
        await stream.publish(chunks, bytes(said["size"] % (128 << 10)))
        await stream.purge_stream("OBJ_TABARD_SNAPSHOTS", subject=chunks, keep=said["chunks"])
    finally:
        await client.close()


async def test_nodes_start_cold_from_snapshots_good_or_not_and_behind_a_trim(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    bus = nats_bus
    leader = Process(nats_url, tmp_path / "a", HOLDER="a", **EVENTS)
    follower = Process(nats_url, tmp_path / "b", HOLDER="b", **EVENTS)
    for each in ("a", "b"):
        (tmp_path / each).mkdir()
    async with processes(leader, follower):
        await leader.start()
        await follower.start("allocator.following")
        await publish(bus, joined("n1"))
        count = [0]
        publishing = asyncio.create_task(start_pods(bus, count))
        try:
            for number in range(2):
                await publish(bus, started(f"before-{number}"))
                await caught_up(bus)
                await store(bus)

            # The follower takes one while events go on.
            async def taken() -> bool:
                return (await archive.listed(bus))[0].by.startswith("b/")

            await until(taken, 0.02)

            # A node starts cold from the newest and what came after it, while events go on.
            async with cold_node(nats_url, tmp_path / "n-newest") as agent:
                await enforces(agent, bus)
                assert agent.follower.events < agent.reconciler.state.sequence - 40
        finally:
            publishing.cancel()

        # The follower ends, so that what is spoilt stays so.
        await follower.signal(signal.SIGTERM)
        entries = await archive.listed(bus)
        assert len(entries) == 3
        await spoil(nats_url, entries[0])
        async with cold_node(nats_url, tmp_path / "n-older") as agent:
            await enforces(agent, bus)
            head = agent.reconciler.state.sequence
            assert agent.follower.events == head - entries[1].sequence
            whole = await catch_up(bus, State(), head, observe=lambda record: None)
            assert digest(agent.reconciler.state) == digest(whole)
            # Nothing is trimmed ahead of a good snapshot.
            words = ("--archive", str(tmp_path / "archive"), "--nats", nats_url)
            limit = str(entries[0].sequence - 7)

            # Nor ahead of an allocator's last word, which each says once a second.
            async def said() -> bool:
                word = await bus.last_on_subject(Stream.STATUS, allocator_subject("a"))
                assert word is not None
                return recorded(Stream.STATUS, word).event.sequence >= entries[0].sequence

            await until(said, 0.02)
            told = await tabard("ledger", "trim", "--before", limit, *words, code=1)
            assert f"stands behind {limit} (snapshot {entries[0].sequence} is refused" in told
            assert await bus.first_sequence(Stream.LEDGER) == 1
            told = await tabard("snapshots", "verify", "--nats", nats_url, code=1)
            assert told.count("is refused") == 1

            # With a good one behind it, it is; and the node that runs goes on.
            await tabard("snapshots", "take", "--nats", nats_url)
            told = await tabard("ledger", "trim", "--before", limit, *words)
            assert f"LEDGER begins at {limit}" in told
            assert await bus.first_sequence(Stream.LEDGER) == int(limit)
            await publish(bus, started("after", {"app": "after"}))

            async def bound() -> bool:
                return "after" in agent.reconciler.state.endpoints

            await until(bound, 0.02)

        # Who knows nothing starts behind the trim: nodes, allocators, commands.
        async with cold_node(nats_url, tmp_path / "n-trimmed") as agent:
            await enforces(agent, bus)
            assert agent.follower.events < agent.reconciler.state.sequence - int(limit)
            assert "after" in agent.reconciler.state.endpoints
        await leader.kill()
        fresh = Process(nats_url, tmp_path / "b", HOLDER="a", DATA=str(tmp_path / "fresh"))
        async with processes(fresh):
            await fresh.start()
            await publish(bus, started("last", {"app": "last"}))

            async def last() -> bool:
                return "last" in (await catch_up(bus, State())).endpoints

            await until(last, 0.02)
        told = await tabard("events", "verify", "--nats", nats_url)
        assert f"LEDGER is whole from {limit} on" in told
        archived = next((tmp_path / "archive").iterdir())
        told = await tabard("events", "verify", "--nats", f"file:{archived}")
        assert f"LEDGER is whole: {int(limit) - 1} events" in told
        told = await tabard("get", "pods", "--at", "5", "--nats", nats_url, code=1)
        assert "was trimmed away" in told
