"""Three allocators as processes at default settings, on a real nats-server, under steady load."""

import asyncio
import contextlib
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from allocators import Process, processes
from deciding import started, stopped
from serving import caught_up, folded, until
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Stream
from tabard.events.ledger import EpochClaimed
from tabard.events.observed import PodStarted, PodStopped
from tabard.ledger.messages import first_cause, observed, recorded

pytestmark = pytest.mark.nats

TAKEOVER_S_MAX = 3.0
HANDOVER_S_MAX = 1.0


class Trio:
    """Who leads is read from the ledger; `killed_at` and the like are by this machine's clock, as
    the server's."""

    def __init__(self, bus: JetStreamBus, url: str, directory: Path) -> None:
        self.bus = bus
        self.members: dict[str, Process] = {}
        for name in ("x", "y", "z"):
            (directory / name).mkdir()
            self.members[name] = Process(url, directory / name, HOLDER=name)

    async def claims(self) -> list[tuple[int, str, int]]:
        """Epoch, name and time of each claim."""
        found, sequence = [], 1
        while messages := await self.bus.read(Stream.LEDGER, sequence):
            sequence = messages[-1].sequence + 1
            for message in messages:
                if message.subject == "tabard.ledger.epoch.claimed":
                    event = recorded(Stream.LEDGER, message).event
                    assert isinstance(event, EpochClaimed)
                    name = event.holder.partition("/")[0]
                    found.append((event.epoch, name, message.stored_at))
        return found

    async def leader(self) -> str:
        return (await self.claims())[-1][1]

    async def successor(self, since: int) -> float:
        """Seconds from `since` (ns since the Unix epoch) until the next claim; waits for it."""
        before = len([at for *_, at in await self.claims() if at < since])

        async def claimed() -> bool:
            return len(await self.claims()) > before

        await until(claimed, 0.02)
        return ((await self.claims())[before][2] - since) / 1e9

    async def goes_on(self) -> None:
        """Wait until somebody has appended something more."""
        through = await self.bus.last_sequence(Stream.LEDGER) + 10

        async def appended() -> bool:
            return await self.bus.last_sequence(Stream.LEDGER) > through

        await until(appended, 0.02)


@contextlib.asynccontextmanager
async def load(bus: JetStreamBus) -> AsyncIterator[dict[str, Any]]:
    """Pods start and stop all the time; gives what was published by its place, complete at the
    end."""
    told: dict[str, Any] = {}
    ended = asyncio.Event()

    async def publish() -> None:
        while not ended.is_set():
            number = len(told)
            event: Any = started(f"p{number}", {"app": f"a{number % 300}"})
            if number % 3 == 2:
                event = stopped(f"p{number - 2}")
            message = observed(event, first_cause("", 0))
            (sequence,) = await bus.publish(Stream.OBSERVED, [message])
            told[f"OBSERVED/{sequence}"] = event
            await asyncio.sleep(0.005)

    task = asyncio.create_task(publish(), name="load")
    try:
        yield told
    finally:
        ended.set()
        await task


async def effects(bus: JetStreamBus) -> dict[str, Counter[str]]:
    """Kind of effect → how often an observed event had it."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    sequence = 1
    while messages := await bus.read(Stream.LEDGER, sequence):
        sequence = messages[-1].sequence + 1
        for message in messages:
            record = recorded(Stream.LEDGER, message)
            found[type(record.event).__name__][record.envelope.cause] += 1
    return found


async def test_killed_ended_and_paused_leaders_are_replaced_and_nothing_is_lost_or_doubled(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    trio = Trio(nats_bus, nats_url, tmp_path)
    members = trio.members
    killed, handed_over, paused = [], [], []
    async with processes(*members.values()):
        for name, process in members.items():
            await process.start("allocator.leading" if name == "x" else "allocator.following")
        async with load(nats_bus) as told:
            for _ in range(2):
                name = await trio.leader()
                since = time.time_ns()
                await members[name].signal(signal.SIGKILL)
                killed.append(await trio.successor(since))
                await members[name].start("allocator.following")

                name = await trio.leader()
                since = time.time_ns()
                assert await members[name].signal(signal.SIGTERM) == 0
                handed_over.append(await trio.successor(since))
                await members[name].start("allocator.following")

                name = await trio.leader()
                since = time.time_ns()
                members[name].send(signal.SIGSTOP)
                paused.append(await trio.successor(since))
                await trio.goes_on()
                members[name].send(signal.SIGCONT)
                await members[name].says("allocator.fenced")
        await caught_up(nats_bus)
        for process in members.values():
            assert await process.signal(signal.SIGTERM) == 0

    epochs = [epoch for epoch, *_ in await trio.claims()]
    assert len(epochs) > 6
    assert epochs == list(range(1, len(epochs) + 1))
    assert min(killed) < TAKEOVER_S_MAX
    assert min(handed_over) < HANDOVER_S_MAX
    assert min(paused) < TAKEOVER_S_MAX
    assert len(told) > 500
    found = await effects(nats_bus)
    starts = {event.uid: place for place, event in told.items() if isinstance(event, PodStarted)}
    stops = {event.uid: place for place, event in told.items() if isinstance(event, PodStopped)}
    # A pod whose stop came while its start waited never ran; each other event had its one effect.
    never_ran = {uid for uid, place in stops.items() if place in found["EndpointTombstoned"]}
    assert found["EndpointTombstoned"] == {stops[uid]: 1 for uid in never_ran}
    ended = stops.keys() - never_ran
    assert found["EndpointUnbound"] == {stops[uid]: 1 for uid in ended}
    assert found["EndpointBound"] == {starts[uid]: 1 for uid in starts.keys() - never_ran}
    assert ended
    state = await folded(nats_bus)
    assert state.endpoints.keys() == starts.keys() - stops.keys()
