"""A pod started → enforced by 100 agents in one process, their maps in memory; real bus.

The agents share one connection and one tail of the ledger, so that what the bus sends is received
and parsed once, not 100 times on one core. Each decodes, checks, folds and compiles for itself, and
tells the bus how far it is.
"""

import asyncio
import itertools
import time
from pathlib import Path

import uvloop

from bench import agents, population
from bench.figures import Figure, Target, Yardstick, quantile
from bench.lab import Lab
from bench.pace import paced
from bench.shared import shared
from bench.yardsticks import raw
from tabard.bus.port import Bus, Stream
from tabard.cluster.gate import ask
from tabard.cluster.publish import publish
from tabard.cluster.watermarks import enforced, taken
from tabard.dataplane.maps import Address, Mode, address
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import Change, NodeConfig
from tabard.events.observed import PodStarted, PodStopped, PolicySet
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State

NODES = 100
SLOW, FAST = 5, 200
"""Pods a second."""
PODS_SLOW, PODS_FAST = 30, 600
RUNS = 3
PUBLISHES = 200
LATEST_S = 120.0


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


class Noting(MemoryDataplane):
    """Notes when it first held an address, by `time.perf_counter`."""

    def __init__(self, node: str) -> None:
        super().__init__(NodeConfig(node, Mode.OVERLAY, ()))
        self.held: dict[Address, float] = {}

    def write(self, change: Change) -> None:
        super().write(change)
        now = time.perf_counter()
        for at in (*change.hosts_set, *change.endpoints_set):
            self.held.setdefault(at, now)


async def _run(lab: Lab) -> list[Figure]:
    trials: dict[str, list[list[float]]] = {"slow": [], "fast": []}
    publishes = []
    joined = [population.joined(number) for number in range(1, lab.scaled(NODES, 3) + 1)]
    nodes = {each.name: (each, Noting(each.name)) for each in joined}
    lab.tell(f"{len(nodes)} agents")
    async with (
        lab.server() as server,
        lab.bus(server.url) as bus,
        lab.allocator(server.url, bus),
        lab.bus(server.url, "agents") as common,
        shared(common) as connect,
        agents.running(lab, server.url, bus, nodes, connect),
        raw(server.url) as stream,
    ):
        crowd = Crowd(lab, bus, {name: dataplane for name, (_, dataplane) in nodes.items()})
        await crowd.clients()
        slow, fast = lab.scaled(PODS_SLOW, 5), lab.scaled(PODS_FAST, 20)
        await crowd.start(slow, FAST)  # warm
        for number in lab.runs(RUNS, 120):
            lab.tell(f"run {number + 1}")
            trials["slow"].append(await crowd.start(slow, SLOW))
            trials["fast"].append(await crowd.start(fast, FAST))
            publishes.append(await stream.one_at_a_time(b"x" * 300, lab.scaled(PUBLISHES, 10)))

    def figure(trial: str, rate: int, share: float) -> Figure:
        percentile = f"p{share * 100:.0f}"
        return Figure(
            f"crowd.{trial}.{percentile}",
            f"{NODES} agents, known labels, {rate} a second, {percentile}",
            "ms",
            tuple(quantile(took, share) for took in trials[trial]),
            Target(100) if share == 0.99 else None,
            Yardstick(f"raw publish, {percentile}", tuple(quantile(t, share) for t in publishes)),
            "From a pod's start until the last of 100 agents, which all run a peer, has it in its "
            "maps. They share one core and one connection here, over which the ledger comes once; "
            "each decodes, checks, folds and compiles for itself. Nodes have cores of their own.",
        )

    return [
        figure(trial, rate, share)
        for trial, rate in (("slow", SLOW), ("fast", FAST))
        for share in (0.5, 0.99)
    ]


class Crowd:
    """Running agents, each with a client pod."""

    def __init__(self, lab: Lab, bus: Bus, dataplanes: dict[str, Noting]) -> None:
        self._lab = lab
        self._bus = bus
        self._dataplanes = dataplanes
        self._folded = State()
        self._fresh = itertools.count(1)

    async def clients(self) -> None:
        await publish(self._bus, [PolicySet(document) for document in population.SERVING])
        clients = [self._pod(node, "client") for node in self._dataplanes]
        await publish(self._bus, clients)
        await asyncio.gather(*map(self._attach, clients))
        await self._settled()

    async def start(self, count: int, rate: float) -> list[float]:
        """Start pods, `rate` a second; milliseconds until all agents held each. Then stop them."""
        nodes = list(self._dataplanes)
        pods = [self._pod(nodes[n % len(nodes)], "server") for n in range(count)]
        begun: dict[str, float] = {}
        async with asyncio.timeout(LATEST_S):
            async with asyncio.TaskGroup() as starting:
                async for number in paced(count, rate):
                    pod = pods[number]
                    begun[pod.uid] = time.perf_counter()
                    starting.create_task(self._publish(pod))
                    starting.create_task(self._attach(pod))
            await self._settled()
        took = [self._held(pod) - begun[pod.uid] for pod in pods]
        await publish(self._bus, [PodStopped(pod.uid) for pod in pods])
        await self._settled()
        for pod in pods:
            await ask(self._socket(pod.node), "detach", LATEST_S, uid=pod.uid)
        return [seconds * 1000 for seconds in took]

    def _held(self, pod: PodStarted) -> float:
        """When the last of the agents had the pod in its maps."""
        at = address(pod.addresses[0])
        return max(dataplane.held[at] for dataplane in self._dataplanes.values())

    def _pod(self, node: str, role: str) -> PodStarted:
        number = next(self._fresh)
        return PodStarted(
            uid=f"{role}-{number}",
            namespace="bench",
            name=f"{role}-{number}",
            node=node,
            addresses=(population.address(number),),
            labels=(("role", role),),
            started_at=number,
        )

    async def _publish(self, pod: PodStarted) -> None:
        message = observed(pod, first_cause(pod.uid, time.time_ns()))
        await self._bus.publish(Stream.OBSERVED, [message])

    async def _attach(self, pod: PodStarted) -> None:
        await agents.attach(self._socket(pod.node), pod, LATEST_S)

    def _socket(self, node: str) -> Path:
        return self._lab.directory / node / "agent.sock"

    async def _settled(self) -> None:
        """All that was published is decided, and enforced by all."""
        await taken(self._bus, self._folded, await self._bus.last_sequence(Stream.OBSERVED))
        head = await self._bus.last_sequence(Stream.LEDGER)
        await enforced(self._bus, head, self._dataplanes, LATEST_S)
