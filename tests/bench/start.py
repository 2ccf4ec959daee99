"""A pod started → enforced on three real nodes: agents, kernel maps, namespaces, bus with fsync."""

import asyncio
import itertools
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from bench.figures import Figure, Target, Yardstick, quantile
from bench.lab import Lab
from bench.ledger_watch import LedgerWatch, watching
from bench.pace import paced
from bench.population import policy
from bench.yardsticks import raw
from tabard.agent.ebpf import layout, syscalls
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.bus.port import Stream
from tabard.cluster.gate import ask
from tabard.cluster.publish import publish
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.cluster.watermarks import taken, watermark
from tabard.dataplane.maps import address
from tabard.events.observed import NodeJoined, PodStarted, PodStopped, PolicySet
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State
from tabard.netns.names import node_namespace

NEEDS_KERNEL = True
NODES = 3
SLOW, FAST = 10, 200
"""Pods a second."""
PODS_SLOW, PODS_BURST, PODS_REMOTE = 60, 200, 600
RUNS = 3
PUBLISHES = 200
LATEST_S = 60.0
POLL_S = 0.001
CALM_S = 1.0
"""The kernel frees detached programs in the background, and an attach would wait for that."""
ELSEWHERE = "elsewhere"
"""A node that is in the ledger alone."""
SERVERS = {"podSelector": {"matchLabels": {"role": "server"}}}
CLIENTS = {"podSelector": {"matchLabels": {"role": "client"}}}
POLICIES = (
    policy(1, "bench", **SERVERS, policyTypes=["Ingress"], ingress=[{"from": [CLIENTS]}]),
    policy(2, "bench", **CLIENTS, policyTypes=["Egress"], egress=[{"to": [SERVERS]}]),
)
"""Each node runs a client, so that each must know every server's address before it is enforced."""


ALL = (
    "From a pod's start until every node's kernel enforces it: its own judges its traffic, and the "
    "others, which all run a peer, know its address."
)
MEANS = {
    "known": ALL,
    "new": ALL,
    "burst": "The same under a storm of starts. Three nodes share one kernel here, which guards "
    "one interface at a time and waits for all its CPUs (RCU) at each.",
    "remote": "The same without interfaces: until three nodes know a pod that started elsewhere.",
}


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


@dataclass(slots=True)
class Took:
    """Milliseconds from publishing a pod's start."""

    up: float = 0.0
    """Its own node's kernel enforces it: its gate said that the pod may run."""
    known: float = 0.0
    """The last node has its address in its maps."""
    told: float = 0.0
    """The last node's STATUS says so."""

    @property
    def enforced(self) -> float:
        return max(self.up, self.known)


async def _run(lab: Lab) -> list[Figure]:
    settings = Settings(
        name=lab.name, nodes=NODES, pods="none", data=lab.directory / "c", log_level="warning"
    )
    trials: dict[str, list[list[Took]]] = {"known": [], "new": [], "burst": [], "remote": []}
    publishes = []
    async with (
        Cluster(settings, directory=lab.directory / "run", tell=lab.tell) as cluster,
        _bench(lab, cluster) as nodes,
        raw(cluster.profile.nats[0]) as stream,
    ):
        slow, burst = lab.scaled(PODS_SLOW, 5), lab.scaled(PODS_BURST, 20)
        remote = lab.scaled(PODS_REMOTE, 20)
        await nodes.start(slow, SLOW)  # warm
        for number in lab.runs(RUNS, 120):
            lab.tell(f"run {number + 1}")
            trials["known"].append(await nodes.start(slow, SLOW))
            trials["new"].append(await nodes.start(slow, SLOW, new=True))
            trials["burst"].append(await nodes.start(burst, FAST))
            trials["remote"].append(await nodes.start(remote, FAST, remote=True))
            publishes.append(await stream.one_at_a_time(b"x" * 300, lab.scaled(PUBLISHES, 10)))
    figures = []
    for trial, what, most in (
        ("known", f"known labels, {SLOW} a second", 50),
        ("new", f"new labels each, {SLOW} a second", 50),
        ("burst", f"known labels, {PODS_BURST} at {FAST} a second", 100),
        ("remote", f"known labels, on a fourth node, {FAST} a second", 100),
    ):
        for share in (0.5, 0.99):
            percentile = f"p{share * 100:.0f}"
            figures.append(
                Figure(
                    f"start.{trial}.{percentile}",
                    f"{what}, {percentile}",
                    "ms",
                    tuple(quantile([t.enforced for t in run], share) for run in trials[trial]),
                    Target(most) if share == 0.99 else None,
                    Yardstick(
                        f"raw publish, {percentile}",
                        tuple(quantile(took, share) for took in publishes),
                    ),
                    MEANS[trial],
                )
            )
    for field, what, means in (
        ("up", "its own node alone", "How long the pod itself waits, its interface guarded."),
        ("told", "until STATUS says so", "What `tabard apply --wait` waits for."),
    ):
        values = [[getattr(t, field) for t in run] for run in trials["known"]]
        p99 = tuple(quantile(run, 0.99) for run in values)
        figures.append(
            Figure(f"start.known.{field}", f"known labels, {what}, p99", "ms", p99, means=means)
        )
    return figures


class Nodes:
    """Three nodes with interfaces to spare, and pods that start and stop on them."""

    def __init__(self, cluster: Cluster, watch: LedgerWatch, hosts: Mapping[str, int]) -> None:
        self._cluster = cluster
        self._watch = watch
        self._hosts = hosts
        """Node → descriptor of its kernel's map of known addresses."""
        self._fresh = itertools.count()
        self._folded = State()
        self._places = [node.name for node in cluster.nodes]
        self._words: list[tuple[float, str, int]] = []
        """(when, node, sequence) of each STATUS."""

    async def listen(self) -> None:
        """Note what nodes say of themselves, for ever."""
        tail = self._cluster.bus.tail(
            Stream.STATUS, await self._cluster.bus.last_sequence(Stream.STATUS) + 1
        )
        async with aclosing(tail):
            async for messages in tail:
                now = time.perf_counter()
                for word in filter(None, map(watermark, messages)):
                    self._words.append((now, word.status.node, word.status.sequence))

    async def clients(self) -> None:
        """A client on each node, and the policies."""
        there = NodeJoined(ELSEWHERE, ("198.18.0.99",), ("10.245.0.0/16",))
        bus = self._cluster.bus
        await publish(bus, [there, *(PolicySet(document) for document in POLICIES)])
        for index, node in enumerate(self._places, 1):
            client = _pod(f"client-{node}", node, f"10.244.{index}.250", {"role": "client"})
            await publish(bus, [client])
            await self._attach(client, "bench-client")
        await self._settled()

    async def start(
        self, count: int, rate: float, *, new: bool = False, remote: bool = False
    ) -> list[Took]:
        """Start `count` pods, `rate` a second; what each took. They are stopped afterwards.

        With `new` each has labels of its own; with `remote` they are on a node elsewhere.
        """
        pods = [self._server(number, new, remote) for number in range(count)]
        took = {pod.uid: Took() for pod in pods}
        begun: dict[str, float] = {}
        self._words.clear()
        async with asyncio.timeout(LATEST_S + count / rate):
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._look(pods, begun, took))
                async for number in paced(count, rate):
                    pod, interface = pods[number], f"bench{number // NODES}"
                    begun[pod.uid] = time.perf_counter()
                    starting.create_task(self._publish(pod))
                    if not remote:
                        up = self._up(pod, interface, begun[pod.uid], took[pod.uid])
                        starting.create_task(up)
            await self._told(begun, took)
        await publish(self._cluster.bus, [PodStopped(pod.uid) for pod in pods])
        await self._settled()
        if not remote:
            for pod in pods:
                await ask(self._cluster.socket(pod.node), "detach", LATEST_S, uid=pod.uid)
            await asyncio.sleep(CALM_S)
        return list(took.values())

    def _server(self, number: int, new: bool, remote: bool) -> PodStarted:
        fresh, index = next(self._fresh), number % NODES
        labels = {"role": "server"} | ({"version": f"v{fresh}"} if new else {})
        node, at = self._places[index], f"10.244.{index + 1}.{number // NODES + 1}"
        if remote:
            node, at = ELSEWHERE, f"10.245.{number >> 8}.{number & 255}"
        return _pod(f"server-{fresh}", node, at, labels)

    async def _publish(self, pod: PodStarted) -> None:
        message = observed(pod, first_cause(pod.uid, time.time_ns()))
        await self._cluster.bus.publish(Stream.OBSERVED, [message])

    async def _up(self, pod: PodStarted, interface: str, begun: float, took: Took) -> None:
        await self._attach(pod, interface)
        took.up = (time.perf_counter() - begun) * 1000

    async def _attach(self, pod: PodStarted, interface: str) -> None:
        fields = {"pod": asdict(pod), "interface": interface, "mac": "02:00:00:00:00:01"}
        timeout_ms = int(LATEST_S * 1000)
        socket = self._cluster.socket(pod.node)
        await ask(socket, "attach", LATEST_S, **fields, timeout_ms=timeout_ms)

    async def _look(
        self, pods: list[PodStarted], begun: dict[str, float], took: dict[str, Took]
    ) -> None:
        """Look into the other nodes' maps until all of them know every pod."""
        missing = {
            (pod.uid, node): address(pod.addresses[0])
            for pod in pods
            for node in self._places
            if node != pod.node
        }
        while missing:
            for (uid, node), at in list(missing.items()):
                if uid not in begun:
                    break  # nor have those behind it
                try:
                    syscalls.map_lookup(self._hosts[node], at, layout.IDENTITY.size)
                except KeyError:
                    continue
                took[uid].known = max(took[uid].known, (time.perf_counter() - begun[uid]) * 1000)
                del missing[uid, node]
            await asyncio.sleep(POLL_S)

    async def _told(self, begun: dict[str, float], took: dict[str, Took]) -> None:
        """When each pod's binding was within the word of all nodes."""
        while True:
            last = max(self._watch.sequences[uid] for uid in begun)
            said = {node: 0 for node in self._places}
            for _, node, sequence in self._words:
                said[node] = max(said[node], sequence)
            if min(said.values()) >= last:
                break
            await asyncio.sleep(POLL_S)
        for uid, at in begun.items():
            wanted = self._watch.sequences[uid]
            last_word = max(
                next(
                    when
                    for when, who, sequence in self._words
                    if who == node and sequence >= wanted
                )
                for node in self._places
            )
            took[uid].told = (last_word - at) * 1000

    async def _settled(self) -> None:
        bus = self._cluster.bus
        await taken(bus, self._folded, await bus.last_sequence(Stream.OBSERVED))
        await self._cluster.wait_enforced()


@asynccontextmanager
async def _bench(lab: Lab, cluster: Cluster) -> AsyncIterator[Nodes]:
    """Nodes with their clients up, and interfaces for as many servers as ever run at once."""
    hosts: dict[str, int] = {}
    each = -(-max(lab.scaled(PODS_BURST, 20), lab.scaled(PODS_SLOW, 5)) // NODES)
    for node in cluster.nodes:
        _interfaces(node_namespace(lab.name, node.name), each)
        maps = Pins(BPF_ROOT, lab.name, node.name)
        (schema,) = maps.schemas()
        hosts[node.name] = syscalls.get(str(maps.maps(schema) / "hosts"))
    async with watching(cluster.bus) as watch:
        nodes = Nodes(cluster, watch, hosts)
        listening = asyncio.create_task(nodes.listen(), name="status watch")
        try:
            await nodes.clients()
            yield nodes
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _interfaces(namespace: str, count: int) -> None:
    """What a container engine makes before it calls Tabard; not measured."""
    lines = [f"link add {name} type veth peer name {name}p" for name in _names(count)]
    lines += [f"link set {name} up" for name in _names(count)]
    command = ["ip", "-n", namespace, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


def _names(count: int) -> Iterator[str]:
    yield "bench-client"
    yield from (f"bench{number}" for number in range(count))


def _pod(uid: str, node: str, at: str, labels: Mapping[str, str]) -> PodStarted:
    fields: dict[str, Any] = {"namespace": "bench", "name": uid, "started_at": time.time_ns()}
    return PodStarted(
        uid=uid, node=node, addresses=(at,), labels=tuple(sorted(labels.items())), **fields
    )
