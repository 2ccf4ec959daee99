"""Events on STATUS and FLOWS: what nodes say back, and what allocators say of themselves. Nothing
is decided from FLOWS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Role = Literal["starting", "following", "leading", "stopped"]
"""What an allocator does; `stopped` is its last word, and gives the lead free."""


class Holder(NamedTuple):
    """One process of an agent: who speaks for a node."""

    host: str
    """The machine's name."""
    boot: str
    """Of the machine's kernel, since it was booted (/proc/sys/kernel/random/boot_id)."""
    pid: int
    """In its own namespace of pids."""
    since: int
    """When the process started, in nanoseconds since the Unix epoch."""
    data: str
    """Its data directory."""
    lock: str
    """The file that it locks while it lives, by device and inode: on one boot, who else has that
    lock knows it for dead."""
    token: bytes
    """16 random bytes, of this process alone."""


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
    holder: Holder | None = None
    """None from an agent of before there was one."""
    stopped: bool = False
    """The holder's last word: it has stopped, and the node is free for another."""
    heartbeat_ms: int = 3_000
    """Longest until its next word."""
    lag: int = 0
    """Ledger events that it knows of and does not enforce."""
    fresh_at: int = 0
    """When it last knew that it enforced the ledger's head, in nanoseconds since the Unix epoch; 0:
    not since its start."""
    stale_since: int = 0
    """When that became too long ago, by `stale_after_ms` or `deny_after_ms`; 0: it is not."""
    stale_after_ms: int = 0
    """After how long it counts as stale; 0 from an agent of before there was a bound."""
    deny_after_ms: int = 0
    """After how long some of its endpoints open no new flows; 0: never."""


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
