"""UDP datagrams in the frames that come from the kernel's programs, and in those sent back. Pure.

A frame is Ethernet II; its destination address says where it was taken from (bpf/proxy.h). The
programs have parsed it before: what they would not have sent here is no datagram.
"""

import ipaddress
import struct
from dataclasses import dataclass

from tabard.dataplane.crafted import ETHERTYPES, IPV4, IPV6, UDP, ip_packet
from tabard.dataplane.maps import Direction, Protocol

MARK = b"\x02tab\0"
"""What addresses in a frame begin with; the last byte is the direction."""

_ETHERNET = struct.Struct("!6s6sH")
_VERSIONS = {kind: version for version, kind in ETHERTYPES.items()}


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
        direction, version = Direction(marked[5]), _VERSIONS[kind]
        packet = frame[_ETHERNET.size :]
        if marked[:5] != MARK:
            return None
        if version == 4:
            first, _, length, _, _, _, protocol, _, source, destination = IPV4.unpack_from(packet)
            at = (first & 15) * 4
        else:
            _, length, protocol, _, source, destination = IPV6.unpack_from(packet)
            at, length = IPV6.size, length + IPV6.size
        source_port, destination_port, size, _ = UDP.unpack_from(packet, at)
    except (struct.error, KeyError, ValueError):
        return None
    if protocol != Protocol.UDP or not at + UDP.size <= at + size <= length <= len(packet):
        return None
    return Datagram(
        direction,
        str(ipaddress.ip_address(source)),
        str(ipaddress.ip_address(destination)),
        source_port,
        destination_port,
        packet[at + UDP.size : at + size],
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
    packet = ip_packet(ends, ports, payload)
    marked = MARK + bytes([direction])
    return _ETHERNET.pack(marked, MARK + b"\0", ETHERTYPES[packet[0] >> 4]) + packet
