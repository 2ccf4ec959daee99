"""From accepted policies to the entries of the policy map.

The policies that select an identity are its rule set. Its id is a hash of what they say, so that
equal rule sets share their entries, and a changed one has new entries under a new id, to which an
endpoint is turned at once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

from tabard.dataplane.maps import (
    AT_CIDR,
    Direction,
    EndpointFlag,
    PolicyKey,
    Strength,
    strength,
)
from tabard.dataplane.verdict import CIDR_PODS, ENFORCED, IN_TIER, ISOLATED
from tabard.events.ledger import PolicyAccepted
from tabard.identity.labels import NAMED_PORT_SOURCE, LabelSet, cidr_label
from tabard.policy.matching import IdentityIndex, Matched
from tabard.policy.model import Cidr, Policy, Port, Requirement, Rule, Selector
from tabard.policy.prefixes import Universe

NamedPorts = frozenset[tuple[str, int, str]]
"""(name, number, protocol)"""


def hash64(*parts: bytes) -> int:
    """64 bits that stand for `parts`; never 0, which stands for nothing."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return int.from_bytes(digest.digest()) or 1


class Peers:
    """Whom one rule names: anyone, or what selectors match and CIDRs hold."""

    __slots__ = ("anyone", "cidrs", "having_port", "matched", "port_names")

    def __init__(self, rule: Rule, index: IdentityIndex) -> None:
        peers = rule.peers or ()
        self.anyone = rule.peers is None
        self.matched = [index.track(peer) for peer in peers if isinstance(peer, Selector)]
        self.cidrs = [peer for peer in peers if isinstance(peer, Cidr)]
        is_egress = rule.direction is Direction.EGRESS
        self.port_names = {port.name for port in rule.ports if port.name and is_egress}
        """Names that mean each peer's own port."""
        self.having_port: Mapping[str, Matched] = {}
        """If anyone is named: each of `port_names` → the identities that have it."""
        if self.anyone:
            self.having_port = {name: index.track(_having(name)) for name in self.port_names}

    def watched(self) -> Iterator[Matched]:
        yield from self.matched
        yield from self.having_port.values()

    def numbers(self, universe: Universe, only: Set[int] | None) -> set[int]:
        """The identities that are named, 0 for anyone; of `only` those, if it is given."""
        if only is None:
            found = {0} if self.anyone else set()
            found.update(*(matched.numbers for matched in self.matched))
            return found.union(*(members(universe, cidr) for cidr in self.cidrs))
        found = {0} & only if self.anyone else set()
        found.update(*(only & matched.numbers for matched in self.matched))
        return found.union(*(only & members(universe, cidr) for cidr in self.cidrs))


def members(universe: Universe, cidr: Cidr) -> Set[int]:
    """Whom a CIDR names: the world there and, if it holds them, pods and nodes there."""
    world = universe.inside(cidr)
    return world | {number | AT_CIDR for number in world} if cidr.holds_members else world


def _having(port_name: str) -> Selector:
    return Selector((Requirement(port_name, "Exists", source=NAMED_PORT_SOURCE),))


def meaning(accepted: PolicyAccepted) -> bytes:
    """What a policy says, as bytes."""
    # Not all of the document: a new annotation changes no rule and must not drop flows.
    said = [accepted.kind, accepted.namespace, accepted.name, accepted.document.get("spec")]
    return json.dumps(said, sort_keys=True).encode()


class Prepared:
    """A policy with its selectors under watch until it is released."""

    def __init__(self, policy: Policy, said: bytes, index: IdentityIndex) -> None:
        self.policy = policy
        self.meaning = said
        self.cidrs = {cidr: LabelSet((cidr_label(cidr),)) for cidr in self.policy.cidrs()}
        self.subject = index.track(self.policy.subject)
        self.rules = [(rule, Peers(rule, index)) for rule in self.policy.rules]
        self.flags = EndpointFlag(0)
        for direction in self.policy.isolates:
            self.flags |= ENFORCED[direction] | ISOLATED[direction]
            self.flags |= IN_TIER[self.policy.tier][direction]
        for rule, peers in self.rules:
            if any(cidr.holds_members for cidr in peers.cidrs):
                self.flags |= CIDR_PODS[rule.direction]
        self.ingress_names = {
            port.name
            for rule in self.policy.rules
            if rule.direction is Direction.INGRESS
            for port in rule.ports
            if port.name
        }

    def release(self, index: IdentityIndex) -> None:
        index.release(self.subject)
        for _, peers in self.rules:
            for matched in peers.watched():
                index.release(matched)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The policies that select an identity, and what their ingress port names mean for it."""

    id: int
    policies: tuple[Prepared, ...]
    flags: EndpointFlag
    ports: NamedPorts
    """The subject's named ports, as far as an ingress rule names them."""

    def peers(self) -> Iterator[Peers]:
        return (peers for prepared in self.policies for _, peers in prepared.rules)

    def watched(self) -> Iterator[Matched]:
        """The selectors on whose answers its entries depend."""
        return (matched for peers in self.peers() for matched in peers.watched())

    def keys(
        self,
        rule: Rule,
        peers: Peers,
        index: IdentityIndex,
        universe: Universe,
        only: Set[int] | None = None,
    ) -> Iterator[tuple[PolicyKey, Strength]]:
        """The entries of one of its rules; those for the peers `only`, if they are given."""
        identities = peers.numbers(universe, only)
        for port in rule.ports:
            to: Set[int] = identities
            if not port.name:
                blocks = list(port_blocks(port.first, port.last))
            elif rule.direction is Direction.INGRESS:
                blocks = _named_blocks(port, self.ports)
            elif peers.anyone:
                to = peers.having_port[port.name].numbers
                to = to if only is None else only & to
            for identity in to:
                if port.name and rule.direction is Direction.EGRESS:
                    blocks = _named_blocks(port, index.ports(identity))
                for first, bits in blocks:
                    key = PolicyKey(self.id, rule.direction, identity, port.protocol, first, bits)
                    yield key, strength(rule.action)


def rule_set(policies: Sequence[Prepared], subject_ports: NamedPorts) -> RuleSet:
    """The rule set that `policies` (in the order of their keys) are for a subject."""
    if not policies:
        return RuleSet(0, (), EndpointFlag(0), frozenset())
    flags = EndpointFlag(0)
    for prepared in policies:
        flags |= prepared.flags
    names = set().union(*(prepared.ingress_names for prepared in policies))
    ports = frozenset(port for port in subject_ports if port[0] in names)
    resolved = json.dumps(sorted(ports)).encode()
    id = hash64(
        *(prepared.meaning + prepared.policy.section.encode() for prepared in policies), resolved
    )
    return RuleSet(id, tuple(policies), flags, ports)


class Entries:
    """A rule set's entries in the policy map, by their peer."""

    __slots__ = ("_by_peer", "egress_peers", "rules", "subjects")

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.subjects: set[int] = set()
        """The identities here that have this rule set."""
        self.egress_peers: set[int] = set()
        """Identities that an egress entry names; 0 is any."""
        self._by_peer: dict[int, dict[PolicyKey, Strength]] = {}

    def refresh(
        self, index: IdentityIndex, universe: Universe, only: Set[int] | None = None
    ) -> dict[PolicyKey, Strength | None]:
        """Make them right for all peers, or for `only` those; what they are now, None if gone."""
        found: dict[int, dict[PolicyKey, Strength]] = {}
        for prepared in self.rules.policies:
            for rule, peers in prepared.rules:
                for key, value in self.rules.keys(rule, peers, index, universe, only):
                    found.setdefault(key.identity, {})[key] = value
        changed: dict[PolicyKey, Strength | None] = {}
        for peer in self._by_peer.keys() | found.keys() if only is None else only:
            before, after = self._by_peer.pop(peer, {}), found.get(peer, {})
            changed.update(dict.fromkeys(before.keys() - after.keys()))
            changed.update(after)
            self.egress_peers.discard(peer)
            if after:
                self._by_peer[peer] = after
                if any(key.direction is Direction.EGRESS for key in after):
                    self.egress_peers.add(peer)
        return changed

    def keys(self) -> Iterator[PolicyKey]:
        return chain.from_iterable(self._by_peer.values())


def _named_blocks(port: Port, ports: Iterable[tuple[str, int, str]]) -> list[tuple[int, int]]:
    """What a port's name stands for among `ports`; nothing drops this port, not the rule."""
    return [
        (number, 16)
        for name, number, protocol in ports
        if name == port.name and protocol == port.protocol.name
    ]


def port_blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The fewest (port, bits) prefixes that are exactly the ports `first` to `last`.

    >>> list(port_blocks(5, 8))
    [(5, 16), (6, 15), (8, 16)]
    """
    while first <= last:
        size = first & -first or 1 << 16
        while size > last - first + 1:
            size >>= 1
        yield first, 17 - size.bit_length()
        first += size
