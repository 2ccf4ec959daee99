"""Policies in one language-neutral form, after reading and before compiling."""

from dataclasses import dataclass

from tabard.dataplane.maps import Direction, Protocol


class PolicyError(Exception):
    """A policy cannot be taken: says what, at which field path, and how to mend it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label key, as in meta/v1 LabelSelectorRequirement.

    `key` is a key of a label set without its source; `operator` is one of In, NotIn, Exists,
    DoesNotExist. A missing key satisfies NotIn and DoesNotExist.
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()
    source: str = "k8s"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none selects every pod."""

    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class Cidr:
    """Addresses in `prefix` but in none of `excepts`, all canonical (networking/v1 IPBlock)."""

    prefix: str
    excepts: tuple[str, ...] = ()


Peer = Selector | Cidr


@dataclass(frozen=True, slots=True)
class Port:
    """Destination ports `first` to `last` (for ICMP the type), or the containerPort named `name`.

    No number and no name: every port of the protocol; protocol ANY: all traffic.
    """

    protocol: Protocol
    first: int = 0
    last: int = 65_535
    name: str = ""


ALL_PORTS = (Port(Protocol.ANY),)


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows traffic between the subject and any of `peers` on any of `ports`.

    `peers` None is any known peer; an empty tuple is nobody. `path` is the field path of the rule
    in its document (`spec.ingress[0]`), which explanations show.
    """

    direction: Direction
    peers: tuple[Peer, ...] | None
    ports: tuple[Port, ...]
    path: str


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy object: `subject` are the pods it selects, `isolates` the directions in which a
    selected pod is denied what no rule allows."""

    kind: str
    namespace: str
    name: str
    subject: Selector
    isolates: frozenset[Direction]
    rules: tuple[Rule, ...]
    origin: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)

    def cidrs(self) -> frozenset[str]:
        """Every CIDR the policy names, excepts included: each gets an identity of its own."""
        return frozenset(
            prefix
            for rule in self.rules
            for peer in rule.peers or ()
            if isinstance(peer, Cidr)
            for prefix in (peer.prefix, *peer.excepts)
        )
