"""The state that LEDGER says, through one sequence.

Allocator, agents, sources, command line and audits all hold this one class, so that they cannot
disagree. It is mutable for speed (a step is a few dictionary look-ups); only `tabard.ledger.fold`
changes it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from tabard.events.chain import GENESIS
from tabard.events.ledger import (
    Enforcement,
    NodeRefused,
    NumbersExhausted,
    PodRefused,
    PolicyAccepted,
    PolicyRefused,
    SettingsAdopted,
    WorkloadAccepted,
)
from tabard.events.observed import Pairs, Ports
from tabard.identity.labels import HOSTNAME, NODE_SOURCE, LabelSet, host_cidr, label_set

TOMBSTONES_MAX = 65_536
"""UIDs of stopped pods that are remembered, so that a late start revives none of them."""
REFUSALS_MAX = 4_096
"""Refused policies, pods and nodes that are kept, of each kind; the oldest make room."""

SHARED_MAX = 65_536
"""Values that `shared` remembers: more than a cluster has pod templates, nodes and namespaces."""

ObjectKey = tuple[str, str, str]
"""(kind, namespace, name)"""


T = TypeVar("T", str, Pairs, Ports)


@lru_cache(maxsize=SHARED_MAX)
def shared(value: T) -> T:
    """`value`, or an equal one from before: pods of one template hold one copy of what is alike."""
    return value


@dataclass(slots=True)
class Identity:
    labels: LabelSet
    allocated_at: int
    """Ledger sequence."""
    users: int = 0
    """Endpoints that have it or are to have it; or, of a CIDR's: policies that name it, labelled
    nodes that are it, and domain names that its one address stands for."""
    idle_since: int | None = None
    """Nanoseconds since the Unix epoch when the last user went, by the ledger's clock."""


@dataclass(slots=True)
class EndpointState:
    """A bound pod. `addresses` are those it still holds."""

    uid: str
    namespace: str
    name: str
    node: str
    identity: int
    addresses: tuple[str, ...]
    labels: Pairs
    started_at: int
    service_account: str
    ports: Ports
    owner: str
    host_network: bool
    bound_at: int
    """Ledger sequence of its latest binding or identity change."""


@dataclass(frozen=True, slots=True)
class Relabel:
    """What is planned for a bound pod: the identity and labels that it is to have."""

    uid: str
    identity: int
    labels: Pairs
    planned_at: int
    """Ledger sequence: who enforces the ledger through it is ready."""
    since: int
    """When the first change was planned that still waits, in nanoseconds since the Unix epoch, by
    the ledger's clock."""


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node that nothing waits for."""

    name: str
    watermark: int
    """What it enforced last, as far as is known."""
    lost_at: int
    """Ledger sequence: once its watermark has passed it, it is live again."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    labels: Pairs = ()

    def label_set(self) -> LabelSet:
        """What selectors of nodes see; every node has a hostname."""
        labels = {HOSTNAME: self.name, **dict(self.labels)}
        return label_set(f"{NODE_SOURCE}:{key}={value}" for key, value in labels.items())

    def cidrs(self) -> tuple[str, ...]:
        """The CIDRs of its addresses, each with an identity of its own; none if it has no labels,
        as in ledgers from before there were any."""
        if not self.labels:
            return ()
        return tuple(map(host_cidr, self.addresses))


@dataclass(slots=True)
class State:
    """Everything through `sequence`, whose chain hash is `chain`."""

    sequence: int = 0
    chain: bytes = GENESIS
    epoch: int = 0
    holder: str = ""
    settings: SettingsAdopted | None = None
    cursors: dict[str, int] = field(default_factory=dict)
    """Input stream → sequence through which it has had its effect."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """The lost ones too."""
    lost: dict[str, LostNode] = field(default_factory=dict)
    refused_nodes: OrderedDict[str, NodeRefused] = field(default_factory=OrderedDict)
    namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    identities: dict[int, Identity] = field(default_factory=dict)
    """Live identities, those fixed by the operator included."""
    numbers: dict[LabelSet, int] = field(default_factory=dict)
    """The inverse: one-number-one-set."""
    retired: dict[int, int] = field(default_factory=dict)
    """Numbers in quarantine → the ledger sequence of their retirement."""
    doubtful: dict[int, int] = field(default_factory=dict)
    """Free numbers that a lost node may still take for what they were → the sequence of their
    retirement."""
    exhausted: NumbersExhausted | None = None
    """While pods wait for a number."""
    idle: dict[int, None] = field(default_factory=dict)
    """Live identities without users, in the order in which they fell idle."""
    endpoints: dict[str, EndpointState] = field(default_factory=dict)
    """By pod UID."""
    relabels: dict[str, Relabel] = field(default_factory=dict)
    """By pod UID, in the order in which they were planned."""
    bindings: dict[str, str] = field(default_factory=dict)
    """Address → UID of the endpoint that holds it."""
    by_node: dict[str, dict[str, None]] = field(default_factory=dict)
    """Node → UIDs of its endpoints."""
    by_namespace: dict[str, dict[str, None]] = field(default_factory=dict)
    """Namespace → UIDs of its endpoints."""
    tombstones: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """UIDs of stopped pods → ledger sequence, oldest first."""
    waiting: dict[str, PodRefused] = field(default_factory=dict)
    """Pods refused for want of a number, oldest first."""
    refused_pods: OrderedDict[str, PodRefused] = field(default_factory=OrderedDict)
    policies: dict[ObjectKey, PolicyAccepted] = field(default_factory=dict)
    refused_policies: OrderedDict[ObjectKey, PolicyRefused] = field(default_factory=OrderedDict)
    workloads: dict[ObjectKey, WorkloadAccepted] = field(default_factory=dict)
    names: dict[str, dict[str, int]] = field(default_factory=dict)
    """Domain name → address → until when it stands for it, in nanoseconds since the Unix epoch."""
    quarantined: dict[tuple[str, int], str] = field(default_factory=dict)
    """(stream, sequence) → the operator's reason."""


def enforcement_of(state: State) -> Enforcement:
    """The enforcement that the ledger says, also before it says any."""
    return "default" if state.settings is None else state.settings.enforcement


def live_nodes(state: State) -> list[str]:
    """Those that are waited for: known, and not lost."""
    return [name for name in state.nodes if name not in state.lost]
