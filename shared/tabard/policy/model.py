"""Policies in one language-neutral form, after reading and before compiling.

A reader (`tabard.policy.reading`) makes a document into policies, whose rules may speak of peers by
reference: a group of CIDRs, a Service, nodes, a domain name. `tabard.policy.referents` puts in what
these stand for in one state; after that a peer is a Selector or a Cidr.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tabard.dataplane.maps import Action, Direction, Protocol, Tier


class PolicyError(Exception):
    """A policy cannot be taken: says what, at which field path, and how to mend it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class NotEnforced(PolicyError):
    """A policy that is right in its language asks for what Tabard does not do."""


ANY_SOURCE = "any"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label key, as in meta/v1 LabelSelectorRequirement.

    `key` is a key of a label set without its source; `operator` is one of In, NotIn, Exists,
    DoesNotExist. A missing key satisfies NotIn and DoesNotExist. `source` ANY_SOURCE is every
    source but that of named ports (Cilium's `any:key`).
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()
    source: str = "k8s"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none selects every live identity, reserved and CIDRs' too.

    Reserved identities carry `reserved:<name>`, those of CIDRs `cidr:<prefix>` and, as all that is
    outside, `reserved:world` and `reserved:world-ipv4` or `-ipv6`.
    """

    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Cidr:
    """Addresses in `prefix` but in none of `excepts`, all canonical."""

    prefix: str
    excepts: tuple[str, ...] = ()
    holds_members: bool = True
    """Whether pods and nodes at such an address are meant too (networking/v1 IPBlock), or the
    world alone (Cilium's CIDR rules)."""


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """The CIDRs of the CiliumCIDRGroups of this name, or of these labels, less `excepts`."""

    name: str = ""
    selector: Selector | None = None
    excepts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """What is behind Services: of this name, or of these labels, in `namespace` ("": in any)."""

    namespace: str
    name: str = ""
    selector: Selector | None = None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The addresses of nodes that have these labels, whose source is `node`."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class DomainName:
    """The addresses that names were last resolved to; `*` in a pattern is any run of name
    characters without a dot, and `**.` at its start one label or more (Cilium's
    pkg/fqdn/matchpattern)."""

    pattern: str
    """Lower case, without the last dot."""


Reference = CidrGroup | Service | Nodes | DomainName
Peer = Selector | Cidr | Reference


@dataclass(frozen=True, slots=True)
class Port:
    """Destination ports `first` to `last` (for ICMP the type), or the containerPort named `name`.

    No number and no name: every port of the protocol; protocol ANY: all traffic.
    """

    protocol: Protocol
    first: int = 0
    last: int = 65_535
    name: str = ""
    lookups: frozenset[str] | None = None
    """If given, DNS alone may pass, through the node's proxy, and ask for names of these patterns
    (as in DomainName)."""


ALL_PORTS = (Port(Protocol.ANY),)


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do with traffic between the subject and any of `peers` on any of `ports`.

    `peers` None is any known peer; an empty tuple is nobody. `path` is the field path of the rule
    in its document (`spec.ingress[0]`), which explanations show.
    """

    direction: Direction
    peers: tuple[Peer, ...] | None
    ports: tuple[Port, ...]
    path: str
    action: Action = Action.ALLOW
    peer_paths: tuple[str, ...] = ()
    """Where each of `peers` was written, beneath `path` (`from[0]`, `toCIDRSet[2]`)."""
    port_paths: tuple[str, ...] = ()
    """Where each of `ports` was written, beneath `path` (`ports[0]`); none for ALL_PORTS."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One subject and its rules: a policy object, or one of the `specs` of an object.

    `subject` are the pods it selects, `isolates` the directions in which a selected pod is denied
    what no rule of its tier allows.

    Tiers are judged in order. In NETWORK any deny goes before any allow. In ADMIN and BASELINE
    rules are judged in order of (priority, kind, policy name, place in the document) and the first
    that matches decides; `Action.PASS` leaves the decision to the next tier.
    """

    kind: str
    namespace: str
    """"" for a cluster-wide kind."""
    name: str
    subject: Selector
    isolates: frozenset[Direction]
    rules: tuple[Rule, ...]
    origin: str = ""
    tier: Tier = Tier.NETWORK
    priority: int = 0
    section: str = "spec"
    """Field path of the part of the document that this is."""
    subject_field: str = "podSelector"
    """Where `subject` was written, beneath `section`."""
    selects_nodes: bool = False
    """The subject are nodes by their labels (Cilium's host policies), not pods."""
    stale_after_s: int = 0
    """A selected pod opens no new flow once its node does not know for so long what the ledger
    says; 0: however long. At most STALE_AFTER_S_MAX (`tabard.policy.staleness`)."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)

    def references(self) -> Iterator[Reference]:
        """Every peer that stands for what a state says."""
        for rule in self.rules:
            for peer in rule.peers or ():
                if not isinstance(peer, Selector | Cidr):
                    yield peer

    def cidrs(self) -> frozenset[str]:
        """Every CIDR the policy names, excepts included: each gets an identity of its own."""
        return frozenset(
            prefix for rule in self.rules for peer in rule.peers or () for prefix in _prefixes(peer)
        )


def _prefixes(peer: Peer) -> tuple[str, ...]:
    match peer:
        case Cidr():
            return (peer.prefix, *peer.excepts)
        case CidrGroup():
            return peer.excepts
        case _:
            return ()
