"""Three real nodes on which pods start and stop, and when each of them was enforced where."""

import asyncio
import itertools
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from bench.lab import Lab
from bench.ledger_watch import LedgerWatch, watching
from bench.pace import paced
from bench.population import SERVING
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

NODES = 3
LATEST_S = 60.0
POLL_S = 0.001
ELSEWHERE = "elsewhere"
"""A node that is in the ledger alone."""


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


class Nodes:
    """Three nodes, and pods that start and stop on them."""

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

    @property
    def bus_url(self) -> str:
        return self._cluster.profile.nats[0]

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
        await publish(bus, [there, *(PolicySet(document) for document in SERVING)])
        for index, node in enumerate(self._places, 1):
            client = _pod(f"client-{node}", node, f"10.244.{index}.250", {"role": "client"})
            await publish(bus, [client])
            await self._attach(client, self._interfaces([client])[client.uid])
        await self._settled()

    async def start(
        self, count: int, rate: float, *, new: bool = False, remote: bool = False
    ) -> list[Took]:
        """Start `count` pods, `rate` a second; what each took. They are stopped afterwards.

        With `new` each has labels of its own; with `remote` they are on a node elsewhere.
        """
        pods = [self._server(number, new, remote) for number in range(count)]
        interfaces = {} if remote else await asyncio.to_thread(self._interfaces, pods)
        took = {pod.uid: Took() for pod in pods}
        begun: dict[str, float] = {}
        self._words.clear()
        async with asyncio.timeout(LATEST_S + count / rate):
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._look(pods, begun, took))
                async for number in paced(count, rate):
                    pod = pods[number]
                    begun[pod.uid] = time.perf_counter()
                    starting.create_task(self._publish(pod))
                    if not remote:
                        up = self._up(pod, interfaces[pod.uid], begun[pod.uid], took[pod.uid])
                        starting.create_task(up)
            await self._told(begun, took)
        await publish(self._cluster.bus, [PodStopped(pod.uid) for pod in pods])
        await self._settled()
        # Not detached: the kernel frees programs in the background, and who attaches waits for it.
        return list(took.values())

    def _interfaces(self, pods: Iterable[PodStarted]) -> dict[str, str]:
        """Make what a container engine makes before it calls Tabard: UID → interface. Blocks."""
        made = {pod.uid: f"bench{next(self._fresh)}" for pod in pods}
        lines: dict[str, list[str]] = {node: [] for node in self._places}
        for pod in pods:
            name = made[pod.uid]
            lines[pod.node] += [
                f"link add {name} type veth peer name {name}p",
                f"link set {name} up",
            ]
        for node, commands in lines.items():
            ip = ["ip", "-n", node_namespace(self._cluster.name, node), "-batch", "-"]
            subprocess.run(ip, input="\n".join(commands) + "\n", text=True, check=True)
        return made

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
async def running(lab: Lab) -> AsyncIterator[Nodes]:
    """Nodes with their clients up."""
    settings = Settings(
        name=lab.name, nodes=NODES, pods="none", data=lab.directory / "c", log_level="warning"
    )
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            Cluster(settings, directory=lab.directory / "run", tell=lab.tell)
        )
        hosts: dict[str, int] = {}
        for node in cluster.nodes:
            pins = Pins(BPF_ROOT, lab.name, node.name)
            (schema,) = pins.schemas()
            hosts[node.name] = syscalls.get(str(pins.maps(schema) / "hosts"))
            stack.callback(os.close, hosts[node.name])
        watch = await stack.enter_async_context(watching(cluster.bus))
        nodes = Nodes(cluster, watch, hosts)
        listening = asyncio.create_task(nodes.listen(), name="status watch")
        stack.push_async_callback(asyncio.gather, listening, return_exceptions=True)
        stack.callback(listening.cancel)
        await nodes.clients()
        yield nodes


def _pod(uid: str, node: str, at: str, labels: Mapping[str, str]) -> PodStarted:
    fields: dict[str, Any] = {"namespace": "bench", "name": uid, "started_at": time.time_ns()}
    return PodStarted(
        uid=uid, node=node, addresses=(at,), labels=tuple(sorted(labels.items())), **fields
    )
