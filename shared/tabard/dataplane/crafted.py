"""Packets made by hand, with all their checksums: what a proxy sends, and what forgers do. Pure."""

import ipaddress
import struct

from tabard.dataplane.maps import Protocol
from tabard.dataplane.packet import TcpFlag

IPV4 = struct.Struct("!BBHHHBBH4s4s")
IPV6 = struct.Struct("!IHBB16s16s")
UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBBHHH")
_VXLAN = struct.Struct("!BxxxI")
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
"""By IP version."""
_VNI_IS_THERE = 0x08
_HOP_LIMIT = 64
_MACS = b"\x02tabrd" * 2
"""Locally administered. Who takes the packet out of the tunnel replaces them."""
_WINDOW = 64_240


def ip_packet(
    ends: tuple[str, str],
    ports: tuple[int, int],
    payload: bytes,
    protocol: Protocol = Protocol.UDP,
) -> bytes:
    """A UDP datagram, or a TCP segment that opens a connection and has data already.

    `ends` and `ports` are the source's and the destination's; the addresses are of one family.
    """
    source, destination = (ipaddress.ip_address(end).packed for end in ends)
    body = _transport(source + destination, ports, payload, protocol)
    if len(source) == 4:
        fields = (0x45, 0, IPV4.size + len(body), 0, 0, _HOP_LIMIT, protocol)
        head = IPV4.pack(*fields, 0, source, destination)
        return IPV4.pack(*fields, checksum(head), source, destination) + body
    return IPV6.pack(6 << 28, len(body), protocol, _HOP_LIMIT, source, destination) + body


def _transport(
    addresses: bytes, ports: tuple[int, int], payload: bytes, protocol: Protocol
) -> bytes:
    """`addresses`: both, packed, as they are in the header that checksums take in."""
    match protocol:
        case Protocol.UDP:
            size = UDP.size + len(payload)
            pseudo = addresses + struct.pack("!II", size, protocol)
            # A sum of 0 is sent as its other form; 0 says that there is none (RFC 768).
            found = checksum(pseudo + UDP.pack(*ports, size, 0) + payload) or 0xFFFF
            return UDP.pack(*ports, size, found) + payload
        case Protocol.TCP:
            fields = (*ports, 1, 0, _TCP.size << 2, TcpFlag.SYN, _WINDOW)
            pseudo = addresses + struct.pack("!II", _TCP.size + len(payload), protocol)
            found = checksum(pseudo + _TCP.pack(*fields, 0, 0) + payload)
            return _TCP.pack(*fields, found, 0) + payload
        case _:
            raise ValueError(f"no packet of {protocol.name} is made here; use UDP or TCP")


def in_vxlan(identity: int, packet: bytes) -> bytes:
    """The payload of a datagram to a tunnel port: an IP packet that bears `identity` (RFC 7348)."""
    kind = ETHERTYPES[packet[0] >> 4].to_bytes(2, "big")
    return _VXLAN.pack(_VNI_IS_THERE, identity << 8) + _MACS + kind + packet


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
