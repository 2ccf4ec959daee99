"""Frames from packets as facts, and packets from frames: the kernel's parser said once more.

`read` is written from the RFCs and the rules at the top of bpf/packet.h, as its second opinion.
"""

from dataclasses import replace

from packets import FRAGMENT, HOP_BY_HOP, ROUTING, packet
from tabard.dataplane.maps import Address, Protocol, address_text
from tabard.dataplane.packet import ERRORS, Fragment, Packet, TcpFlag, is_ipv4

ETHER = 14
EXTENSION_HEADERS_MAX = 6
AUTHENTICATION, NO_NEXT, DESTINATION = 51, 59, 60


def frame(p: Packet, payload: bytes = b"") -> bytes:
    """An Ethernet frame with the packet; a later fragment stands at offset 1480."""
    icmp = p.protocol == own_icmp(p)
    if p.quoted is not None:
        payload = frame(p.quoted)[ETHER:]
    fragment = None
    if p.fragment is not None:
        fragment = (p.fragment.id, 0 if p.fragment.is_first else 1480, p.fragment.is_first)
    return packet(
        address_text(p.source),
        address_text(p.destination),
        p.protocol,
        p.icmp_id if icmp else p.source_port,
        p.icmp_type if icmp else p.destination_port,
        flags=p.tcp_flags,
        fragment=fragment,
        hop_limit=p.hop_limit,
        payload=payload,
    )


def own_icmp(packet: Packet) -> Protocol:
    """The ICMP of the packet's own IP version."""
    return Protocol.ICMPV6 if packet.is_ipv6 else Protocol.ICMP


def is_ip(frame: bytes) -> bool:
    return frame[12:14] in (b"\x08\x00", b"\x86\xdd")


def read(frame: bytes) -> Packet | None:
    """The IP packet of a frame whose ethertype is IPv4 or IPv6; None if it is malformed."""
    return _read(frame[ETHER:], frame[12:14] == b"\x86\xdd", quoted=False)


def _read(data: bytes, is_ipv6: bool, *, quoted: bool) -> Packet | None:
    return (_read_ipv6 if is_ipv6 else _read_ipv4)(data, quoted)


def _read_ipv4(data: bytes, quoted: bool) -> Packet | None:
    if len(data) < 20 or data[0] >> 4 != 4 or (length := (data[0] & 15) * 4) < 20:
        return None
    prefix = b"\0" * 10 + b"\xff\xff"
    p = Packet(Address(prefix + data[12:16]), Address(prefix + data[16:20]), data[9])
    if not quoted:
        # What follows is not the packet's: the receiver cuts it off.
        data = data[: int.from_bytes(data[2:4])]
    if len(data) < length:
        return None
    word = int.from_bytes(data[6:8])
    if word & 0x3FFF:
        p = replace(p, fragment=Fragment(int.from_bytes(data[4:6]), not word & 0x1FFF))
    return _read_transport(p, data[length:], quoted)


def _read_ipv6(data: bytes, quoted: bool) -> Packet | None:
    if len(data) < 40 or data[0] >> 4 != 6:
        return None
    p = Packet(Address(data[8:24]), Address(data[24:40]), 0, hop_limit=data[7])
    if is_ipv4(p.source) or is_ipv4(p.destination):
        return None
    rest = data[40:] if quoted else data[40 : 40 + int.from_bytes(data[4:6])]
    following, headers = data[6], 0
    while following in (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION):
        headers += 1
        if headers > EXTENSION_HEADERS_MAX or len(rest) < 8:
            return None
        if following == ROUTING and rest[3]:
            return None  # segments left: it ends elsewhere
        length = (rest[1] + 1) * 8
        if following == AUTHENTICATION:
            length = (rest[1] + 2) * 4
        elif following == FRAGMENT:
            length, word = 8, int.from_bytes(rest[2:4])
            later, more = bool(word & 0xFFF8), bool(word & 1)
            whole = not later and not more
            fragment = None if whole else Fragment(int.from_bytes(rest[4:8]), not later)
            p = replace(p, fragment=fragment)
            if later:
                return p
        if length > len(rest):
            return None
        following, rest = rest[0], rest[length:]
    if following == NO_NEXT:
        return None
    return _read_transport(replace(p, protocol=following), rest, quoted)


def _read_transport(p: Packet, data: bytes, quoted: bool) -> Packet | None:
    if p.fragment is not None and not p.fragment.is_first:
        return p
    icmp = p.protocol == own_icmp(p)
    if not icmp and p.protocol not in (6, 17, 132):
        return p
    if len(data) < (20 if p.protocol == 6 and not quoted else 8):
        return None
    first, second = int.from_bytes(data[0:2]), int.from_bytes(data[2:4])
    if icmp:
        p = replace(p, icmp_type=data[0], icmp_id=int.from_bytes(data[4:6]))
        if not quoted and p.icmp_type in ERRORS[own_icmp(p)]:
            p = replace(p, quoted=_read(data[8:], p.is_ipv6, quoted=True))
        return p
    p = replace(p, source_port=first, destination_port=second)
    if p.protocol == 6 and not quoted:
        p = replace(p, tcp_flags=TcpFlag(data[13] & 0x17))
    return p
