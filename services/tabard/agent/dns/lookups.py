"""Which names a pod may ask a server for, by the accepted policies. Pure.

As in Cilium the patterns of all rules that allow the traffic count, and a rule that allows it
without a word on names allows every name.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.events import ledger as events
from tabard.identity.labels import LabelSet
from tabard.ledger.state import ObjectKey, State
from tabard.policy.matching import RESERVED_LABELS, labels_of, matches
from tabard.policy.model import Cidr, DomainName, Peer, Policy, Port, Rule, Selector
from tabard.policy.naming import holds
from tabard.policy.networks import network
from tabard.policy.parties import IP, Parties, Party, Role
from tabard.policy.patterns import Patterns
from tabard.policy.reading import read_policies
from tabard.policy.referents import Referents, referents_of, resolve

EVERY_NAME = frozenset({"*"})

FOUND_MAX = 1_024
"""Pairs of a label set and a server whose patterns are kept."""
COMPILED_MAX = 64
"""Sets of patterns that are kept; the one that was asked longest ago makes room."""

_Key = tuple[LabelSet, IP | None, Role, LabelSet | None, int]


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
        """With the rules alone that may let DNS pass."""
        self._naming: set[ObjectKey] = set()
        """Those that find servers by what names stand for."""
        for accepted in state.policies.values():
            self._take(accepted)
        self._referents: Referents | None = None
        """None until somebody asks."""
        self._of: dict[LabelSet, list[Policy]] = {}
        """Resolved, by the labels of their subject."""
        self._found: dict[_Key, Patterns] = {}
        """By all that decides: the subject's labels, the server's address, role and labels, the
        port."""
        self._compiled: OrderedDict[frozenset[frozenset[str]], Patterns] = OrderedDict()
        self._parties = Parties(state)

    def note(self, event: events.LedgerEvent) -> None:
        """The state has gone on by `event`."""
        match event:
            case events.PolicyAccepted():
                self._drop((event.kind, event.namespace, event.name))
                self._take(event)
                self._begin_anew()
            case events.PolicyForgotten():
                self._drop((event.kind, event.namespace, event.name))
                self._begin_anew()
            case events.NameResolved() | events.NameForgotten():
                if self._naming:
                    self._begin_anew()
            case events.NodeAdded() | events.NodeRemoved():
                self._begin_anew()
                self._parties = Parties(self._state)
            case _:
                pass

    def _begin_anew(self) -> None:
        self._referents = None
        self._of.clear()
        self._found.clear()

    def _drop(self, key: ObjectKey) -> None:
        self._policies.pop(key, None)
        self._naming.discard(key)

    def _take(self, accepted: events.PolicyAccepted) -> None:
        found = [
            replace(policy, rules=tuple(filter(_lets_ask, policy.rules)))
            for policy in read_policies(accepted.document, accepted.origin)
            if policy.tier is Tier.NETWORK and not policy.selects_nodes
        ]
        found = [policy for policy in found if policy.rules]
        if found:
            key = (accepted.kind, accepted.namespace, accepted.name)
            self._policies[key] = found
            if any(isinstance(one, DomainName) for policy in found for one in policy.references()):
                self._naming.add(key)

    def names(self, identity: int, server: str, port: int) -> Patterns:
        """What a pod of `identity` may ask the server at an address and UDP port for.

        Kept until a policy changes, or what policies find servers by: each query asks.
        """
        known = self._state.identities.get(identity)
        if known is None:
            return self._compile(())
        (party,) = self._parties.find(server)
        key = (known.labels, party.address, party.role, self._labels(party), port)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= FOUND_MAX:  # a pod may ask as many addresses as it likes
                self._found.clear()
            found = self._found[key] = self._compile(self._allowed(known.labels, party, port))
        return found

    def _allowed(self, labels: LabelSet, party: Party, port: int) -> Iterator[frozenset[str]]:
        for policy in self._selecting(labels):
            for rule in policy.rules:
                if rule.peers is None or any(self._is(peer, party) for peer in rule.peers):
                    yield from _patterns(rule, port)

    def _compile(self, patterns: Iterable[frozenset[str]]) -> Patterns:
        key = frozenset(patterns)
        if key not in self._compiled:
            self._compiled[key] = Patterns(one for some in key for one in some)
            if len(self._compiled) > COMPILED_MAX:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _selecting(self, labels: LabelSet) -> list[Policy]:
        found = self._of.get(labels)
        if found is None:
            seen = labels_of(labels)
            if self._referents is None:
                self._referents = referents_of(self._state)
            found = self._of[labels] = [
                resolve(policy, self._referents)
                for policies in self._policies.values()
                for policy in policies
                if matches(policy.subject, seen)
            ]
        return found

    def _is(self, peer: Peer, server: Party) -> bool:
        match peer:
            case Selector():
                seen = self._labels(server)
                return matches(peer, labels_of(seen)) if seen else False
            case Cidr():
                return holds(peer, _held(peer, server.address), server.role is Role.WORLD)
            case _:
                raise AssertionError(f"{peer} was not resolved")

    def _labels(self, server: Party) -> LabelSet | None:
        number = server.as_seen_on(self._node)
        known = self._state.identities.get(number)
        return known.labels if known is not None else RESERVED_LABELS.get(number)


def _held(peer: Cidr, address: IP | None) -> frozenset[str]:
    """Which of its CIDRs hold the address."""
    if address is None:
        return frozenset()
    return frozenset(cidr for cidr in (peer.prefix, *peer.excepts) if address in network(cidr))


def _lets_ask(rule: Rule) -> bool:
    return (
        rule.direction is Direction.EGRESS
        and rule.action is Action.ALLOW
        and any(port.protocol in (Protocol.ANY, Protocol.UDP) for port in rule.ports)
    )


def _patterns(rule: Rule, number: int) -> Iterator[frozenset[str]]:
    for port in rule.ports:
        if _covers(port, number):
            yield EVERY_NAME if port.lookups is None else port.lookups


def _covers(port: Port, number: int) -> bool:
    if port.protocol is Protocol.ANY:
        return True
    return port.protocol is Protocol.UDP and not port.name and port.first <= number <= port.last
