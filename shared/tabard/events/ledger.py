"""Events on LEDGER: what the leading allocator decided. One total order, without holes.

Every read of Tabard is a fold of these (tabard.ledger); nothing that they say depends on anything
else. Addresses and times as in `tabard.events.observed`.
"""

from dataclasses import dataclass
from typing import Literal

from tabard.events.observed import Document, Pairs, Ports

Enforcement = Literal["default", "always", "never"]
"""Which pods are isolated: those that a policy isolates; all, in both directions; or none, and no
policy is enforced."""
BEHIND_MAX = 8
"""Most nodes that one event names as not waited for."""


@dataclass(frozen=True, slots=True)
class EpochClaimed:
    """An allocator took the lead. Whoever appends from an older place is refused by the bus."""

    epoch: int
    holder: str


@dataclass(frozen=True, slots=True)
class SettingsAdopted:
    """What is set at install and must be the same on every node and on every replay.

    Only `enforcement` may be another in a later one.
    """

    cluster: str
    cluster_id: int
    cluster_bits: int
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    fixed: tuple[tuple[int, tuple[str, ...]], ...]
    """Identities fixed by the operator: (number in 128-255, label set)."""
    retire_grace_ms: int
    enforcement: Enforcement = "default"
    names_kept_ms: int = 3_600_000
    """How long at least an address stands for a domain name after it was last said to."""


@dataclass(frozen=True, slots=True)
class NodeAdded:
    """A node has joined, or is another than before.

    One that has labels uses an identity of each of its addresses' CIDRs.
    """

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class NodeRemoved:
    """A node is gone for good, or no longer wants to be what it was refused as."""

    name: str


@dataclass(frozen=True, slots=True)
class NodeRefused:
    """A node claims what is another's. What was known of it before stays in force; it is added
    when the other no longer stands in its way."""

    name: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    labels: Pairs
    reason: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node got no further for longer than the limit: nothing waits for it any more.

    Its kernel may enforce the ledger as of `watermark` for as long as it runs, so its agent must
    fold the ledger to its end before it enforces anything newer.
    """

    name: str
    watermark: int
    """The last that it reported; 0 if it never did."""


@dataclass(frozen=True, slots=True)
class NodeReturned:
    """A lost node enforces the ledger past the event that it was lost by: it is live again."""

    name: str
    watermark: int


@dataclass(frozen=True, slots=True)
class NamespaceLabelled:
    name: str
    labels: Pairs


@dataclass(frozen=True, slots=True)
class NamespaceForgotten:
    name: str


@dataclass(frozen=True, slots=True)
class IdentityAllocated:
    """`identity` stands for `labels` from here on (numbers at and above 1 << 24 for a CIDR)."""

    identity: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdentityRetired:
    """Nobody uses the identity any more; the number stays in quarantine until released."""

    identity: int


@dataclass(frozen=True, slots=True)
class IdentityReleased:
    """Every live node's watermark has passed the retirement: the number may be used again.

    While a lost node's has not, all other free numbers are used before it.
    """

    identity: int


@dataclass(frozen=True, slots=True)
class NumbersExhausted:
    """No number is free and pods wait for one. Said once, until NumbersAvailable."""

    identities: int
    """Live ones of pods."""
    heaviest: tuple[tuple[str, int], ...]
    """Label keys with the most values among them, most first, and how many that are."""


@dataclass(frozen=True, slots=True)
class NumbersAvailable:
    """No pod waits for a number any more, and there are free ones."""

    free: int


@dataclass(frozen=True, slots=True)
class EndpointBound:
    """A pod has an identity, and its `addresses` are bound to it (they leave an older holder)."""

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


@dataclass(frozen=True, slots=True)
class RelabelPlanned:
    """A running pod's labels changed. It stays what it is until every live node knows `identity`,
    or the time for that is over; then EndpointRelabelled follows. Takes an older plan's place."""

    uid: str
    identity: int
    labels: Pairs


@dataclass(frozen=True, slots=True)
class RebindPlanned:
    """A namespace's labels changed: as RelabelPlanned for each (uid, identity), with the labels
    that it has."""

    namespace: str
    changes: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class EndpointRelabelled:
    """A running pod's labels changed; `identity` is the one that it has from here on.

    What was planned for it is done with.
    """

    uid: str
    identity: int
    labels: Pairs
    behind: tuple[str, ...] = ()
    """Live nodes that were not waited for any longer (the first BEHIND_MAX): until they get there
    they drop what the pod sends."""


@dataclass(frozen=True, slots=True)
class EndpointsRebound:
    """A namespace's labels changed: all of these (uid, identity) change at once."""

    namespace: str
    changes: tuple[tuple[str, int], ...]
    behind: tuple[str, ...] = ()
    """As of EndpointRelabelled."""


@dataclass(frozen=True, slots=True)
class EndpointUnbound:
    """The pod stopped. Its UID is remembered for a while, so that a late start revives nothing."""

    uid: str


@dataclass(frozen=True, slots=True)
class EndpointTombstoned:
    """A stop came before its start: the start, when it comes, changes nothing."""

    uid: str


@dataclass(frozen=True, slots=True)
class PodRefused:
    """A pod could not be given an identity. With `retry` it waits for a number to come free."""

    uid: str
    namespace: str
    name: str
    reason: str
    retry: bool
    node: str
    addresses: tuple[str, ...]
    labels: Pairs
    started_at: int
    service_account: str
    ports: Ports
    owner: str
    host_network: bool


@dataclass(frozen=True, slots=True)
class PolicyAccepted:
    kind: str
    namespace: str
    name: str
    document: Document
    origin: str


@dataclass(frozen=True, slots=True)
class PolicyRefused:
    """The policy is not in force, and a version accepted before stays in force."""

    kind: str
    namespace: str
    name: str
    reason: str
    """What, at which field path, and how to mend it."""
    origin: str


@dataclass(frozen=True, slots=True)
class PolicyForgotten:
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class WorkloadAccepted:
    kind: str
    namespace: str
    name: str
    document: Document
    origin: str


@dataclass(frozen=True, slots=True)
class WorkloadForgotten:
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class NameResolved:
    """From here on a domain name that policies ask for stands for these addresses too, or for
    longer: each as (address, nanoseconds since the Unix epoch at which it no longer does)."""

    name: str
    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class NameForgotten:
    """These addresses no longer stand for the name: their time is over, newer ones took their
    place, or no policy asks for the name any more."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventQuarantined:
    """Readers go on past this event: an operator said so, for this reason."""

    stream: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class CursorAdvanced:
    """All of `stream` through `sequence` has had its effect above; ends every batch."""

    stream: str
    sequence: int


@dataclass(frozen=True, slots=True)
class LedgerTrimmed:
    """What stands before `before` on this stream is, or is about to be, removed from it.

    A snapshot at `before` stands for it, whose state has this digest; the file that was made of the
    events has this name and SHA-256.
    """

    before: int
    digest: bytes
    archive: str
    archive_sha256: bytes


LedgerEvent = (
    EpochClaimed
    | SettingsAdopted
    | NodeAdded
    | NodeRemoved
    | NodeRefused
    | NodeLost
    | NodeReturned
    | NamespaceLabelled
    | NamespaceForgotten
    | IdentityAllocated
    | IdentityRetired
    | IdentityReleased
    | NumbersExhausted
    | NumbersAvailable
    | EndpointBound
    | RelabelPlanned
    | RebindPlanned
    | EndpointRelabelled
    | EndpointsRebound
    | EndpointUnbound
    | EndpointTombstoned
    | PodRefused
    | PolicyAccepted
    | PolicyRefused
    | PolicyForgotten
    | WorkloadAccepted
    | WorkloadForgotten
    | NameResolved
    | NameForgotten
    | EventQuarantined
    | LedgerTrimmed
    | CursorAdvanced
)
