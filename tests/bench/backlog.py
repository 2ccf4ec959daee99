"""A backlog of events that wait for the allocator: what later ones undo costs next to nothing."""

import asyncio
import os
import signal
from collections.abc import Iterable, Sequence

import uvloop

from bench import population
from bench.figures import Figure, Yardstick
from bench.lab import Lab, cpu_s
from bench.ledger_watch import CURSOR
from tabard.bus.port import Bus, Stream
from tabard.cluster.publish import publish
from tabard.events.observed import ObservedEvent, PodLabelsChanged, PodStopped
from tabard.ledger.messages import recorded

EVENTS = 3_600
FLAPS = 36
"""Label changes of one pod in a row."""
TOGETHER = 20
"""Pods that start one after the other before they stop."""
RUNS = 5
POLL_S = 0.002
WAIT_S = 120.0


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    whole, flapping, brief = [], [], []
    events = lab.scaled(EVENTS, 2 * FLAPS)
    async with (
        lab.server() as server,
        lab.bus(server.url) as bus,
        lab.allocator(server.url, bus) as one,
    ):
        await _taken(bus, one.pid, [_pod(number) for number in range(events)])
        for number in lab.runs(RUNS, 20):
            lab.tell(f"run {number + 1}")
            whole.append(await _taken(bus, one.pid, _changes(range(events), 2 * number, 1)))
            pods = range(events // FLAPS)
            flapping.append(await _taken(bus, one.pid, _changes(pods, 2 * number + 1, FLAPS)))
            brief.append(await _taken(bus, one.pid, _brief(events // 2, (number + 1) * events)))
    yardstick = Yardstick("events that nothing undoes", tuple(whole))
    return [
        Figure(
            "backlog.whole",
            f"{events:,} label changes of as many pods, waiting at once",
            "µs",
            tuple(whole),
            means="What an event of a backlog costs the allocator (CPU) if each has its effect.",
        ),
        Figure(
            "backlog.flapping",
            f"the same number, {FLAPS} in a row of each pod",
            "µs",
            tuple(flapping),
            None,
            yardstick,
            "What it costs if most events are undone by the next one, and need no effect.",
        ),
        Figure(
            "backlog.brief",
            f"{events // 2:,} pods that started and have stopped",
            "µs",
            tuple(brief),
            None,
            yardstick,
            "What it costs if pods are gone before their start is decided.",
        ),
    ]


def _pod(number: int) -> ObservedEvent:
    return population.pod(number, number % 100, population.node(1 + number % 3), started_at=1)


def _changes(pods: Iterable[int], turn: int, times: int) -> list[ObservedEvent]:
    """Each pod's labels `times` in a row, no two of which are the same."""
    return [
        PodLabelsChanged(
            population.pod(number, 0, "n1").uid, population.labels(100 * turn + time + number % 50)
        )
        for number in pods
        for time in range(1, times + 1)
    ]


def _brief(pods: int, first: int) -> list[ObservedEvent]:
    """Pods that start and stop, a few at a time."""
    started = [_pod(number) for number in range(first, first + pods)]
    stopped = [
        PodStopped(population.pod(number, 0, "n1").uid) for number in range(first, first + pods)
    ]
    return [
        event
        for at in range(0, pods, TOGETHER)
        for event in (*started[at : at + TOGETHER], *stopped[at : at + TOGETHER])
    ]


async def _taken(bus: Bus, pid: int, events: Sequence[ObservedEvent]) -> float:
    """Microseconds of the allocator's CPU per event, where it finds them all waiting."""
    os.kill(pid, signal.SIGSTOP)
    try:
        published = await publish(bus, events)
    finally:
        os.kill(pid, signal.SIGCONT)
    begun = cpu_s(pid)
    async with asyncio.timeout(WAIT_S):
        while await _cursor(bus) < published.sequences[-1]:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
    return (cpu_s(pid) - begun) / len(events) * 1e6


async def _cursor(bus: Bus) -> int:
    found = await bus.last_on_subject(Stream.LEDGER, CURSOR)
    return 0 if found is None else int(recorded(Stream.LEDGER, found).event.sequence)
