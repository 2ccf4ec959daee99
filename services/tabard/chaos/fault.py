"""What a fault is, and what it gets to work on."""

from pathlib import Path
from random import Random
from typing import Protocol, runtime_checkable

from tabard.bus.port import Bus, Stream
from tabard.chaos.record import Acknowledged, Packet
from tabard.cluster.supervisor import Cluster


class Rig(Protocol):
    """A running cluster as faults see it: who is who at the moment, and where each lives."""

    cluster: Cluster
    run: str
    """The run's name, in the names of all that is made."""

    @property
    def bus(self) -> Bus:
        """A connection of the run's own, from a namespace that no fault cuts off."""
        ...

    @property
    def data(self) -> Path: ...

    @property
    def acknowledged(self) -> list[Acknowledged]:
        """What the bus acknowledged in this run; whoever publishes adds to it."""
        ...

    @property
    def bus_servers(self) -> tuple[str, ...]:
        """Process names: `nats.1` …"""
        ...

    @property
    def allocators(self) -> tuple[str, ...]: ...

    @property
    def agents(self) -> tuple[str, ...]:
        """Process names: `agent.n1` …"""
        ...

    def namespace(self, process: str) -> str:
        """The network namespace that this process, and no other service, lives in."""
        ...

    async def bus_leader(self, stream: Stream = Stream.LEDGER) -> str:
        """The process name of the server that leads the stream now; waits while none does."""
        ...

    async def allocator_leader(self) -> str:
        """The process name of the allocator that leads now; waits while none does."""
        ...


class Fault(Protocol):
    """One fault. It is injected once and healed once, whatever went wrong in between; two runs at a
    time must not see each other's."""

    name: str
    """As `kill -9 of the bus's leader`."""

    async def inject(self, rig: Rig, chance: Random) -> str:
        """Do it; what was hit, for the record. Whatever it draws comes from `chance` alone."""
        ...

    async def heal(self, rig: Rig) -> None:
        """Undo what does not end by itself; nothing where `inject` did nothing."""
        ...


@runtime_checkable
class Sending(Protocol):
    """What a fault is besides that sends packets itself."""

    packets: list[Packet]
    """What became of them; whole once it is healed."""
