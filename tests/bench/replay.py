"""A small cluster to which a trace is told, at full speed or in time. Maps are in memory."""

import asyncio
import shutil
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

from bench import agents, population
from bench.figures import quantile
from bench.invariants import check_fold, read_ledger
from bench.lab import Lab
from bench.openb import Second
from tabard.agent.service import Agent
from tabard.bus.port import Bus, Outgoing, Stream
from tabard.cluster.gate import GateError, ask
from tabard.cluster.publish import publish
from tabard.cluster.watermarks import enforced
from tabard.dataplane.maps import Mode
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import NodeConfig
from tabard.events.ledger import EndpointBound, EndpointUnbound
from tabard.events.observed import NodeJoined, ObservedEvent, PodStarted, PodStopped, PolicySet
from tabard.ledger.follow import follow
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State

NODES = 3
CHUNK = 500
"""Events in one publish at full speed."""
QUIET = 0.01
"""Share of the events that come before the busy days; in time, those are published at once."""
WAIT_S = 300.0
ATTACHES = 64
"""Requests at a time to one node's agent, whose socket lets 100 wait."""
RETIRE_GRACE_MS = "500"
"""So short that identities retire, and their numbers are given out again, within a replay."""
QOS = ("LS", "BE", "Burstable", "Guaranteed")


def message(event: ObservedEvent) -> Outgoing:
    assert isinstance(event, PodStarted | PodStopped)
    return observed(event, first_cause(event.uid, time.time_ns()))


class World:
    """A bus, an allocator and agents; pods are attached and detached as a source does."""

    def __init__(
        self, lab: Lab, url: str, bus: Bus, nodes: dict[str, tuple[Agent, MemoryDataplane]]
    ) -> None:
        self.url = url
        self._lab = lab
        self._bus = bus
        self._nodes = nodes
        self.following = asyncio.create_task(self._follow(), name="source")
        self._attaching: dict[str, asyncio.Task[str]] = {}
        self._detaching: set[asyncio.Task[None]] = set()
        self._room = {node: asyncio.Semaphore(ATTACHES) for node in nodes}
        self._effects: dict[str, int] = {}
        """Place of an observed event → sequence of the last event that it caused."""
        self._enforced: list[tuple[int, float]] = []
        """(sequence, when all agents enforced it), in order."""

    async def at_full_speed(self, trace: Sequence[Second]) -> float:
        """Events a second, from the first publish until all is enforced.

        At the trace's peak it is waited for, and what is enforced is held against the ledger.
        """
        events = [event for second in trace for event in second.events]
        peak = _peak(trace)
        begun = time.perf_counter()
        await self._publish(events[:peak])
        await self._settled()
        took = time.perf_counter() - begun
        await self._check_fold()
        begun = time.perf_counter()
        await self._publish(events[peak:])
        await self._settled()
        return len(events) / (took + time.perf_counter() - begun)

    async def _publish(self, events: Sequence[ObservedEvent]) -> None:
        left = iter(events)
        while chunk := list(islice(left, CHUNK)):
            await self._bus.publish(Stream.OBSERVED, list(map(message, chunk)))

    async def in_time(self, trace: Sequence[Second], lasting_s: float) -> list[tuple[float, float]]:
        """(when, milliseconds until all agents enforced it) of each event; the trace's busy days
        are shrunk to `lasting_s`."""
        first = quantile([second.at for second in trace], QUIET)
        speed_up = (trace[-1].at - first) / lasting_s
        published: list[tuple[float, asyncio.Task[list[int]], int]] = []
        watching = asyncio.create_task(self._watch_agents(), name="agents' watermarks")
        begun = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as publishing:
                for second in trace:
                    wait = begun + (second.at - first) / speed_up - time.perf_counter()
                    if wait > 0:
                        await asyncio.sleep(wait)
                    batch = list(map(message, second.events))
                    now = time.perf_counter()
                    task = publishing.create_task(self._bus.publish(Stream.OBSERVED, batch))
                    published.append((now, task, len(batch)))
            await self._settled()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        took = []
        sequences = [sequence for sequence, _ in self._enforced]
        for at, task, _ in published:
            for sequence in task.result():
                effect = self._effects[f"{Stream.OBSERVED}/{sequence}"]
                _, when = self._enforced[bisect_left(sequences, effect)]
                took.append((at, (when - at) * 1000))
        return took

    async def _watch_agents(self) -> None:
        while True:
            least = min(agent.report.sequence for agent, _ in self._nodes.values())
            if not self._enforced or least > self._enforced[-1][0]:
                self._enforced.append((least, time.perf_counter()))
            await asyncio.sleep(0.001)

    async def _follow(self) -> None:
        """Attach what is bound and detach what is unbound, for ever."""
        async with (
            asyncio.TaskGroup() as tasks,
            aclosing(follow(self._bus, State())) as batches,
        ):
            async for records in batches:
                for record in records:
                    self._effects[record.envelope.cause] = record.sequence
                    match record.event:
                        case EndpointBound(uid=uid):
                            attaching = tasks.create_task(self._attach(_started(record.event)))
                            self._attaching[uid] = attaching
                        case EndpointUnbound(uid):
                            before = self._attaching.pop(uid)
                            detaching = tasks.create_task(self._detach(uid, before))
                            self._detaching.add(detaching)
                            detaching.add_done_callback(self._detaching.discard)

    async def _attach(self, pod: PodStarted) -> str:
        async with self._room[pod.node]:
            # Refused if the pod has stopped by now: at full speed many live for milliseconds.
            with suppress(GateError):
                await agents.attach(self._socket(pod.node), pod, WAIT_S)
        return pod.node

    async def _detach(self, uid: str, before: asyncio.Task[str]) -> None:
        node = await before
        async with self._room[node]:
            await ask(self._socket(node), "detach", WAIT_S, uid=uid)

    def _socket(self, node: str) -> Path:
        return self._lab.directory / node / "agent.sock"

    async def _settled(self) -> None:
        """All that was published is decided and enforced, all pods attached or detached."""
        last = await self._bus.last_sequence(Stream.OBSERVED)
        async with asyncio.timeout(WAIT_S):
            while f"{Stream.OBSERVED}/{last}" not in self._effects:
                if self.following.done():
                    await self.following
                await asyncio.sleep(0.001)
        head = await self._bus.last_sequence(Stream.LEDGER)
        await enforced(self._bus, head, self._nodes, WAIT_S)
        await asyncio.gather(*self._detaching, *self._attaching.values())

    async def checked(self) -> str:
        """Hold the whole ledger against the invariants, and the agents against the ledger."""
        await self._check_fold()
        found = await read_ledger(self._bus, self._lab.name)
        return (
            f"invariants hold: {len(found.started):,} pods bound, {len(found.stopped):,} unbound, "
            f"once each; {len(found.given):,} numbers given, {found.reused:,} times again"
        )

    async def _check_fold(self) -> None:
        """Every agent's maps are what follows from the ledger; waits for what is under way."""
        for node, (agent, dataplane) in self._nodes.items():
            reconciler = agent.reconciler
            async with asyncio.timeout(WAIT_S):
                while True:
                    through = await reconciler.flush()
                    # The ledger may have gone on since: identities retire by the clock.
                    if reconciler.state.sequence == through and not reconciler.lock.locked():
                        break
            attached = reconciler.attachments.attached
            check_fold(reconciler.state, node, Mode.OVERLAY, attached, dataplane.read())


def _started(event: EndpointBound) -> PodStarted:
    return PodStarted(
        uid=event.uid,
        namespace=event.namespace,
        name=event.name,
        node=event.node,
        addresses=event.addresses,
        labels=event.labels,
        started_at=event.started_at,
    )


def _peak(trace: Sequence[Second]) -> int:
    """How many events it takes until most pods are alive."""
    alive = events = most = at = 0
    for second in trace:
        events += len(second.events)
        alive += len(second.started) - len(second.stopped)
        if alive > most:
            most, at = alive, events
    return at


@asynccontextmanager
async def running(lab: Lab) -> AsyncIterator[World]:
    """All of it anew."""
    joined = [_joined(number) for number in range(1, NODES + 1)]
    for name in ("bus", "allocator", *(each.name for each in joined)):
        shutil.rmtree(lab.directory / name, ignore_errors=True)
    nodes = {
        each.name: (each, MemoryDataplane(NodeConfig(each.name, Mode.OVERLAY, ())))
        for each in joined
    }
    async with (
        lab.server() as server,
        lab.bus(server.url) as bus,
        lab.allocator(server.url, bus, RETIRE_GRACE_MS=RETIRE_GRACE_MS, TICK_MS="200"),
        agents.running(lab, server.url, bus, nodes) as running,
    ):
        world = World(
            lab, server.url, bus, {name: (running[name], nodes[name][1]) for name in nodes}
        )
        try:
            await publish(bus, [PolicySet(document) for document in _policies()])
            yield world
        finally:
            world.following.cancel()
            await asyncio.gather(world.following, return_exceptions=True)


def _joined(number: int) -> NodeJoined:
    return NodeJoined(population.node(number), (f"192.168.9.{number}",), (f"10.244.{number}.0/24",))


def _policies() -> list[dict[str, object]]:
    """Each class of service admits the next one's pods, and speaks to them alone."""
    found = []
    for at, qos in enumerate(QOS):
        peer = {"podSelector": {"matchLabels": {"qos": QOS[(at + 1) % len(QOS)]}}}
        spec = {
            "podSelector": {"matchLabels": {"qos": qos}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [peer], "ports": [{"protocol": "TCP", "port": 8000 + at}]}],
            "egress": [{"to": [peer]}],
        }
        found.append(population.policy(at, "openb", **spec))
    return found
