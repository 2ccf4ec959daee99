"""What the allocator is asked to do: mostly what was observed, as it was observed."""

from collections.abc import Mapping
from dataclasses import dataclass

from tabard.events import observed


@dataclass(frozen=True, slots=True)
class Reject:
    """Go on past an observed event that cannot have an effect; the ledger says why."""

    stream: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by. `now` in nanoseconds since the Unix epoch; `watermarks` by node."""

    now: int
    watermarks: Mapping[str, int]


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
