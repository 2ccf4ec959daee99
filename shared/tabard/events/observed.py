"""Events on OBSERVED: what sources saw or were asked for. Nothing here is decided yet.

Addresses are canonical text (`10.244.1.7`, `fd00::7`), times nanoseconds since the Unix epoch.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

Ports = tuple[tuple[str, int, str], ...]
"""(name, number, protocol) of each named containerPort (core/v1 ContainerPort)."""
Pairs = tuple[tuple[str, str], ...]
"""A string map as sorted pairs, so that equal maps are equal values and equal bytes."""


def _thaw(value: Any) -> Any:
    """msgpack arrays are read as tuples; in a document they are lists, as its author wrote them."""
    if isinstance(value, tuple | list):
        return [_thaw(item) for item in value]
    if isinstance(value, dict):
        return {key: _thaw(item) for key, item in value.items()}
    return value


Document = Annotated[dict[str, Any], BeforeValidator(_thaw)]
"""A manifest as plain maps, lists and scalars."""


@dataclass(frozen=True, slots=True)
class PodStarted:
    """A pod was placed on a node. `uid` is its incarnation: who reuses its name has another."""

    uid: str
    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...]
    labels: Pairs
    started_at: int
    """Start of this incarnation; of two pods with one address the later start holds it."""
    service_account: str = "default"
    ports: Ports = ()
    owner: str = ""
    """`Kind/namespace/name` of the workload that it belongs to.

    A pod that names one is the manifest source's, which stops it if there is no such workload;
    other sources leave this empty.
    """
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class PodLabelsChanged:
    """The full set of a running pod's labels after a change."""

    uid: str
    labels: Pairs


@dataclass(frozen=True, slots=True)
class PodStopped:
    uid: str


@dataclass(frozen=True, slots=True)
class NamespaceLabelsSet:
    """The full set of a namespace's labels."""

    name: str
    labels: Pairs


@dataclass(frozen=True, slots=True)
class NamespaceRemoved:
    name: str


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A policy object as its author wrote it (a Kubernetes manifest, read from YAML or JSON)."""

    document: Document
    origin: str = ""
    """Where it was written, as `file:line`."""


@dataclass(frozen=True, slots=True)
class PolicyRemoved:
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node and what its peers must know of it: underlay addresses and the pods' CIDRs.

    `labels` are what policies select nodes by.
    """

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class NodeLeft:
    name: str


@dataclass(frozen=True, slots=True)
class WorkloadSet:
    """A workload object as its author wrote it (Deployment, StatefulSet, bare Pod, Service, …)."""

    document: Document
    origin: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadRemoved:
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class NameAnswered:
    """A pod of `node` asked for `name`, and a DNS server said where it is."""

    node: str
    name: str
    """Lower case, without the last dot."""
    addresses: tuple[str, ...]
    ttl_s: int
    """How long the server lets the answer be kept: the least of its records'."""


@dataclass(frozen=True, slots=True)
class QuarantineRequested:
    """An operator's word that readers go on past an event that they cannot read."""

    stream: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class TrimRequested:
    """An operator's word that the ledger is to begin at `before`, as LedgerTrimmed has it.

    Whoever asks has made sure of the snapshot and the archive, and removes the events once the
    ledger says so.
    """

    before: int
    digest: bytes
    archive: str
    archive_sha256: bytes


ObservedEvent = (
    PodStarted
    | PodLabelsChanged
    | PodStopped
    | NamespaceLabelsSet
    | NamespaceRemoved
    | PolicySet
    | PolicyRemoved
    | NodeJoined
    | NodeLeft
    | WorkloadSet
    | WorkloadRemoved
    | NameAnswered
    | QuarantineRequested
    | TrimRequested
)
