"""Frames made by hand, for programs that are run on crafted packets and for raw sockets."""

import ipaddress
import struct

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

NEIGHBOUR_TYPES = range(133, 138)

HOST_MAC = bytes.fromhex("060000000001")
POD_MAC = bytes.fromhex("020000000001")


def packet(
    src: str,
    dst: str,
    proto: int,
    sport: int = 0,
    dport: int = 0,
    *,
    flags: int = SYN,
    fragment: tuple[int, int, bool] | None = None,
    ext_headers: tuple[int, ...] = (),
    hop_limit: int | None = None,
    payload: bytes = b"",
    ethernet: bytes | None = None,
) -> bytes:
    """An Ethernet frame with an IPv4 or IPv6 packet, as its addresses are.

    For ICMP and ICMPv6 `dport` is the type and `sport` the id. `fragment` is (id, offset in bytes,
    more to come); one with an offset has no transport header, only `payload`. `ext_headers` are
    empty IPv6 ones, before the fragment header. IPv4 header and TCP, UDP and ICMP checksums are
    right. `ethernet` replaces the two MAC addresses.
    """
    source, destination = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    macs = ethernet if ethernet is not None else HOST_MAC + POD_MAC
    if fragment is not None and fragment[1]:
        body = payload
    else:
        body = transport(source.packed, destination.packed, proto, sport, dport, flags, payload)
    if source.version == 4:
        return macs + b"\x08\x00" + _ipv4(source.packed, destination.packed, proto, body, fragment)
    if hop_limit is None:
        hop_limit = 255 if proto == ICMPV6 and dport in NEIGHBOUR_TYPES else 64
    following = proto
    if fragment is not None:
        number, offset, more = fragment
        body = struct.pack("!BBHI", following, 0, offset | more, number) + body
        following = FRAGMENT
    for kind in reversed(ext_headers):
        body = struct.pack("!BB6x", following, 0) + body
        following = kind
    head = struct.pack("!IHBB", 0x60000000, len(body), following, hop_limit)
    return macs + b"\x86\xdd" + head + source.packed + destination.packed + body


def transport(
    source: bytes,
    destination: bytes,
    proto: int,
    sport: int,
    dport: int,
    flags: int = SYN,
    payload: bytes = b"",
) -> bytes:
    """The transport header and payload, with its checksum (SCTP's is left 0)."""
    match proto:
        case 6:
            body = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, flags, 64240, 0, 0) + payload
            at = 16
        case 17:
            body = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
            at = 6
        case 132:
            return struct.pack("!HHII", sport, dport, 0, 0) + payload
        case 1 | 58:
            body = struct.pack("!BBHHH", dport, 0, 0, sport, 0) + payload
            at = 2
        case _:
            return payload
    pseudo = b"" if proto == 1 else source + destination + struct.pack("!IxxxB", len(body), proto)
    return body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]


def icmp_error(src: str, dst: str, about: bytes, *, kind: int | None = None) -> bytes:
    """An ICMP error about a frame made by `packet`: unreachable unless `kind` says otherwise."""
    quoted = about[14 : 14 + 128]
    if ipaddress.ip_address(src).version == 4:
        return packet(src, dst, ICMP, 0, 3 if kind is None else kind, payload=quoted)
    return packet(src, dst, ICMPV6, 0, 1 if kind is None else kind, payload=quoted)


def arp(sender_mac: bytes, sender: str, target: str, *, reply: bool = False) -> bytes:
    body = struct.pack(
        "!HHBBH6s4s6s4s",
        1,
        0x0800,
        6,
        4,
        2 if reply else 1,
        sender_mac,
        ipaddress.ip_address(sender).packed,
        bytes(6),
        ipaddress.ip_address(target).packed,
    )
    return b"\xff" * 6 + sender_mac + b"\x08\x06" + body


def vxlan(vni: int, inner: bytes) -> bytes:
    """The payload of a VXLAN packet (RFC 7348 5)."""
    return struct.pack("!BxxxI", 0x08, vni << 8) + inner


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ipv4(
    source: bytes,
    destination: bytes,
    proto: int,
    body: bytes,
    fragment: tuple[int, int, bool] | None,
) -> bytes:
    number, offset, more = fragment or (0, 0, False)
    word = (offset >> 3) | (0x2000 if more else 0)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), number, word, 64, proto, 0, source, destination
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
