"""The maps of a node, compiled in the plainest way: every identity held against every rule.

The oracle of `tabard.policy.compile`: no index, no memory, no sets of changes, and entries made few
by another way. What a policy says and what stands for it (`meaning`) it takes from there.
"""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise, product

from tabard.dataplane.maps import (
    AT_CIDR,
    Action,
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixFlag,
    Protocol,
    Strength,
    Tier,
    address,
    strength,
)
from tabard.dataplane.verdict import CIDR_PODS, ENFORCED, IN_TIER, ISOLATED, Prefixes
from tabard.identity.labels import LabelSet, cidr_label, named_ports
from tabard.identity.numbers import is_pod
from tabard.ledger.state import EndpointState, State, enforcement_of
from tabard.policy.compile import Attachment, incarnation, node_incarnation
from tabard.policy.matching import RESERVED_LABELS, labels_of, matches, seen_labels
from tabard.policy.model import Cidr, Peer, Policy, Port, Rule, Selector
from tabard.policy.prefixes import PrefixMap, Universe
from tabard.policy.reading import read_policies
from tabard.policy.referents import referents_of, resolve
from tabard.policy.rules import hash64, meaning

Said = tuple[Protocol, int, int, Strength]
"""(protocol, first port, last port, how strongly what)"""
ALL = range(1 << 16)
HOST = 1


def compiled(state: State, node: str, mode: Mode, attachments: Mapping[str, Attachment]) -> Maps:
    return _Naive(state, node, mode).maps(attachments)


class _Naive:
    def __init__(self, state: State, node: str, mode: Mode) -> None:
        self.state, self.node, self.mode = state, node, mode
        referents = referents_of(state)
        self.policies = [
            resolve(policy, referents)
            for _, accepted in sorted(state.policies.items())
            for policy in read_policies(accepted.document, accepted.origin)
            if not policy.selects_nodes or self.is_here(policy)
        ]
        self.cidrs = {
            cidr: state.numbers[LabelSet((cidr_label(cidr),))]
            for policy in self.policies
            for cidr in policy.cidrs()
            if LabelSet((cidr_label(cidr),)) in state.numbers
        }
        self.labels = {number: one.labels for number, one in state.identities.items()}
        self.seen = {
            number: labels_of(seen_labels(number, labels))
            for number, labels in {**RESERVED_LABELS, **self.labels}.items()
        }
        self.prefixes = PrefixMap(Universe(self.cidrs), state.nodes, node, mode).entries

    def maps(self, attachments: Mapping[str, Attachment]) -> Maps:
        nodes = {text: name for name, one in self.state.nodes.items() for text in one.addresses}
        endpoints: dict[Address, Endpoint] = {}
        policies: dict[PolicyKey, Strength] = {}
        named: set[int] = set()
        for text, (identity, attachment) in self.local(attachments, nodes).items():
            policy, flags, entries = self.rules(identity)
            policies |= entries
            named |= {key.identity for key in entries if key.direction is Direction.EGRESS}
            if flags & ENFORCED[Direction.EGRESS] and not flags & ISOLATED[Direction.EGRESS]:
                named.add(0)
            endpoints[address(text)] = Endpoint(
                incarnation(attachment.uid),
                identity,
                policy,
                flags,
                attachment.ifindex,
                attachment.mac,
                attachment.host_mac,
            )
        own = self.state.nodes[self.node].addresses if self.node in self.state.nodes else ()
        policy, flags, entries = self.rules(HOST)
        if policy:
            policies |= entries
            named |= {key.identity for key in entries if key.direction is Direction.EGRESS}
            if flags & ENFORCED[Direction.EGRESS] and not flags & ISOLATED[Direction.EGRESS]:
                named.add(0)
            itself = Endpoint(
                node_incarnation(self.node),
                HOST,
                policy,
                flags | EndpointFlag.NODE,
                0,
                bytes(6),
                bytes(6),
            )
            endpoints |= {address(text): itself for text in own}
        hosts = {
            address(text): one.identity
            for one in self.state.endpoints.values()
            for text in one.addresses
            if one.node != self.node and not one.host_network and self.knows(named, one, text)
        }
        hosts |= {address(text): 6 for text, name in nodes.items() if name != self.node}
        hosts |= {address(text): HOST for text in own}
        return Maps(
            identities={1, 2, 6, 9, 10, *self.state.identities},
            policies=policies,
            nodes={address(text) for text in nodes},
            prefixes=self.prefixes,
            hosts=hosts,
            endpoints=endpoints,
        )

    def local(
        self, attachments: Mapping[str, Attachment], nodes: Iterable[str]
    ) -> dict[str, tuple[int, Attachment]]:
        claims: list[tuple[str, int, Attachment]] = []
        for uid, attachment in attachments.items():
            bound, assumed = self.state.endpoints.get(uid), attachment.provisional
            if bound is not None:
                if bound.node == self.node and not bound.host_network:
                    claims += ((text, bound.identity, attachment) for text in bound.addresses)
            elif assumed is not None and uid not in self.state.tombstones:
                claims += (
                    (text, assumed.identity, attachment)
                    for text in assumed.addresses
                    if text not in self.state.bindings
                )
        claims = [
            (text, number, one)
            for text, number, one in claims
            if text not in nodes and is_pod(number) and number in self.labels
        ]
        texts = [text for text, _, _ in claims]
        return {text: (number, one) for text, number, one in claims if texts.count(text) == 1}

    def knows(self, named: set[int], remote: EndpointState, text: str) -> bool:
        if self.mode is Mode.NATIVE or 0 in named or remote.identity in named:
            return True
        entry = Prefixes(self.prefixes).match(address(text))
        if entry is None:
            return False
        by_address = PrefixFlag.CIDR in entry.flags and entry.identity | AT_CIDR in named
        # Who is not known there is taken for the world.
        as_world = PrefixFlag.POD_RANGE not in entry.flags and entry.identity in named
        return by_address or as_world

    def is_here(self, policy: Policy) -> bool:
        """Whether a policy of nodes selects this one."""
        node = self.state.nodes.get(self.node)
        return node is not None and matches(policy.subject, labels_of(node.label_set()))

    def rules(self, subject: int) -> tuple[int, EndpointFlag, dict[PolicyKey, Strength]]:
        """The policy id, flags and entries of a local pod's identity, or HOST's."""
        selecting = [
            one
            for one in self.policies
            if one.selects_nodes is (subject == HOST)
            and (one.selects_nodes or matches(one.subject, self.seen[subject]))
        ]
        enforcement = enforcement_of(self.state)
        if subject == HOST and enforcement == "always":
            enforcement = "default"
        if enforcement == "never" or (enforcement == "default" and not selecting):
            return 0, EndpointFlag(0), {}
        names = {
            port.name
            for policy in selecting
            for rule in policy.rules
            for port in rule.ports
            if rule.direction is Direction.INGRESS
        }
        own = sorted(port for port in named_ports(self.seen_as(subject)) if port[0] in names)
        policy_id = hash64(*map(meaning, selecting), json.dumps([own, enforcement]).encode())
        flags, entries = EndpointFlag(0), {}
        if enforcement == "always":
            for direction in Direction:
                flags |= ENFORCED[direction] | ISOLATED[direction]
        for policy in selecting:
            flags |= self.flags(policy)
        numbers = [*self.seen, *(number | AT_CIDR for number in self.cidrs.values())]
        for direction, tier in product(Direction, Tier):
            rules = ranked(selecting, direction, tier)
            anyone = self.said(rules, 0, subject)
            tables = {0: fewest(anyone, [])}
            for peer in numbers:
                tables[peer] = fewest(self.said(rules, peer, subject), anyone)
            for peer, table in tables.items():
                for (protocol, port, bits), value in table.items():
                    key = PolicyKey(policy_id, direction, peer, protocol, port, bits, tier)
                    entries[key] = value
        return policy_id, flags, entries

    def flags(self, policy: Policy) -> EndpointFlag:
        flags = EndpointFlag(0)
        for direction in policy.isolates:
            flags |= ENFORCED[direction] | ISOLATED[direction]
        for rule in policy.rules:
            flags |= ENFORCED[rule.direction] | IN_TIER[policy.tier][rule.direction]
            if any(isinstance(peer, Cidr) and peer.holds_members for peer in rule.peers or ()):
                flags |= CIDR_PODS[rule.direction]
        return flags

    def said(self, rules: Iterable[tuple[Rule, int]], peer: int, subject: int) -> list[Said]:
        """All that rules say of a peer, each with its precedence."""
        found: list[Said] = []
        for rule, precedence in rules:
            for port in rule.ports:
                action = rule.action if port.lookups is None else Action.PROXY
                value = strength(action, precedence)
                is_its_own = port.name and rule.direction is Direction.EGRESS
                if rule.peers is None:
                    # Anyone is 0, but whose port it is must be known to know its number.
                    is_named = is_pod(peer) if is_its_own else peer == 0
                else:
                    is_named = any(self.holds(one, peer) for one in rule.peers)
                if is_named:
                    ports = self.ports(port, peer if is_its_own else subject)
                    found += ((port.protocol, first, last, value) for first, last in ports)
        return found

    def seen_as(self, number: int) -> LabelSet:
        return self.labels.get(number, LabelSet(()))

    def ports(self, port: Port, holder: int) -> list[tuple[int, int]]:
        if not port.name:
            return [(port.first, port.last)]
        return [
            (number, number)
            for name, number, protocol in named_ports(self.seen_as(holder))
            if (name, Protocol[protocol]) == (port.name, port.protocol)
        ]

    def holds(self, one: Peer, peer: int) -> bool:
        if isinstance(one, Selector):
            return peer in self.seen and matches(one, self.seen[peer])
        assert isinstance(one, Cidr)
        if not all(hole in self.cidrs for hole in one.excepts):
            return False
        if peer & AT_CIDR and not one.holds_members:
            return False
        inside = {cidr for cidr, number in self.cidrs.items() if number == peer & ~AT_CIDR}
        return any(
            _within(cidr, one.prefix) and not any(_within(cidr, hole) for hole in one.excepts)
            for cidr in inside
        )


def ranked(policies: list[Policy], direction: Direction, tier: Tier) -> list[tuple[Rule, int]]:
    """The rules of one tier and direction with their precedence: the first is the strongest."""
    rules = [
        rule
        for policy in sorted(policies, key=lambda one: (one.priority, one.kind, one.name))
        for rule in policy.rules
        if policy.tier is tier and rule.direction is direction
    ]
    if tier is Tier.NETWORK:
        return [(rule, 0) for rule in rules]
    # As many as it takes for each to be no weaker than the next: a step wherever actions alone
    # would have the next one win.
    steps = [one.action < other.action for one, other in pairwise(rules)]
    return [(rule, sum(steps[at:])) for at, rule in enumerate(rules)]


def fewest(said: list[Said], anyone: list[Said]) -> dict[tuple[Protocol, int, int], Strength]:
    """Entries of which the longest match is the strongest of what is said of a peer, wherever that
    is stronger than what is said of anyone; levels of strength one by one, each in whole runs."""
    rest, rest_of_anyone = (strongest(all, Protocol.ANY, 0) for all in (said, anyone))
    entries = {(Protocol.ANY, 0, 0): rest} if rest > rest_of_anyone else {}
    for protocol in sorted({protocol for protocol, *_ in said} - {Protocol.ANY}):
        cuts = {0, len(ALL)}
        for _, first, last, _ in (*said, *anyone):
            cuts |= {first, last + 1}
        runs = [
            (
                range(first, end),
                strongest(said, protocol, first),
                strongest(anyone, protocol, first),
            )
            for first, end in pairwise(sorted(cuts))
        ]
        for level in {own for _, own, other in runs if own > max(other, rest, rest_of_anyone)}:
            reached = [ports for ports, own, other in runs if max(own, other) >= level]
            whole = [one for one in reached if one.start not in {other.stop for other in reached}]
            ends = [
                one.stop for one in reached if one.stop not in {other.start for other in reached}
            ]
            for begin, end in zip(whole, ends, strict=True):
                for port, bits in port_blocks(begin.start, end - 1):
                    block = range(port, port + (len(ALL) >> bits))
                    if any(
                        own == level > other
                        and ports.start < block.stop
                        and block.start < ports.stop
                        for ports, own, other in runs
                    ):
                        entries[protocol, port, bits] = level
    return entries


def port_blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The fewest (port, bits) prefixes that are exactly the ports `first` to `last`.

    >>> list(port_blocks(5, 8))
    [(5, 16), (6, 15), (8, 16)]
    """
    while first <= last:
        size = first & -first or len(ALL)
        while size > last - first + 1:
            size >>= 1
        yield first, 17 - size.bit_length()
        first += size


def strongest(said: list[Said], protocol: Protocol, port: int) -> Strength:
    """What is said of a port; 0 is PASS, below all else, or nothing."""
    return max(
        (
            value
            for named, first, last, value in said
            if named is Protocol.ANY or (named is protocol and first <= port <= last)
        ),
        default=Strength(0),
    )


def _within(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
