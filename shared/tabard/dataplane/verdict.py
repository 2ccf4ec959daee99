"""The one meaning of the maps: who a peer is, and what may pass. bpf/verdict.h is the same in C.

No memory of earlier packets (conntrack) is considered here.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, TypeVar

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
    Reason,
    Strength,
    Tier,
    action_of,
    is_of_node,
)
from tabard.identity.numbers import Reserved, is_cidr, is_pod

ENFORCED = (EndpointFlag.INGRESS_ENFORCED, EndpointFlag.EGRESS_ENFORCED)
CIDR_PODS = (EndpointFlag.CIDR_PODS_INGRESS, EndpointFlag.CIDR_PODS_EGRESS)
ISOLATED = (EndpointFlag.INGRESS_ISOLATED, EndpointFlag.EGRESS_ISOLATED)
"""By direction."""
IN_TIER = (
    (EndpointFlag.INGRESS_ADMIN, EndpointFlag.EGRESS_ADMIN),
    (EndpointFlag.INGRESS_NETWORK, EndpointFlag.EGRESS_NETWORK),
    (EndpointFlag.INGRESS_BASELINE, EndpointFlag.EGRESS_BASELINE),
)
"""By tier and direction."""

NOTHING = Strength(-1)
REASONS: Mapping[Action, Reason | None] = {
    Action.PASS: None,
    Action.ALLOW: Reason.ALLOWED_POLICY,
    Action.PROXY: Reason.ALLOWED_PROXY,
    Action.DENY: Reason.DENIED_POLICY,
}
"""What an entry decides; None leaves it to the next tier."""

_MASKS = tuple(((1 << bits) - 1) << (128 - bits) for bits in range(129))


V = TypeVar("V")


class Prefixes(Generic[V]):
    """Longest-prefix match over a map keyed as `prefixes`."""

    def __init__(self, entries: Mapping[tuple[Address, int], V]) -> None:
        by_length: dict[int, dict[int, V]] = {}
        for (network, bits), entry in entries.items():
            by_length.setdefault(bits, {})[int.from_bytes(network)] = entry
        self._by_length = sorted(by_length.items(), key=itemgetter(0), reverse=True)

    def put(self, place: tuple[Address, int], entry: V | None) -> None:
        """The entry of this prefix is another now, or None."""
        network, bits = int.from_bytes(place[0]), place[1]
        at = bisect_left(self._by_length, -bits, key=lambda one: -one[0])
        is_known = at < len(self._by_length) and self._by_length[at][0] == bits
        if entry is not None:
            if not is_known:
                self._by_length.insert(at, (bits, {}))
            self._by_length[at][1][network] = entry
        elif is_known:
            self._by_length[at][1].pop(network, None)

    def match(self, address: Address, bits_max: int = 128) -> V | None:
        """The entry of the longest prefix (of `bits_max` bits at most) that holds `address`."""
        number = int.from_bytes(address)
        for bits, entries in self._by_length:
            if bits <= bits_max:
                entry = entries.get(number & _MASKS[bits])
                if entry is not None:
                    return entry
        return None


class Judge:
    """Verdicts on one node's maps. Holds them as they were given: make a new one after a change."""

    def __init__(self, maps: Maps, mode: Mode) -> None:
        self.maps = maps
        self.mode = mode
        self.prefixes = Prefixes(maps.prefixes)

    def destination(self, address: Address) -> int:
        """The identity of whom a local pod speaks to; 0 is unknown."""
        endpoint = self.maps.endpoints.get(address)
        return endpoint.identity if endpoint is not None else self.known(address)

    def source(self, address: Address, mark: int | None = None) -> int:
        """The identity of who speaks to a local pod; `mark` is what the sender's node vouches for.

        In overlay mode a pod's packet comes marked, from this node or through the tunnel; one that
        has a pod's address and no mark is nobody's.
        """
        if mark is not None:
            return mark
        identity = self.known(address)
        if self.mode is Mode.OVERLAY and is_pod(identity):
            return Reserved.UNKNOWN
        return identity

    def known(self, address: Address) -> int:
        """The identity of who is at an address that is no local pod's; 0 is unknown."""
        identity = self.maps.hosts.get(address)
        if identity is not None:
            return identity
        entry = self.prefixes.match(address)
        if entry is None or PrefixFlag.POD_RANGE in entry.flags:
            return Reserved.UNKNOWN
        return entry.identity

    def verdict(
        self,
        direction: Direction,
        endpoint: Endpoint,
        peer: int,
        peer_address: Address,
        protocol: int,
        port: int,
    ) -> Reason:
        """Whether `endpoint` may have this traffic with `peer`; `port` is the destination port, for
        ICMP the type."""
        if not endpoint.flags & ENFORCED[direction]:
            return Reason.ALLOWED_NO_POLICY
        # The node must reach its pods (kubelet's probes), as in Kubernetes.
        if direction is Direction.INGRESS and peer == Reserved.HOST:
            return Reason.ALLOWED_HOST
        # Unknown is not world: nothing may match it, not even a rule for any peer.
        if peer == Reserved.UNKNOWN or peer not in self.maps.identities:
            return Reason.DENIED_UNKNOWN_PEER
        named = [peer, 0]
        # A rule for CIDRs may hold for pods and nodes in them too.
        if endpoint.flags & CIDR_PODS[direction] and not is_cidr(peer):
            entry = self.prefixes.match(peer_address)
            if entry is not None and PrefixFlag.CIDR in entry.flags:
                named.append(entry.identity | AT_CIDR)
        for tier in Tier:
            if endpoint.flags & IN_TIER[tier][direction]:
                found = max(
                    self._strongest(endpoint.policy, tier, direction, identity, protocol, port)
                    for identity in named
                )
                if found != NOTHING and (reason := REASONS[action_of(found)]) is not None:
                    return reason
            if tier is Tier.NETWORK and endpoint.flags & ISOLATED[direction]:
                return Reason.DENIED_POLICY
        return Reason.ALLOWED_NO_POLICY

    def _strongest(
        self,
        policy: int,
        tier: Tier,
        direction: Direction,
        identity: int,
        protocol: int,
        port: int,
    ) -> Strength:
        """The value of the longest match; NOTHING if no entry covers the traffic."""
        entries = self.maps.policies
        try:
            named = Protocol(protocol)
        except ValueError:  # a protocol that no entry can name
            named = Protocol.ANY
        if named is not Protocol.ANY:
            for bits in range(16, -1, -1):
                first = port & (0xFFFF << (16 - bits))
                key = PolicyKey(policy, direction, identity, named, first, bits, tier)
                if (found := entries.get(key)) is not None:
                    return found
        return entries.get(PolicyKey(policy, direction, identity, Protocol.ANY, tier=tier), NOTHING)


def is_stale(
    endpoint: Endpoint, direction: Direction, peer: int, age_ns: int | None, after_s: int
) -> bool:
    """Whether `endpoint` may open no new flow: nobody knows any more what the ledger says.

    `age_ns`: how long ago the maps were last known to be the ledger's; None: never. `after_s`: the
    bound of all pods of the node; 0: none. A node itself goes on, which must reach the bus to know
    it again, and so does what it sends its own pods.
    """
    if is_of_node(endpoint) or (direction is Direction.INGRESS and peer == Reserved.HOST):
        return False
    bounds = [bound for bound in (endpoint.stale_after_s, after_s) if bound]
    return bool(bounds) and (age_ns is None or age_ns > min(bounds) * 1_000_000_000)


@dataclass(frozen=True, slots=True)
class FlowVerdict:
    """What both ends say of a flow's first packet; None where no pod of the cluster stands."""

    egress: Reason | None
    ingress: Reason | None

    @property
    def allowed(self) -> bool:
        return all(reason.allowed for reason in (self.egress, self.ingress) if reason is not None)


def flow_verdict(
    judges: Mapping[str, Judge], source: Address, destination: Address, protocol: int, port: int
) -> FlowVerdict:
    """The verdicts at the source's node (egress) and at the destination's (ingress).

    `judges` are the nodes' by name. A source without an endpoint speaks without a mark, and so does
    a node; nor does a mark come with what another node's pod sends to a node, past the tunnel.
    """
    egress = ingress = mark = None
    sender = _holder(judges, source)
    if sender is not None:
        judge, endpoint = sender
        mark = None if is_of_node(endpoint) else endpoint.identity
        peer = judge.destination(destination)
        egress = judge.verdict(Direction.EGRESS, endpoint, peer, destination, protocol, port)
    receiver = _holder(judges, destination)
    if receiver is not None:
        judge, endpoint = receiver
        is_tunnelled = judge.mode is Mode.OVERLAY and not is_of_node(endpoint)
        if not is_tunnelled and source not in judge.maps.endpoints:
            mark = None  # between nodes only the overlay carries it
        peer = judge.source(source, mark)
        ingress = judge.verdict(Direction.INGRESS, endpoint, peer, source, protocol, port)
    return FlowVerdict(egress, ingress)


def _holder(judges: Mapping[str, Judge], address: Address) -> tuple[Judge, Endpoint] | None:
    for judge in judges.values():
        endpoint = judge.maps.endpoints.get(address)
        if endpoint is not None:
            return judge, endpoint
    return None
