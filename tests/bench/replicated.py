"""An append on three bus servers, and how long it waits when its leader's server is killed."""

import asyncio
import os
import signal
import time

import uvloop

from bench.figures import Figure, Yardstick, quantile
from bench.lab import Lab
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.read import stream_info
from tabard.bus.members import free_seats, members
from tabard.bus.port import Bus, BusUnavailable, Conflict, Outgoing, Stream
from tabard.bus.server import EmbeddedServer

SERVERS = 3
APPENDS = 300
RUNS = 5
EVENT = [Outgoing("tabard.ledger.bench", bytes(200))]
RETRY_S = 0.05


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    three, one, waits = [], [], []
    servers = members(lab.name, lab.directory / "bus3", free_seats(SERVERS))
    await asyncio.gather(*(server.start() for server in servers.values()))
    try:
        bus = await JetStreamBus.connect([s.url for s in servers.values()], name="bench")
        try:
            await _made(bus)
            async with lab.server() as alone, lab.bus(alone.url) as single:
                for number in lab.runs(RUNS):
                    lab.tell(f"run {number + 1}")
                    three.append(await _appends(bus, lab.scaled(APPENDS, 10)))
                    one.append(await _appends(single, lab.scaled(APPENDS, 10)))
            for number in lab.runs(lab.scaled(RUNS)):
                lab.tell(f"kill {number + 1}")
                waits.append(await _outage(bus, servers))
        finally:
            await bus.close()
    finally:
        await asyncio.gather(*(server.stop() for server in servers.values()))

    def append(share: float) -> Figure:
        percentile = f"p{share * 100:.0f}"
        return Figure(
            f"replicated.append.{percentile}",
            f"append on {SERVERS} bus servers, {percentile}",
            "ms",
            tuple(quantile(took, share) for took in three),
            None,
            Yardstick(f"on one server, {percentile}", tuple(quantile(took, share) for took in one)),
            means="How long a decision takes to be durable on most of the servers.",
        )

    return [
        append(0.5),
        append(0.99),
        Figure(
            "replicated.outage",
            "LEDGER's leader killed → next append acknowledged",
            "s",
            tuple(waits),
            means="How long nothing new is decided; kernels enforce, known label sets start.",
        ),
    ]


async def _made(bus: Bus) -> None:
    while True:
        try:
            await bus.ensure_streams(SERVERS)
            return
        except BusUnavailable:
            await asyncio.sleep(RETRY_S)


async def _appends(bus: Bus, count: int) -> list[float]:
    """Milliseconds of each, one after the other."""
    last = await bus.last_sequence(Stream.LEDGER)
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        last = await bus.append(EVENT, last)
        took.append((time.perf_counter() - begun) * 1000)
    return took


async def _outage(bus: JetStreamBus, servers: dict[str, EmbeddedServer]) -> float:
    """Seconds from the kill; then the server is up again, and current."""
    last = await bus.last_sequence(Stream.LEDGER)
    leader = (await stream_info(bus._connection, Stream.LEDGER))["cluster"]["leader"]
    os.kill(servers[leader].pid, signal.SIGKILL)
    begun = time.perf_counter()
    while True:
        try:
            await bus.append(EVENT, last)
            break
        except BusUnavailable:
            await asyncio.sleep(RETRY_S)
        except Conflict:
            last = await bus.last_sequence(Stream.LEDGER)
    took = time.perf_counter() - begun
    await servers[leader].wait()
    await servers[leader].start()
    while await bus.faults(Stream.LEDGER):  # noqa: ASYNC110 - the server tells nobody when it has caught up
        await asyncio.sleep(RETRY_S)
    return took
