"""Events on STATUS and FLOWS: what nodes say back, and what allocators say of themselves. Nothing
is decided from FLOWS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Role = Literal["starting", "following", "leading", "stopped"]
"""What an allocator does; `stopped` is its last word, and gives the lead free."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Node `node` enforces the ledger through `sequence`; the way back to the allocator."""

    node: str
    sequence: int
    """The watermark: the kernel maps equal compile(fold(ledger, sequence))."""
    dataplane: str
    """`ebpf` or `memory`."""
    endpoints: int
    map_writes: tuple[tuple[str, int], ...]
    """Entries written or deleted since the agent's maps were made, per map."""
    error: str = ""
    """Why the agent does not go on (the sequence it stopped before, a full map), or empty."""
    drift: int = 0
    """Entries found different from the desired ones at the last check, before repair."""
    full: tuple[tuple[str, int], ...] = ()
    """Maps that were full since the agent started → how many writes each refused."""
    digest: bytes = b""
    """Of the folded state at `digest_at` (`tabard.ledger.digest`); empty before the first."""
    digest_at: int = 0
    """The sequence at which the ledger was last quiet for long enough to take its digest."""


@dataclass(frozen=True, slots=True)
class AllocatorStatus:
    """What an allocator says about every second and at each change of its role.

    The leader's are signs of life for those that follow; what it may do the ledger alone says.
    """

    name: str
    """The same for all processes of one replica."""
    holder: str
    """This process, as EpochClaimed names it."""
    role: Role
    epoch: int
    """As of `sequence`, like `cursor`."""
    sequence: int
    """Through which it has folded the ledger."""
    cursor: int
    """Through which OBSERVED has had its effect."""
    waiting: int = 0
    """Observed events that it has read and not decided."""
    superseded: int = 0
    """Observed events that it passed over since its start, for later ones that undid them."""
    error: str = ""
    """What it stands before, or empty."""


@dataclass(frozen=True, slots=True)
class FlowSeen:
    """One verdict that the dataplane gave to a new flow."""

    node: str
    at: int
    direction: str
    verdict: str
    reason: str
    source: str
    destination: str
    source_identity: int
    destination_identity: int
    protocol: int
    source_port: int
    destination_port: int


FlowRow = tuple[int, str, str, str, str, str, int, int, int, int, int]
"""The fields of FlowSeen after `node`, in order."""


@dataclass(frozen=True, slots=True)
class FlowsSeen:
    """A batch of verdicts, as they are published: one event each would cost more than it says."""

    node: str
    lost: int
    """Records that the node could not keep or publish, since its agent started."""
    flows: tuple[FlowRow, ...]

    def each(self) -> Iterator[FlowSeen]:
        return (FlowSeen(self.node, *row) for row in self.flows)


StatusEvent = NodeStatus | AllocatorStatus | FlowSeen | FlowsSeen
