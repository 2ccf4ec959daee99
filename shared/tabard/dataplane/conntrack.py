"""Flows that were allowed, so that answers pass; the same as bpf/conntrack.h and bpf/enforce.h.

An entry never outlives the reasons it was made for. It carries the policy id (a content hash of the
rules that select the endpoint), whether the direction was enforced, the pod's incarnation and the
peer's identity, and is worth nothing where these differ from now: packets of the flow are judged
afresh; for answers the flow's own direction is, and the entry is renewed or stays as it is.
Otherwise a revoked rule would live on in the traffic that answers it. Where maps are too old to
open new flows by (`verdict.is_stale`), what was open goes on, judged afresh or not.

The entry of a revoked or forgotten flow stays until it expires, so that its answers are known for
what they are and refused: taken for packets that open a flow the other way, they would let all
others of it pass as answers of theirs. Only a TCP connection that begins anew is judged by its own
direction at once.

Under one policy id, what a peer may do never changes while packets carry its identity; see
bpf/conntrack.h.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    Mode,
    Protocol,
    Reason,
    is_of_node,
)
from tabard.dataplane.packet import Head, Kind, Packet, TcpFlag, head
from tabard.dataplane.verdict import ENFORCED, Judge, is_stale
from tabard.identity.numbers import Reserved, is_pod

SECOND = 1_000_000_000
# Lifetimes without a packet, as Cilium's (bpf/node_config.h, CT_*).
TIMEOUT_TCP_NS = 8_000 * SECOND
TIMEOUT_TCP_UNANSWERED_NS = 60 * SECOND
TIMEOUT_TCP_CLOSED_NS = 10 * SECOND
TIMEOUT_OTHER_NS = 60 * SECOND


class Key(NamedTuple):
    source: Address
    destination: Address
    source_port: int
    destination_port: int
    protocol: int
    direction: Direction
    """In which the flow was opened, seen from the endpoint."""


@dataclass(slots=True)
class Flow:
    policy: int
    incarnation: int
    peer: int
    is_enforced: bool
    seen: int
    """Monotonic nanoseconds."""
    is_answered: bool = False
    is_reset: bool = False
    is_closed: bool = False
    is_answer_closed: bool = False
    is_proxied: bool = False
    """Its packets and their answers go through the node's DNS proxy."""
    is_forgotten: bool = False
    """Whom it was opened with is not known any more."""

    def reason(self, packet: Packet) -> Reason:
        """Of a packet that needs no judging."""
        if self.is_proxied:
            return _carried(Reason.ALLOWED_PROXY, packet)
        return Reason.ALLOWED_ESTABLISHED

    def is_expired(self, protocol: int, now: int) -> bool:
        timeout = TIMEOUT_OTHER_NS
        if protocol == Protocol.TCP:
            timeout = TIMEOUT_TCP_NS if self.is_answered else TIMEOUT_TCP_UNANSWERED_NS
            if self.is_reset or (self.is_closed and self.is_answer_closed):
                timeout = TIMEOUT_TCP_CLOSED_NS
        return now - self.seen > timeout

    def is_alive(self, endpoint: Endpoint, key: Key, now: int) -> bool:
        """Whether it is still a flow of this endpoint, for whatever reasons."""
        return self.incarnation == endpoint.incarnation and not self.is_expired(key.protocol, now)

    def is_current(self, endpoint: Endpoint, direction: Direction, peer: int) -> bool:
        """Whether its reasons still hold. Who the peer is matters only to enforcement."""
        return (
            self.policy == endpoint.policy
            and not self.is_forgotten
            and self.is_enforced == _is_enforced(endpoint, direction)
            and (self.peer == peer or not self.is_enforced)
        )

    def touch(self, flags: TcpFlag, now: int, *, answer: bool) -> None:
        self.is_answered |= answer
        self.is_reset |= TcpFlag.RST in flags
        if TcpFlag.FIN in flags:
            self.is_answer_closed |= answer
            self.is_closed |= not answer
        if not answer and _is_first(flags):
            # A new connection on the ports of a closed one.
            self.is_answered = self.is_reset = self.is_closed = self.is_answer_closed = False
        if now - self.seen > SECOND:
            self.seen = now


def _is_first(flags: TcpFlag) -> bool:
    """Whether a packet begins a connection, whatever was known on its ports."""
    return TcpFlag.SYN in flags and TcpFlag.ACK not in flags


def _carried(reason: Reason, packet: Packet) -> Reason:
    """The DNS proxy takes whole UDP packets."""
    if reason is Reason.ALLOWED_PROXY and (packet.protocol != Protocol.UDP or packet.fragment):
        return Reason.DENIED_PROXY
    return reason


def _is_enforced(endpoint: Endpoint, direction: Direction) -> bool:
    return bool(endpoint.flags & ENFORCED[direction])


class Conntrack:
    """The flows of one node: `size` at most, the longest unused make room.

    `age` says how long ago its maps were known to be the ledger's, and `stale_after_s` is its bound
    for that (`verdict.is_stale`).
    """

    def __init__(
        self,
        size: int,
        fragments: int,
        clock: Callable[[], int],
        tunnel_port: int,
        age: Callable[[], int | None] = lambda: 0,
        stale_after_s: int = 0,
    ) -> None:
        self._size = size
        self._fragments_max = fragments
        self._clock = clock
        self._tunnel_port = tunnel_port
        self._age = age
        self._stale_after_s = stale_after_s
        self._flows: OrderedDict[Key, Flow] = OrderedDict()
        self._fragments: OrderedDict[tuple[Address, Address, int, int], Head] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def enforce(
        self,
        judge: Judge,
        packet: Packet,
        what: Head,
        endpoint: Endpoint,
        direction: Direction,
        peer: int,
    ) -> Reason:
        """The verdict on one packet of an endpoint (`what`: its head, as `resolve` gives it)."""
        now = self._clock()
        if what.kind is Kind.FRAGMENT:
            if _is_enforced(endpoint, direction):
                return Reason.DENIED_FRAGMENT
            return self._if_fresh(Reason.ALLOWED_NO_POLICY, endpoint, direction, peer)
        if what.kind is Kind.ERROR and self._relates(judge, packet, endpoint, direction, peer, now):
            return Reason.ALLOWED_RELATED
        key = _key(packet, what, direction)
        is_open = False
        if what.kind in (Kind.FLOW, Kind.ANSWER):
            # A guess at which look-up hits, as the kernel makes it: servers have the lower port.
            is_answer = what.kind is Kind.ANSWER or what.source_port < what.destination_port
            turned = _turned(key)
            answered = self._find(turned) if is_answer else None
            reason = self._still(judge, answered, turned, endpoint, peer, now)
            if (reason is None or not reason.allowed) and what.kind is Kind.FLOW:
                own = self._find(key)
                if own is not None and own.is_alive(endpoint, key, now):
                    if own.is_current(endpoint, direction, peer):
                        own.touch(packet.tcp_flags, now, answer=False)
                        return own.reason(packet)
                    is_open = not own.is_forgotten
                if not is_answer:
                    answered = self._find(turned)
                    reason = self._still(judge, answered, turned, endpoint, peer, now)
            if answered is not None and reason is not None:
                if reason.allowed:
                    answered.touch(packet.tcp_flags, now, answer=True)
                    return answered.reason(packet)
                if not is_open and not _is_first(packet.tcp_flags):
                    return reason
        address = packet.destination if direction is Direction.EGRESS else packet.source
        reason = judge.verdict(direction, endpoint, peer, address, what.protocol, what.policy_port)
        reason = _carried(reason, packet)
        if not is_open:
            reason = self._if_fresh(reason, endpoint, direction, peer)
        # In unenforced directions too: the answers may have to pass the enforced one.
        if what.kind is Kind.FLOW and reason.allowed:
            self._open(key, packet, endpoint, peer, now, reason)
        return reason

    def _if_fresh(
        self, reason: Reason, endpoint: Endpoint, direction: Direction, peer: int
    ) -> Reason:
        """`reason` for traffic that is new, or DENIED_STALE."""
        if reason.allowed and is_stale(endpoint, direction, peer, self._age(), self._stale_after_s):
            return Reason.DENIED_STALE
        return reason

    def resolve(self, packet: Packet) -> Head:
        """The packet's head; for a later fragment its first one's, if that was seen."""
        own = head(packet)
        if packet.fragment is None:
            return own
        # The protocol is part of an IPv4 packet's name (RFC 791 3.2), not of an IPv6 one's.
        protocol = 0 if packet.is_ipv6 else packet.protocol
        key = (packet.source, packet.destination, packet.fragment.id, protocol)
        if packet.fragment.is_first:
            # What an error quotes is read from its first fragment only.
            kind = Kind.SINGLE if own.kind is Kind.ERROR else own.kind
            ports = (own.source_port, own.destination_port, own.policy_port)
            self._fragments[key] = Head(kind, own.protocol, *ports)
            self._fragments.move_to_end(key)
            if len(self._fragments) > self._fragments_max:
                self._fragments.popitem(last=False)
            return own
        return self._fragments.get(key, own)

    def is_tunnel(self, judge: Judge, what: Head, other: Address) -> bool:
        """Whether a packet is the tunnel's between this node and the one at `other`."""
        return (
            judge.mode is Mode.OVERLAY
            and what.kind is Kind.FLOW
            and what.protocol == Protocol.UDP
            and what.destination_port == self._tunnel_port
            and other in judge.maps.nodes
        )

    def forget(self, is_another: Callable[[Address, int], bool]) -> int:
        """See the Dataplane port."""
        gone = 0
        for key, flow in self._flows.items():
            address = key.source if key.direction is Direction.INGRESS else key.destination
            if is_another(address, flow.peer):
                flow.peer, flow.is_forgotten = Reserved.UNKNOWN, True
                gone += 1
        return gone

    def _find(self, key: Key) -> Flow | None:
        flow = self._flows.get(key)
        if flow is not None:
            self._flows.move_to_end(key)
        return flow

    def _open(
        self, key: Key, packet: Packet, endpoint: Endpoint, peer: int, now: int, reason: Reason
    ) -> None:
        self._flows[key] = Flow(
            policy=endpoint.policy,
            incarnation=endpoint.incarnation,
            peer=peer,
            is_enforced=_is_enforced(endpoint, key.direction),
            seen=now,
            is_reset=TcpFlag.RST in packet.tcp_flags,
            is_proxied=reason is Reason.ALLOWED_PROXY,
        )
        self._flows.move_to_end(key)
        if len(self._flows) > self._size:
            self._flows.popitem(last=False)

    def _still(
        self, judge: Judge, flow: Flow | None, key: Key, endpoint: Endpoint, peer: int, now: int
    ) -> Reason | None:
        """What answers to the flow are allowed as, or why the endpoint may not have it any more;
        None if it has none.

        Judged again if its generation is another, for the peer that it was opened with (or that is
        now known to be `peer`).
        """
        if flow is None or not flow.is_alive(endpoint, key, now):
            return None
        peer = peer or flow.peer
        if flow.is_current(endpoint, key.direction, peer):
            return Reason.ALLOWED_ESTABLISHED
        if flow.is_forgotten and not peer and any(_is_enforced(endpoint, way) for way in Direction):
            # Who answers nobody knows whom would send on his own, which that direction may forbid.
            return Reason.DENIED_UNKNOWN_PEER
        address = key.destination if key.direction is Direction.EGRESS else key.source
        reason = judge.verdict(
            key.direction, endpoint, peer, address, key.protocol, key.destination_port
        )
        if reason.allowed:
            flow.policy, flow.peer = endpoint.policy, peer
            flow.is_enforced = _is_enforced(endpoint, key.direction)
            flow.is_proxied = reason is Reason.ALLOWED_PROXY
            flow.is_forgotten = False
        return reason

    def _relates(
        self,
        judge: Judge,
        error: Packet,
        endpoint: Endpoint,
        direction: Direction,
        peer: int,
        now: int,
    ) -> bool:
        """Whether an ICMP error is about a packet of a known flow.

        Errors go to whoever sent the quoted packet, from anywhere on its way: the quoted packet,
        not the error's source, must be the endpoint's. But no pod is on the way to another, so one
        that was not sent the packet is lying, and who is unknown may be a pod.

        A node carries for others: it reports on packets that it forwards, and is told of its
        tunnel's. No policy of the node is about these, and conntrack knows none.
        """
        quoted = error.quoted
        if quoted is None or error.destination != quoted.source:
            return False
        what = head(quoted)
        if what.kind not in (Kind.FLOW, Kind.ANSWER):
            return False
        if is_of_node(endpoint):
            if direction is Direction.EGRESS and error.source != quoted.destination:
                return True
            if direction is Direction.INGRESS and self.is_tunnel(judge, what, quoted.destination):
                return True
        # An error that the endpoint sends must be about a packet that it got.
        from_its_end = direction is Direction.EGRESS or peer == Reserved.UNKNOWN or is_pod(peer)
        if from_its_end and error.source != quoted.destination:
            return False
        # The quoted packet went the other way: it is one of a flow opened that way, or an answer.
        opposite = Direction(1 - direction)
        key = _key(quoted, what, opposite)
        flow = self._find(key)
        if flow is None or what.kind is Kind.ANSWER:
            key = _turned(key)
            flow = self._find(key)
        reason = self._still(judge, flow, key, endpoint, 0, now)
        return reason is not None and reason.allowed


def _key(packet: Packet, what: Head, direction: Direction) -> Key:
    return Key(
        packet.source,
        packet.destination,
        what.source_port,
        what.destination_port,
        what.protocol,
        direction,
    )


def _turned(key: Key) -> Key:
    """The key of the flow that a packet of `key` answers: it was opened the other way."""
    return Key(
        key.destination,
        key.source,
        key.destination_port,
        key.source_port,
        key.protocol,
        Direction(1 - key.direction),
    )
