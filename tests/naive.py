"""The maps of a node, compiled in the plainest way: every pod held against every policy.

The oracle of `tabard.policy.compile`: no index, no memory, no sets of changes.
"""

import ipaddress
import json
from collections.abc import Iterable, Mapping

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
    address,
    strength,
)
from tabard.dataplane.verdict import CIDR_PODS, ENFORCED, IN_TIER, ISOLATED, Prefixes
from tabard.identity.labels import LabelSet, cidr_label, named_ports
from tabard.identity.numbers import is_pod
from tabard.ledger.state import EndpointState, State
from tabard.policy.compile import Attachment, incarnation
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import Cidr, Policy, Rule
from tabard.policy.prefixes import PrefixMap, Universe
from tabard.policy.reading import read_policies
from tabard.policy.rules import hash64, port_blocks


def compiled(state: State, node: str, mode: Mode, attachments: Mapping[str, Attachment]) -> Maps:
    return _Naive(state, node, mode).maps(attachments)


class _Naive:
    def __init__(self, state: State, node: str, mode: Mode) -> None:
        self.state, self.node, self.mode = state, node, mode
        self.policies = [
            (policy, accepted.document)
            for _, accepted in sorted(state.policies.items())
            for policy in read_policies(accepted.document)
        ]
        self.cidrs = {
            cidr: state.numbers[LabelSet((cidr_label(cidr),))]
            for policy, _ in self.policies
            for cidr in policy.cidrs()
            if LabelSet((cidr_label(cidr),)) in state.numbers
        }
        self.labels = {
            number: one.labels for number, one in state.identities.items() if is_pod(number)
        }
        self.prefixes = PrefixMap(Universe(self.cidrs), state.nodes, node, mode).entries

    def maps(self, attachments: Mapping[str, Attachment]) -> Maps:
        nodes = {text: name for name, one in self.state.nodes.items() for text in one.addresses}
        endpoints: dict[Address, Endpoint] = {}
        keys: set[PolicyKey] = set()
        for text, (identity, attachment) in self.local(attachments, nodes).items():
            policy, flags, entries = self.rules(identity)
            keys |= entries
            endpoints[address(text)] = Endpoint(
                incarnation(attachment.uid),
                identity,
                policy,
                flags,
                attachment.ifindex,
                attachment.mac,
                attachment.host_mac,
            )
        named = {key.identity for key in keys if key.direction is Direction.EGRESS}
        hosts = {
            address(text): one.identity
            for one in self.state.endpoints.values()
            for text in one.addresses
            if one.node != self.node and not one.host_network and self.knows(named, one, text)
        }
        hosts |= {address(text): 6 for text, name in nodes.items() if name != self.node}
        if self.node in self.state.nodes:
            hosts |= {address(text): 1 for text in self.state.nodes[self.node].addresses}
        return Maps(
            identities={1, 2, 6, 9, 10, *self.state.identities},
            policies=dict.fromkeys(keys, strength(Action.ALLOW)),
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
        claims = [claim for claim in claims if claim[0] not in nodes and claim[1] in self.labels]
        texts = [text for text, _, _ in claims]
        return {text: (number, one) for text, number, one in claims if texts.count(text) == 1}

    def knows(self, named: set[int], remote: EndpointState, text: str) -> bool:
        if self.mode is Mode.NATIVE or 0 in named or remote.identity in named:
            return True
        entry = Prefixes(self.prefixes).match(address(text))
        return (
            entry is not None
            and PrefixFlag.CIDR in entry.flags
            and entry.identity | AT_CIDR in named
        )

    def rules(self, subject: int) -> tuple[int, EndpointFlag, set[PolicyKey]]:
        """The policy id, flags and entries of a local pod's identity."""
        selecting = [
            (policy, document)
            for policy, document in self.policies
            if matches(policy.subject, labels_of(self.labels[subject]))
        ]
        if not selecting:
            return 0, EndpointFlag(0), set()
        names = {
            port.name
            for policy, _ in selecting
            for rule in policy.rules
            for port in rule.ports
            if rule.direction is Direction.INGRESS
        }
        own = sorted(port for port in named_ports(self.labels[subject]) if port[0] in names)
        said = [
            json.dumps([*policy.key, document.get("spec")], sort_keys=True).encode()
            + policy.section.encode()
            for policy, document in selecting
        ]
        policy_id = hash64(*said, json.dumps(own).encode())
        flags, keys = EndpointFlag(0), set()
        for policy, _ in selecting:
            flags |= self.flags(policy)
            for rule in policy.rules:
                members = {number | AT_CIDR for number in self.cidrs.values()}
                for peer in (0, *self.labels, *self.cidrs.values(), *members):
                    keys |= self.entries(policy_id, rule, peer, subject)
        return policy_id, flags, keys

    def flags(self, policy: Policy) -> EndpointFlag:
        flags = EndpointFlag(0)
        for direction in policy.isolates:
            flags |= ENFORCED[direction] | ISOLATED[direction]
            flags |= IN_TIER[policy.tier][direction]
        for rule in policy.rules:
            if any(isinstance(peer, Cidr) for peer in rule.peers or ()):
                flags |= CIDR_PODS[rule.direction]
        return flags

    def entries(self, policy_id: int, rule: Rule, peer: int, subject: int) -> set[PolicyKey]:
        is_egress = rule.direction is Direction.EGRESS
        keys = set()
        for port in rule.ports:
            blocks = list(port_blocks(port.first, port.last))
            if port.name:
                holder = peer if is_egress else subject
                blocks = [
                    (number, 16)
                    for name, number, protocol in named_ports(self.labels.get(holder, LabelSet(())))
                    if (name, Protocol[protocol]) == (port.name, port.protocol)
                ]
            if rule.peers is None:
                # Anyone is 0, but whose port it is must be known to know its number.
                is_named = peer in self.labels if port.name and is_egress else peer == 0
            else:
                is_named = any(self.holds(one, peer) for one in rule.peers)
            if is_named:
                keys |= {
                    PolicyKey(policy_id, rule.direction, peer, port.protocol, first, bits)
                    for first, bits in blocks
                }
        return keys

    def holds(self, one: object, peer: int) -> bool:
        if not isinstance(one, Cidr):
            return peer in self.labels and matches(one, labels_of(self.labels[peer]))
        if not all(hole in self.cidrs for hole in one.excepts):
            return False
        if peer & AT_CIDR and not one.holds_members:
            return False
        inside = {cidr for cidr, number in self.cidrs.items() if number == peer & ~AT_CIDR}
        return any(
            _within(cidr, one.prefix) and not any(_within(cidr, hole) for hole in one.excepts)
            for cidr in inside
        )


def _within(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
