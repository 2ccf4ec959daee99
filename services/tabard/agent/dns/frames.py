"""UDP datagrams in the frames that come from the kernel's programs, and in those sent back. Pure.

A frame is Ethernet II; its destination address says where it was taken from (bpf/proxy.h). The
programs have parsed it before: what they would not have sent here is no datagram.
"""

import ipaddress
import struct
from dataclasses import dataclass

from tabard.dataplane.maps import Direction, Protocol

MARK = b"\x02tab\0"
"""What addresses in a frame begin with; the last byte is the direction."""

_ETHERNET = struct.Struct("!6s6sH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_UDP = struct.Struct("!HHHH")
_TYPES = {0x0800: 4, 0x86DD: 6}
_HOP_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Datagram:
    direction: Direction
    """EGRESS: a pod sent it; INGRESS: it is on its way to a pod."""
    source: str
    destination: str
    source_port: int
    destination_port: int
    payload: bytes


def read(frame: bytes) -> Datagram | None:
    """The datagram in `frame`; None if there is none, whole and without IPv6 extensions."""
    try:
        marked, _, kind = _ETHERNET.unpack_from(frame)
        direction, version = Direction(marked[5]), _TYPES[kind]
        packet = frame[_ETHERNET.size :]
        if marked[:5] != MARK:
            return None
        if version == 4:
            first, _, length, _, _, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
            at = (first & 15) * 4
        else:
            _, length, protocol, _, source, destination = _IPV6.unpack_from(packet)
            at, length = _IPV6.size, length + _IPV6.size
        source_port, destination_port, size, _ = _UDP.unpack_from(packet, at)
    except (struct.error, KeyError, ValueError):
        return None
    if protocol != Protocol.UDP or not at + _UDP.size <= at + size <= length <= len(packet):
        return None
    return Datagram(
        direction,
        str(ipaddress.ip_address(source)),
        str(ipaddress.ip_address(destination)),
        source_port,
        destination_port,
        packet[at + _UDP.size : at + size],
    )


def answering(asked: Datagram, payload: bytes) -> bytes:
    """A frame on its way to the pod that sent `asked`, in the name of whom it was sent to."""
    ends = (asked.destination, asked.source)
    return _frame(Direction.INGRESS, ends, (asked.destination_port, asked.source_port), payload)


def asking(asked: Datagram, payload: bytes) -> bytes:
    """A frame on the way of `asked` that holds `payload`, and nothing else that the pod chose."""
    ends = (asked.source, asked.destination)
    return _frame(Direction.EGRESS, ends, (asked.source_port, asked.destination_port), payload)


def _frame(
    direction: Direction, ends: tuple[str, str], ports: tuple[int, int], payload: bytes
) -> bytes:
    """`ends` and `ports`: the source's, the destination's."""
    source, destination = (ipaddress.ip_address(end).packed for end in ends)
    size = _UDP.size + len(payload)
    pseudo = source + destination + struct.pack("!II", size, Protocol.UDP)
    # A sum of 0 is sent as its other form; 0 says that there is none (RFC 768).
    checksum = _checksum(pseudo + _UDP.pack(*ports, size, 0) + payload) or 0xFFFF
    udp = _UDP.pack(*ports, size, checksum) + payload
    if len(source) == 4:
        fields = [0x45, 0, _IPV4.size + size, 0, 0, _HOP_LIMIT, Protocol.UDP]
        ip = _IPV4.pack(*fields, 0, source, destination)
        ip = _IPV4.pack(*fields, _checksum(ip), source, destination)
        kind = 0x0800
    else:
        ip = _IPV6.pack(6 << 28, size, Protocol.UDP, _HOP_LIMIT, source, destination)
        kind = 0x86DD
    marked = MARK + bytes([direction])
    return _ETHERNET.pack(marked, MARK + b"\0", kind) + ip + udp


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
