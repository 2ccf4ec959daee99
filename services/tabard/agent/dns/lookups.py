"""Which names a pod may ask a server for, by the accepted policies. Pure.

As in Cilium the patterns of all rules that allow the traffic count, and a rule that allows it
without a word on names allows every name.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.events import ledger as events
from tabard.identity.labels import LabelSet
from tabard.ledger.state import ObjectKey, State
from tabard.policy.matching import RESERVED_LABELS, Labels, labels_of, matches
from tabard.policy.model import Cidr, Peer, Policy, Port, Rule, Selector
from tabard.policy.parties import IP, Parties, Party, Role
from tabard.policy.patterns import Patterns
from tabard.policy.reading import read_policies
from tabard.policy.referents import referents_of, resolve

EVERY_NAME = frozenset({"*"})


def is_proxied(accepted: events.PolicyAccepted) -> bool:
    """Whether a policy lets something pass through the proxy alone."""
    return any(
        port.lookups is not None
        for policy in read_policies(accepted.document, accepted.origin)
        for rule in policy.rules
        for port in rule.ports
    )


class Lookups:
    """Answers for a state on `node`, with which it is kept in step by `note`."""

    def __init__(self, state: State, node: str) -> None:
        self._state = state
        self._node = node
        self._policies: dict[ObjectKey, list[Policy]] = {}
        for accepted in state.policies.values():
            self._take(accepted)
        self._of: dict[LabelSet, list[Policy]] = {}
        """Resolved, by the labels of their subject."""
        self._parties = Parties(state)

    def note(self, event: events.LedgerEvent) -> None:
        """The state has gone on by `event`."""
        match event:
            case events.PolicyAccepted():
                self._policies.pop((event.kind, event.namespace, event.name), None)
                self._take(event)
                self._of.clear()
            case events.PolicyForgotten():
                self._policies.pop((event.kind, event.namespace, event.name), None)
                self._of.clear()
            case events.NameResolved() | events.NameForgotten():
                self._of.clear()
            case events.NodeAdded() | events.NodeRemoved():
                self._of.clear()
                self._parties = Parties(self._state)
            case _:
                pass

    def _take(self, accepted: events.PolicyAccepted) -> None:
        found = [
            policy
            for policy in read_policies(accepted.document, accepted.origin)
            if policy.tier is Tier.NETWORK and not policy.selects_nodes
        ]
        if found:
            self._policies[accepted.kind, accepted.namespace, accepted.name] = found

    def names(self, identity: int, server: str, port: int) -> Patterns:
        """What a pod of `identity` may ask the server at an address and UDP port for."""
        known = self._state.identities.get(identity)
        (party,) = self._parties.find(server)
        return Patterns(
            pattern
            for policy in (self._selecting(known.labels) if known is not None else ())
            for rule in policy.rules
            if rule.direction is Direction.EGRESS and rule.action is Action.ALLOW
            if rule.peers is None or any(self._is(peer, party) for peer in rule.peers)
            for pattern in _patterns(rule, port)
        )

    def _selecting(self, labels: LabelSet) -> list[Policy]:
        found = self._of.get(labels)
        if found is None:
            seen, referents = labels_of(labels), referents_of(self._state)
            found = self._of[labels] = [
                resolve(policy, referents)
                for policies in self._policies.values()
                for policy in policies
                if matches(policy.subject, seen)
            ]
        return found

    def _is(self, peer: Peer, server: Party) -> bool:
        match peer:
            case Selector():
                seen = self._labels(server)
                return bool(seen) and matches(peer, seen)
            case Cidr():
                return (
                    server.address is not None
                    and (peer.holds_members or server.role is Role.WORLD)
                    and _holds(peer, server.address)
                )
            case _:
                raise AssertionError(f"{peer} was not resolved")

    def _labels(self, server: Party) -> Labels:
        number = server.as_seen_on(self._node)
        known = self._state.identities.get(number)
        found = known.labels if known is not None else RESERVED_LABELS.get(number)
        return labels_of(found) if found is not None else {}


def _holds(cidr: Cidr, address: IP) -> bool:
    return address in ip_network(cidr.prefix) and not any(
        address in ip_network(hole) for hole in cidr.excepts
    )


def _patterns(rule: Rule, number: int) -> Iterator[str]:
    for port in rule.ports:
        if _covers(port, number):
            yield from EVERY_NAME if port.lookups is None else port.lookups


def _covers(port: Port, number: int) -> bool:
    if port.protocol is Protocol.ANY:
        return True
    return port.protocol is Protocol.UDP and not port.name and port.first <= number <= port.last
