"""The rig: a running cluster, and who is who in it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tabard.bus.monitoring import ask
from tabard.bus.port import Bus, BusUnavailable, Stream
from tabard.chaos.record import Acknowledged
from tabard.cluster.allocators import Allocators, AllocatorWord
from tabard.cluster.bus import names
from tabard.cluster.programs import SOURCE, agent_name, allocator_names, replica_name
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.events.status import AllocatorStatus
from tabard.netns.names import hub_namespace, node_namespace, service_namespace

BUS_SERVERS, ALLOCATORS, NODES = 3, 2, 3
POLL_S = 0.05
ASK_S = 1.0
"""Longest wait for a server's monitoring: one that stands still gives no answer."""


class RigError(Exception):
    """The cluster is not what a fault needs it to be; says what is missing."""


def settings(name: str = "", mode: str = "overlay", **extra: str) -> Settings:
    """The cluster that chaos is run on: several of everything, each alone in its namespace.

    `extra` are settings of its processes, as `Settings.extra`. Identities that fall idle are given
    back at once, so that their numbers come to stand for others.
    """
    if mode not in ("overlay", "native"):
        raise RigError(f"there is no mode {mode!r}; use overlay or native")
    return Settings(
        name=name,
        nodes=NODES,
        allocators=ALLOCATORS,
        bus_servers=BUS_SERVERS,
        mode="native" if mode == "native" else "overlay",
        dataplane="ebpf",
        apart=True,
        ready_timeout_s=120.0,
        extra={"RETIRE_GRACE_MS": "1000"} | extra,
    )


class ClusterRig:
    """`Rig` of a cluster that was made by `settings`."""

    def __init__(self, cluster: Cluster, acknowledged: list[Acknowledged] | None = None) -> None:
        self.cluster = cluster
        self.acknowledged: list[Acknowledged] = [] if acknowledged is None else acknowledged
        self.run = cluster.name
        self._allocators = Allocators()

    @property
    def bus(self) -> Bus:
        return self.cluster.bus

    @property
    def data(self) -> Path:
        return self.cluster.data

    @property
    def bus_servers(self) -> tuple[str, ...]:
        return names(self.cluster.settings.bus_servers)

    @property
    def allocators(self) -> tuple[str, ...]:
        return allocator_names(self.cluster.settings.allocators)

    @property
    def agents(self) -> tuple[str, ...]:
        return tuple(agent_name(node.name) for node in self.cluster.nodes)

    def namespace(self, process: str) -> str:
        if process in self.agents:
            return node_namespace(self.run, process.partition(".")[2])
        if process in (*self.bus_servers, *self.allocators):
            return service_namespace(self.run, process)
        if process == SOURCE:
            return hub_namespace(self.run)
        raise RigError(
            f"there is no process {process!r}; there are {', '.join(self.cluster.children)}"
        )

    async def bus_leader(self, stream: Stream = Stream.LEDGER) -> str:
        """As `Rig` has it; while two say so, one of which was cut off as it led, it waits too."""
        while True:
            leads = [
                replica.server
                for each in await ask(self.cluster.profile.monitoring, ASK_S)
                for replica in each.replicas
                if replica.stream is stream and replica.leads
            ]
            if len(leads) == 1:
                return leads[0]
            await asyncio.sleep(POLL_S)

    async def allocator_words(self) -> dict[str, AllocatorStatus]:
        """What each allocator said last, by its process's name; BusUnavailable."""
        words = await self._allocators.heard(self.bus)
        said = {process: words.get(replica_name(process)) for process in self.allocators}
        return {process: word.status for process, word in said.items() if word is not None}

    async def allocator_leader(self) -> str:
        while True:
            try:
                words = await self._allocators.heard(self.bus)
                now = (await self.bus.info(Stream.STATUS)).now
            except BusUnavailable:
                await asyncio.sleep(POLL_S)
                continue
            name = leading(words, now)
            for process in self.allocators:
                if replica_name(process) == name:
                    return process
            await asyncio.sleep(POLL_S)


def leading(words: Mapping[str, AllocatorWord], now: int) -> str:
    """Which of the allocators leads, by their last words; "" if none. `now` by the bus's clock.

    One that was killed or paused goes on to lead by its last word, until that is old or another
    has claimed a later epoch.
    """
    fresh = [
        word.status
        for word in words.values()
        if word.status.role == "leading" and not word.silent(now)
    ]
    return max(fresh, key=lambda status: status.epoch).name if fresh else ""
