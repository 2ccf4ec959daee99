"""From policies to what is said of whom: the rule sets of identities.

The policies that select an identity are its rule set. Its id is a hash of what they say, so that
equal rule sets share their entries, and a changed one has new entries under a new id, to which an
endpoint is turned at once.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from tabard.dataplane.maps import (
    Action,
    Direction,
    EndpointFlag,
    Protocol,
    Strength,
    Tier,
    strength,
)
from tabard.dataplane.verdict import CIDR_PODS, ENFORCED, IN_TIER, ISOLATED
from tabard.events.ledger import Enforcement
from tabard.identity.labels import NAMED_PORT_SOURCE, NamedPorts
from tabard.policy.matching import IdentityIndex, Matched
from tabard.policy.model import Cidr, Policy, Requirement, Rule, Selector
from tabard.policy.painting import Part
from tabard.policy.prefixes import Universe, members

ISOLATED_FROM_ALL = (
    EndpointFlag.INGRESS_ENFORCED
    | EndpointFlag.INGRESS_ISOLATED
    | EndpointFlag.EGRESS_ENFORCED
    | EndpointFlag.EGRESS_ISOLATED
)


def hash64(*parts: bytes) -> int:
    """64 bits that stand for `parts`; never 0, which stands for nothing."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return int.from_bytes(digest.digest()) or 1


def meaning(policy: Policy) -> bytes:
    """32 bytes that stand for all that a resolved policy says: what its references stand for is
    part of it, so a changed group makes another rule set. Where it was written is not."""
    said = json.dumps(replace(policy, origin=""), default=_plain)
    return blake2b(said.encode(), digest_size=32).digest()


def _plain(value: Any) -> list[Any]:
    """Sets in order, and the model's slotted dataclasses by their fields."""
    if isinstance(value, frozenset):
        return sorted(value)
    return [type(value).__name__, *(getattr(value, name) for name in value.__slots__)]


def _having(port_name: str) -> Selector:
    return Selector((Requirement(port_name, "Exists", source=NAMED_PORT_SOURCE),))


class Peers:
    """Whom one rule names: anyone, or what selectors match and CIDRs hold."""

    __slots__ = ("anyone", "cidrs", "having_port", "matched", "names")

    def __init__(self, rule: Rule, index: IdentityIndex) -> None:
        peers = rule.peers or ()
        self.anyone = rule.peers is None
        self.matched = [index.track(peer) for peer in peers if isinstance(peer, Selector)]
        self.cidrs = [peer for peer in peers if isinstance(peer, Cidr)]
        assert len(self.matched) + len(self.cidrs) == len(peers), "references are resolved before"
        is_egress = rule.direction is Direction.EGRESS
        self.names = {port.name for port in rule.ports if port.name and is_egress}
        """Names that mean each peer's own port."""
        self.having_port: list[Matched] = []
        """If anyone is named: who has one of `names`."""
        if self.anyone:
            self.having_port = [index.track(_having(name)) for name in sorted(self.names)]

    def watched(self) -> Iterator[Matched]:
        yield from self.matched
        yield from self.having_port


class Prepared:
    """A resolved policy with its selectors under watch until it is released."""

    def __init__(self, policy: Policy, said: bytes, index: IdentityIndex) -> None:
        self.policy = policy
        self.meaning = said
        self.cidrs = policy.cidrs()
        self.subject = None if policy.selects_nodes else index.track(policy.subject)
        """None: this node."""
        self.rules = [(rule, Peers(rule, index)) for rule in policy.rules]
        self.flags = EndpointFlag(0)
        for direction in policy.isolates:
            self.flags |= ENFORCED[direction] | ISOLATED[direction]
        for rule, peers in self.rules:
            self.flags |= ENFORCED[rule.direction] | IN_TIER[policy.tier][rule.direction]
            if any(cidr.holds_members for cidr in peers.cidrs):
                self.flags |= CIDR_PODS[rule.direction]
        self.ingress_names = {
            port.name
            for rule in policy.rules
            if rule.direction is Direction.INGRESS
            for port in rule.ports
            if port.name
        }

    def release(self, index: IdentityIndex) -> None:
        if self.subject is not None:
            index.release(self.subject)
        for _, peers in self.rules:
            for matched in peers.watched():
                index.release(matched)


@dataclass(frozen=True, slots=True)
class Clause:
    """What a rule says of the ports of some of its peers."""

    policy: Policy
    rule: Rule
    anyone: bool
    peers: tuple[Matched | Cidr, ...]
    parts: tuple[Part, ...]
    """The same ports for each."""
    names: tuple[tuple[str, Protocol, Strength], ...]
    """Each peer's own port of that name."""

    def of(self, ports: NamedPorts) -> Iterator[Part]:
        """What it says of a peer with these named ports."""
        yield from self.parts
        for name, protocol, value in self.names:
            yield from _named(name, protocol, value, ports)

    def numbers(self, index: IdentityIndex, universe: Universe) -> set[int]:
        """Of which identities it says something."""
        named = {0} if self.anyone else set()
        for peer in self.peers:
            named |= peer.numbers if isinstance(peer, Matched) else members(universe, peer)
        return {number for number in named if any(self.of(index.ports(number)))}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The policies that select an identity, and what their ingress port names mean for it."""

    id: int
    policies: tuple[Prepared, ...]
    flags: EndpointFlag
    ports: NamedPorts
    """The subject's named ports, as far as an ingress rule names them."""
    stale_after_s: int = 0
    """The shortest of the policies' bounds; 0: none has one."""

    def clauses(self) -> Iterator[Clause]:
        """All that its rules say."""
        for prepared, rule, peers, precedence in _ranked(self.policies):
            parts: list[Part] = []
            names = []
            for port in rule.ports:
                is_looked_up = port.lookups is not None and rule.action is Action.ALLOW
                value = strength(Action.PROXY if is_looked_up else rule.action, precedence)
                if not port.name:
                    parts.append(Part(port.protocol, port.first, port.last, value))
                elif rule.direction is Direction.INGRESS:
                    parts += _named(port.name, port.protocol, value, self.ports)
                else:
                    names.append((port.name, port.protocol, value))
            its_own: tuple[Matched | Cidr, ...] = (*peers.matched, *peers.cidrs)
            if not peers.anyone:
                yield Clause(prepared.policy, rule, False, its_own, tuple(parts), tuple(names))
                continue
            yield Clause(prepared.policy, rule, True, (), tuple(parts), ())
            if names:
                having = tuple(peers.having_port)
                yield Clause(prepared.policy, rule, False, having, (), tuple(names))


def rule_set(
    policies: Sequence[Prepared], subject_ports: NamedPorts, enforcement: Enforcement = "default"
) -> RuleSet:
    """The rule set that `policies` (in the order of their keys) are for a subject."""
    if enforcement == "never" or (enforcement == "default" and not policies):
        return RuleSet(0, (), EndpointFlag(0), frozenset())
    flags = ISOLATED_FROM_ALL if enforcement == "always" else EndpointFlag(0)
    for prepared in policies:
        flags |= prepared.flags
    names = set().union(*(prepared.ingress_names for prepared in policies))
    ports = frozenset(port for port in subject_ports if port[0] in names)
    resolved = json.dumps([sorted(ports), enforcement]).encode()
    id = hash64(*(prepared.meaning for prepared in policies), resolved)
    bounds = [one.policy.stale_after_s for one in policies if one.policy.stale_after_s]
    return RuleSet(id, tuple(policies), flags, ports, min(bounds, default=0))


def _ranked(
    policies: Sequence[Prepared],
) -> Iterator[tuple[Prepared, Rule, Peers, int]]:
    """Every rule with its precedence. In tier NETWORK all have the same, and actions decide.

    Elsewhere rules come by (priority, kind, name, place); of two that match, the earlier decides.
    Neighbours whose actions are in the order of their strength share a precedence: so equal ones
    make equal entries.
    """
    for tier in Tier:
        ordered = [
            (prepared, rule, peers)
            for prepared in sorted(policies, key=lambda one: one.policy.priority)
            if prepared.policy.tier is tier
            for rule, peers in prepared.rules
        ]
        if tier is Tier.NETWORK:
            yield from ((*one, 0) for one in ordered)
            continue
        for direction in Direction:
            precedence, after = 0, Action.PASS
            for prepared, rule, peers in reversed(ordered):
                if rule.direction is direction:
                    precedence += rule.action < after
                    after = rule.action
                    yield prepared, rule, peers, precedence


def _named(
    name: str, protocol: Protocol, value: Strength, ports: Iterable[tuple[str, int, str]]
) -> Iterator[Part]:
    """What a port's name stands for among `ports`; nothing drops this port, not the rule."""
    for known, number, its_protocol in ports:
        if known == name and its_protocol == protocol.name:
            yield Part(protocol, number, number, value)
