"""Packets as facts, for enforcing without a kernel; bpf/packet.h reads the same from frames."""

from dataclasses import dataclass
from enum import Enum, IntFlag

from tabard.dataplane.maps import Address, Protocol

ECHO = {Protocol.ICMP: 8, Protocol.ICMPV6: 128}
ECHO_REPLY = {Protocol.ICMP: 0, Protocol.ICMPV6: 129}
ERRORS = {
    Protocol.ICMP: (3, 11, 12),  # unreachable, time exceeded, parameter problem
    Protocol.ICMPV6: (1, 2, 3, 4),  # unreachable, too big, time exceeded, parameter problem
}
NEIGHBOUR = range(133, 138)
"""ICMPv6 router and neighbour solicitation and advertisement, redirect (RFC 4861)."""
PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


class TcpFlag(IntFlag):
    FIN = 1
    SYN = 2
    RST = 4
    ACK = 16


class Kind(Enum):
    """What can be made of a packet when flows are tracked."""

    FLOW = "opens or continues a flow, or answers one"
    ANSWER = "can only answer one (ICMP echo reply)"
    SINGLE = "stands alone (ICMP that neither asks nor answers)"
    ERROR = "an ICMP error about a packet of some flow"
    NEIGHBOUR = "IPv6 neighbour discovery from this very link"
    FRAGMENT = "not the first fragment: its ports are in the first"


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of a packet; only the first part has the ports."""

    id: int
    is_first: bool


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. Ports are TCP's, UDP's and SCTP's; `quoted` is what an ICMP error is about."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    icmp_type: int = 0
    icmp_id: int = 0
    tcp_flags: TcpFlag = TcpFlag(0)  # noqa: RUF009 - a constant
    hop_limit: int = 64
    fragment: Fragment | None = None
    quoted: "Packet | None" = None

    @property
    def is_ipv6(self) -> bool:
        return not is_ipv4(self.source)


@dataclass(frozen=True, slots=True)
class Head:
    """What a verdict and conntrack need of a packet.

    An echo's id stands in for the port that its sender chose, and the request's type for the port
    it speaks to, so that an answer's tuple is its request's turned around.
    """

    kind: Kind
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    policy_port: int = 0
    """What policies name: the destination port, or the ICMP type."""


def head(packet: Packet) -> Head:
    """Read one packet, without what an earlier fragment may tell of it."""
    if packet.fragment is not None and not packet.fragment.is_first:
        # The protocol of an IPv6 packet's transport stands in its first fragment alone.
        return Head(Kind.FRAGMENT, 0 if packet.is_ipv6 else packet.protocol)
    if packet.protocol in PORTS:
        source, destination = packet.source_port, packet.destination_port
        return Head(Kind.FLOW, packet.protocol, source, destination, destination)
    protocol = Protocol.ICMPV6 if packet.is_ipv6 else Protocol.ICMP
    if packet.protocol != protocol:
        return Head(Kind.FLOW, packet.protocol)
    asked, type = ECHO[protocol], packet.icmp_type
    if type == asked:
        return Head(Kind.FLOW, protocol, packet.icmp_id, asked, type)
    if type == ECHO_REPLY[protocol]:
        return Head(Kind.ANSWER, protocol, asked, packet.icmp_id, type)
    kind = Kind.SINGLE
    if type in ERRORS[protocol]:
        kind = Kind.ERROR
    elif (
        packet.is_ipv6
        and type in NEIGHBOUR
        and packet.hop_limit == 255  # no router forwarded it (RFC 4861 3.1)
        and packet.fragment is None  # RFC 6980
    ):
        kind = Kind.NEIGHBOUR
    return Head(kind, protocol, 0, type, type)


def is_ipv4(address: Address) -> bool:
    return address.startswith(b"\0" * 10 + b"\xff\xff")


def is_link_local(address: Address) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_link_multicast(address: Address) -> bool:
    """ff02::/16: reaches nothing beyond the link."""
    return address.startswith(b"\xff\x02")
