"""What the accepted policies say of a flow, and by which rule: read off the folded ledger directly.

No maps, no entries, no ids: labels of identities, addresses and CIDRs, as NetworkPolicy words them.
So this is the second opinion that compiled maps and kernels are held against, and what explains a
verdict. It gives the same answers as `dataplane.verdict.flow_verdict` on the maps of all nodes, its
reasons those of native mode: an overlay node that knows nothing of a remote pod, since no egress
rule there names it, calls it an unknown peer where this says that no rule allows it.
"""

import ipaddress
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from tabard.dataplane.maps import Direction, Protocol, Reason
from tabard.identity.labels import named_ports
from tabard.identity.numbers import Reserved, is_pod
from tabard.ledger.state import ObjectKey, State
from tabard.policy.matching import Labels, labels_of, matches
from tabard.policy.model import ALL_PORTS, Cidr, Peer, Policy, Port, Rule, Selector
from tabard.policy.parties import IP, Parties, Party, Role, Who
from tabard.policy.reading import read_policies
from tabard.policy.traffic import EVERYTHING, NOTHING, Traffic, intersection, union


@dataclass(frozen=True, slots=True)
class Grant:
    """What one item of one rule allows between two parties: ports `first` to `last`."""

    policy: ObjectKey
    direction: Direction
    rule: str
    """Field path of the rule in the policy's document, such as `spec.ingress[0]`."""
    peer: int | None
    """Which item of the rule's `from` or `to`; None if the rule names none, and so anyone."""
    port: int | None
    """Which item of the rule's `ports`; None if the rule names none, and so all traffic."""
    protocol: Protocol
    first: int
    last: int

    @property
    def peer_path(self) -> str:
        """Field path of the peer that matched, or of the rule."""
        side = "from" if self.direction is Direction.INGRESS else "to"
        return self.rule if self.peer is None else f"{self.rule}.{side}[{self.peer}]"

    @property
    def port_path(self) -> str:
        """Field path of the port that matched, or of the rule."""
        return self.rule if self.port is None else f"{self.rule}.ports[{self.port}]"

    def covers(self, protocol: int, port: int) -> bool:
        if self.protocol is Protocol.ANY:
            return True
        return self.protocol == protocol and self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class Half:
    """What the policies of one end's pod say: egress at the source, ingress at the destination."""

    direction: Direction
    reason: Reason
    isolating: tuple[ObjectKey, ...] = ()
    """The policies that isolate the pod in this direction, by key: with none, all may pass."""
    rule: Grant | None = None
    """The first rule that allows it, in the order of keys and fields; only for ALLOWED_POLICY."""

    @property
    def allowed(self) -> bool:
        return self.reason.allowed


@dataclass(frozen=True, slots=True)
class Decision:
    """A half is None where no pod stands, or one in its node's network."""

    source: Party
    destination: Party
    egress: Half | None
    ingress: Half | None

    @property
    def halves(self) -> tuple[Half, ...]:
        return tuple(half for half in (self.egress, self.ingress) if half is not None)

    @property
    def allowed(self) -> bool:
        return all(half.allowed for half in self.halves)


class Engine:
    """Answers questions about one state; make another after a change.

    It keeps what it found, so that all pairs of many pods cost little more than their identities'.
    """

    def __init__(self, state: State) -> None:
        self.parties = Parties(state)
        self._state = state
        self._policies = [
            policy
            for _, accepted in sorted(state.policies.items())
            for policy in read_policies(accepted.document, accepted.origin)
        ]
        self.cidrs = frozenset(
            peer
            for policy in self._policies
            for rule in policy.rules
            for peer in rule.peers or ()
            if isinstance(peer, Cidr)
        )
        """Every CIDR that a rule names."""
        self._labels: dict[int, Labels] = {}
        self._matched: dict[tuple[Selector, int], bool] = {}
        self._isolating: dict[tuple[Direction, int], tuple[Policy, ...]] = {}
        self._grants: dict[tuple[Direction, int, int, IP | None], tuple[Grant, ...]] = {}

    def decide(self, source: Who, destination: Who, protocol: int, port: int) -> Decision:
        """The verdict on a flow's first packet; `port` is the destination's, for ICMP the type.

        PartyError if an end is nobody.
        """
        one, other = self.parties.pair(source, destination)
        return Decision(
            one,
            other,
            self.half(Direction.EGRESS, one, other, protocol, port),
            self.half(Direction.INGRESS, other, one, protocol, port),
        )

    def allowed(self, source: Who, destination: Who) -> Traffic:
        """All that may pass from one to the other, exactly (`tabard.policy.traffic`).

        PartyError if an end is nobody.
        """
        one, other = self.parties.pair(source, destination)
        return intersection(
            self.allowed_half(Direction.EGRESS, one, other),
            self.allowed_half(Direction.INGRESS, other, one),
        )

    def allowed_half(self, direction: Direction, subject: Party, peer: Party) -> Traffic:
        """What the policies of `subject` let pass in `direction`; everything if it is no pod."""
        if subject.role is not Role.POD:
            return EVERYTHING
        reason = self.at_once(direction, subject, peer)
        if reason is not None:
            return EVERYTHING if reason.allowed else NOTHING
        grants = self.grants(direction, subject, peer)
        return union((grant.protocol, grant.first, grant.last) for grant in grants)

    def alike(self, party: Party) -> Hashable:
        """Equal for parties that no policy tells apart (a pod's own node is let in regardless)."""
        at = party.address
        held = frozenset(cidr for cidr in self.cidrs if at is not None and holds(cidr, at))
        return (party.role, party.identity, held)

    def half(
        self, direction: Direction, subject: Party, peer: Party, protocol: int, port: int
    ) -> Half | None:
        """What the policies of `subject` say in `direction`; None if it is no pod."""
        if subject.role is not Role.POD:
            return None
        isolating = tuple(policy.key for policy in self.isolating(direction, subject))
        reason = self.at_once(direction, subject, peer)
        if reason is not None:
            return Half(direction, reason, isolating)
        for grant in self.grants(direction, subject, peer):
            if grant.covers(protocol, port):
                return Half(direction, Reason.ALLOWED_POLICY, isolating, grant)
        return Half(direction, Reason.DENIED_POLICY, isolating)

    def at_once(self, direction: Direction, subject: Party, peer: Party) -> Reason | None:
        """The verdict on all that passes between a pod and `peer`, if no rule needs to be asked."""
        if not self.isolating(direction, subject):
            return Reason.ALLOWED_NO_POLICY
        (node,) = subject.nodes
        number = peer.as_seen_on(node)
        # The node must reach its pods (ARCHITECTURE.md, decision 15).
        if direction is Direction.INGRESS and number == Reserved.HOST:
            return Reason.ALLOWED_HOST
        if number == Reserved.UNKNOWN:
            return Reason.DENIED_UNKNOWN_PEER
        return None

    def isolating(self, direction: Direction, subject: Party) -> tuple[Policy, ...]:
        """The policies that isolate `subject` in `direction`, by key; none if it is no pod."""
        if subject.role is not Role.POD:
            return ()
        at = (direction, subject.identity)
        found = self._isolating.get(at)
        if found is None:
            found = self._isolating[at] = tuple(
                policy
                for policy in self._policies
                if direction in policy.isolates
                and self.names(policy.subject, subject.identity, None)
            )
        return found

    def asks_addresses(self, direction: Direction, subject: Party) -> bool:
        """Whether rules of the policies that isolate `subject` name peers by CIDR."""
        return any(_has_cidr(policy, direction) for policy in self.isolating(direction, subject))

    def grants(self, direction: Direction, subject: Party, peer: Party) -> tuple[Grant, ...]:
        """Every item of `subject`'s rules that allows something with a known `peer`, in order."""
        (node,) = subject.nodes
        number = peer.as_seen_on(node)
        policies = self.isolating(direction, subject)
        address = peer.address if self.asks_addresses(direction, subject) else None
        at = (direction, subject.identity, number, address)
        found = self._grants.get(at)
        if found is None:
            found = self._grants[at] = tuple(
                grant
                for policy in policies
                for rule in policy.rules
                if rule.direction is direction
                for grant in self._granted(policy, rule, subject.identity, number, peer.address)
            )
        return found

    def _granted(
        self, policy: Policy, rule: Rule, subject: int, peer: int, address: IP | None
    ) -> Iterator[Grant]:
        peers: tuple[Peer | None, ...] = (None,) if rule.peers is None else rule.peers
        for index, named in enumerate(peers):
            if named is not None and not self.names(named, peer, address):
                continue
            for at, port in enumerate(rule.ports):
                for first, last in self.numbers(port, rule.direction, subject, peer, named):
                    yield Grant(
                        policy.key,
                        rule.direction,
                        rule.path,
                        None if named is None else index,
                        None if rule.ports == ALL_PORTS else at,
                        port.protocol,
                        first,
                        last,
                    )

    def numbers(
        self, port: Port, direction: Direction, subject: int, peer: int, named: Peer | None
    ) -> list[tuple[int, int]]:
        """The runs of ports that `port` of a rule means for a peer that the rule names by `named`.

        A name is that of a port of the flow's destination, and a CIDR has no pods to ask.
        """
        if not port.name:
            return [(port.first, port.last)]
        if direction is Direction.EGRESS and isinstance(named, Cidr):
            return []
        known = self._state.identities.get(subject if direction is Direction.INGRESS else peer)
        return sorted(
            (number, number)
            for name, number, protocol in (named_ports(known.labels) if known else ())
            if name == port.name and protocol == port.protocol.name
        )

    def names(self, named: Peer, number: int, address: IP | None) -> bool:
        """Whether what a policy names is the party that is known as `number`."""
        match named:
            case Selector():
                return self._matches(named, number)
            case Cidr():
                return address is not None and holds(named, address)
            case _:
                raise AssertionError(f"{named} was not resolved")

    def _matches(self, selector: Selector, number: int) -> bool:
        """Whether the selector matches the identity; it never does unless that is pods'."""
        if not is_pod(number) or number not in self._state.identities:
            return False
        found = self._matched.get((selector, number))
        if found is None:
            found = self._matched[selector, number] = matches(selector, self.labels(number))
        return found

    def labels(self, number: int) -> Labels:
        """The labels of an identity, by source and key; none if it is not live."""
        found = self._labels.get(number)
        if found is None:
            known = self._state.identities.get(number)
            found = self._labels[number] = labels_of(known.labels) if known else {}
        return found


def decide(state: State, source: Who, destination: Who, protocol: int, port: int) -> Decision:
    """`Engine.decide` for one question; whoever has more of them keeps an Engine."""
    return Engine(state).decide(source, destination, protocol, port)


def allowed(state: State, source: Who, destination: Who) -> Traffic:
    """`Engine.allowed` for one question."""
    return Engine(state).allowed(source, destination)


def holds(peer: Cidr, address: IP) -> bool:
    return address in _network(peer.prefix) and not any(
        address in _network(hole) for hole in peer.excepts
    )


def _has_cidr(policy: Policy, direction: Direction) -> bool:
    return any(
        isinstance(peer, Cidr)
        for rule in policy.rules
        if rule.direction is direction
        for peer in rule.peers or ()
    )


@lru_cache(maxsize=65_536)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr)
