"""What the allocator is asked to do: mostly what was observed, as it was observed."""

from dataclasses import dataclass, field

from tabard.events import observed

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Reject:
    """Go on past an observed event that cannot have an effect; the ledger says why."""

    stream: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """For how long nodes are waited for, in milliseconds."""

    node_lost_ms: int = 600_000
    """A node that gets no further for longer is lost."""
    relabel_timeout_ms: int = 3_000
    """A running pod's new identity waits no longer for nodes to know it."""

    @property
    def node_lost_ns(self) -> int:
        return self.node_lost_ms * NS_PER_MS

    @property
    def relabel_timeout_ns(self) -> int:
        return self.relabel_timeout_ms * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by. `now` in nanoseconds since the Unix epoch."""

    now: int
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Resolve:
    """`addresses` were said to stand for `name`; `now` in nanoseconds since the Unix epoch."""

    name: str
    addresses: tuple[str, ...]
    ttl_s: int
    now: int


Command = (
    observed.PodStarted
    | observed.PodLabelsChanged
    | observed.PodStopped
    | observed.NamespaceLabelsSet
    | observed.NamespaceRemoved
    | observed.PolicySet
    | observed.PolicyRemoved
    | observed.NodeJoined
    | observed.NodeLeft
    | observed.WorkloadSet
    | observed.WorkloadRemoved
    | observed.QuarantineRequested
    | observed.TrimRequested
    | Resolve
    | Reject
    | Tick
)
