"""The maps that a node enforces, as one value.

These are compile's output, the memory dataplane's tables, and what the kernel's maps are read back
as; bpf/maps.h holds the same shapes in C.

Addresses are 16 bytes in network order, IPv4 mapped (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2).
"""

import ipaddress
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NewType

Address = NewType("Address", bytes)


def address(text: str) -> Address:
    """16 bytes from canonical text; ValueError if it is no address."""
    ip = ipaddress.ip_address(text)
    return Address(b"\0" * 10 + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed)


def address_text(packed: bytes) -> str:
    ip = ipaddress.IPv6Address(packed)
    return str(ip.ipv4_mapped or ip)


class Direction(IntEnum):
    INGRESS = 0
    EGRESS = 1


class Protocol(IntEnum):
    """IP protocol numbers (IANA); ANY stands for all protocols and so for all ports."""

    ANY = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


class Tier(IntEnum):
    """In which order policies are judged. A tier that does not decide leaves it to the next."""

    ADMIN = 0
    NETWORK = 1
    BASELINE = 2


class Action(IntEnum):
    """What a policy entry does with traffic. Of two that are equally strong the greater stands."""

    PASS = 0
    """Left to the next tier."""
    ALLOW = 1
    PROXY = 2
    """Allowed through the node's DNS proxy."""
    DENY = 3


Strength = NewType("Strength", int)
"""A policy entry's value: precedence * 4 + action. Of the entries that match, the greatest
decides."""


def strength(action: Action, precedence: int = 0) -> Strength:
    return Strength(precedence << 2 | action)


def action_of(value: Strength) -> Action:
    return Action(value & 3)


class Mode(IntEnum):
    """How a packet carries its identity between nodes."""

    OVERLAY = 0
    NATIVE = 1


class EndpointFlag(IntFlag):
    INGRESS_ENFORCED = 1
    EGRESS_ENFORCED = 2
    CIDR_PODS_INGRESS = 4
    """Some ingress rule names CIDRs: a known peer's address is looked up beside its identity."""
    CIDR_PODS_EGRESS = 8
    INGRESS_ISOLATED = 16
    """What tier NETWORK does not allow is denied."""
    EGRESS_ISOLATED = 32
    INGRESS_ADMIN = 64
    """The tier has entries: 64 << (2 * tier + direction)."""
    EGRESS_ADMIN = 128
    INGRESS_NETWORK = 256
    EGRESS_NETWORK = 512
    INGRESS_BASELINE = 1024
    EGRESS_BASELINE = 2048
    NODE = 4096
    """An address of the node itself, which policies select; it is behind no interface."""


class PrefixFlag(IntFlag):
    NONE = 0
    POD_RANGE = 1
    """Addresses here are pods': one that is not in `hosts` is unknown, whatever CIDR holds it."""
    CIDR = 2
    """`identity` is that of a CIDR some policy names (else world or unknown)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A local pod's address: one entry for each of its addresses; or, while policies select it, the
    node's own (EndpointFlag.NODE)."""

    incarnation: int
    """64 bits of the pod UID's hash (of the node's name's): state of an earlier pod at this address
    does not count."""
    identity: int
    policy: int
    """Policy id (64 bits): which entries of the policy map are this endpoint's."""
    flags: EndpointFlag
    ifindex: int
    """Host-side interface in the node's namespace; 0 for the node itself, as MACs are then."""
    mac: bytes
    """The pod's own MAC address, 6 bytes."""
    host_mac: bytes
    """The host side's MAC address, 6 bytes."""
    stale_after_s: int = 0
    """It opens no new flow once its node does not know for so long that the maps are the ledger's
    (`verdict.is_stale`); at most STALE_AFTER_S_MAX, and 0 for however long."""


STALE_AFTER_S_MAX = 65_535


def is_of_node(endpoint: Endpoint) -> bool:
    """Whether it is the node itself, and no pod's."""
    return EndpointFlag.NODE in endpoint.flags


AT_CIDR = 1 << 31
"""Set in a policy entry's identity: see PolicyKey."""


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """Which traffic an entry is for. A port prefix of 0 bits is any port; ANY protocol, all of it.

    Under one policy, tier, direction and identity the longest match decides, so an entry within
    another is the stronger of the two.

    `port` is the destination port (for ICMP the type), its bits below the prefix zero.
    """

    policy: int
    direction: Direction
    identity: int
    """The peer's identity; 0 is any known peer; with AT_CIDR, a pod or node at an address of that
    CIDR."""
    protocol: Protocol
    port: int = 0
    port_bits: int = 0
    tier: Tier = Tier.NETWORK


def specificity(key: PolicyKey) -> int:
    """How many bits of protocol and port an entry fixes: 0 to 24."""
    return 0 if key.protocol is Protocol.ANY else 8 + key.port_bits


@dataclass(frozen=True, slots=True)
class PrefixEntry:
    """Longest-prefix match for addresses that are not in `hosts`.

    `tunnel` is the underlay address of the node that holds the prefix's pods (empty: not remote).
    """

    identity: int
    flags: PrefixFlag = PrefixFlag.NONE
    tunnel: bytes = b""


@dataclass(frozen=True, slots=True)
class Maps:
    """All that a node's dataplane enforces.

    Written in the order of the fields and deleted in reverse, so that no packet meets an identity
    or an endpoint whose policy is half there: a peer is unknown, and dropped, until all its entries
    are written.
    """

    policies: Mapping[PolicyKey, Strength] = field(default_factory=dict)
    identities: Set[int] = frozenset()
    """Known identities: a peer's number that is not here is unknown."""
    nodes: Set[Address] = frozenset()
    """Underlay addresses of known nodes: the only outer sources taken from the wire."""
    prefixes: Mapping[tuple[Address, int], PrefixEntry] = field(default_factory=dict)
    """(network address, prefix length in 0-128 of the 16-byte form) → entry."""
    hosts: Mapping[Address, int] = field(default_factory=dict)
    """The ipcache: exact address → identity."""
    endpoints: Mapping[Address, Endpoint] = field(default_factory=dict)

    def copy(self) -> "Maps":
        """The same entries, in collections that nobody else changes."""
        return Maps(
            dict(self.policies),
            frozenset(self.identities),
            frozenset(self.nodes),
            dict(self.prefixes),
            dict(self.hosts),
            dict(self.endpoints),
        )


MAP_NAMES = ("policies", "identities", "nodes", "prefixes", "hosts", "endpoints")


class Reason(IntEnum):
    """Why a verdict was given; the values are those of enum tabard_reason in bpf/verdict.h."""

    ALLOWED_NO_POLICY = 0
    ALLOWED_POLICY = 1
    ALLOWED_ESTABLISHED = 2
    ALLOWED_HOST = 3
    ALLOWED_NEIGHBOUR = 4
    ALLOWED_RELATED = 5
    ALLOWED_PROXY = 6
    """Through the node's DNS proxy."""
    DENIED_POLICY = 16
    DENIED_UNKNOWN_PEER = 17
    DENIED_SPOOFED_SOURCE = 18
    DENIED_UNKNOWN_ENDPOINT = 19
    DENIED_TUNNEL_PORT = 20
    DENIED_UNKNOWN_NODE = 21
    DENIED_MALFORMED = 22
    DENIED_FRAGMENT = 23
    DENIED_ERROR = 24
    DENIED_PROXY = 25
    """What policy allows through the DNS proxy alone, which cannot take it: it takes UDP."""
    DENIED_STALE = 26
    """A new flow that the maps allow, which are not known to be the ledger's for too long."""

    @property
    def allowed(self) -> bool:
        return self < 16
