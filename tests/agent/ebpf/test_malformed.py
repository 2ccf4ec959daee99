"""Frames that were cut, bent or lengthened are judged as the packet that they still are, if any."""

import os
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import traffic
from entries import allowing
from frames import ETHER, frame, own_icmp
from kernel import Kernel, endpoint
from packets import DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING, TCP, UDP, packet
from tabard.dataplane.maps import (
    Direction,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    Protocol,
    Reason,
    address,
)
from traffic import LOCAL, PARTIES
from twins import Twins

EXAMPLES = int(os.environ.get("EQUAL_EXAMPLES", "50"))
pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(120 + EXAMPLES)]
PEER = 300


def world() -> Maps:
    """Every direction is enforced, and a few ports are open to everyone known."""
    return Maps(
        identities=frozenset({2, PEER}),
        policies=allowing(
            PolicyKey(1, direction, identity, protocol, port, 16)
            for direction in Direction
            for identity in (2, PEER)
            for protocol, port in (
                (Protocol.TCP, 80),
                (Protocol.UDP, 5353),
                (Protocol.ICMP, 8),
                (Protocol.ICMPV6, 128),
            )
        ),
        prefixes={
            (address("0.0.0.0"), 96): PrefixEntry(2),
            (address("::"), 0): PrefixEntry(2),
        },
        endpoints={place: endpoint(PEER) for pair in PARTIES[: len(LOCAL)] for place in pair},
    )


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_bent_frames_are_what_they_still_are(native: Kernel, seed: int, count: int) -> None:
    random = Random(seed)
    twins = Twins(native, Mode.NATIVE)
    twins.put(world())
    for _ in range(count):
        hook = random.choice(("from_pod", "from_pod", "to_pod", "to_pod", "from_wire"))
        mark = random.choice((None, PEER, 0))
        twins.odd(hook, bent(random), 1, mark)


def stating(frame: bytes, length: int) -> bytes:
    """The frame with another length in its IP header: IPv4's whole, IPv6's behind the header."""
    at = ETHER + (2 if frame[12:14] == b"\x08\x00" else 4)
    return frame[:at] + length.to_bytes(2) + frame[at + 2 :]


@pytest.mark.parametrize("v", [4, 6])
@pytest.mark.parametrize("proto", [TCP, UDP])
def test_ports_beyond_the_packets_end_are_nobodys(native: Kernel, v: int, proto: int) -> None:
    native.put(world())
    port, header = {TCP: (80, 20), UDP: (5353, 8)}[proto]
    source, target = {4: (LOCAL[0][0], "203.0.113.9"), 6: (LOCAL[0][1], "2001:db8::9")}[v]
    whole = packet(source, target, proto, 40_000, port)
    rest = 20 if v == 4 else 0
    assert native.egress(stating(whole, rest + header)) is Reason.ALLOWED_POLICY
    assert native.egress(stating(whole, rest + header - 1)) is Reason.DENIED_MALFORMED
    assert native.egress(stating(whole, 0)) is Reason.DENIED_MALFORMED


def test_a_first_fragment_cannot_show_ports_that_its_next_fragment_replaces(
    native: Kernel,
) -> None:
    """Of the first only the options arrive; what would be joined to them is the next one's TCP."""
    native.put(world())
    source, target = LOCAL[0][1], "2001:db8::9"
    shown = bytearray(packet(source, target, TCP, 40_000, 80, fragment=(7, 0, True)))
    shown[54] = DESTINATION
    shown[62:62] = bytes((TCP, 0, 1, 4, 0, 0, 0, 0))
    hidden = packet(source, target, DESTINATION, fragment=(7, 8, False), payload=bytes(20))
    assert native.egress(stating(bytes(shown), 8 + 8 + 20)) is Reason.ALLOWED_POLICY
    native.forget_flows()
    assert native.egress(stating(bytes(shown), 8 + 8)) is Reason.DENIED_MALFORMED
    assert native.egress(hidden) is Reason.DENIED_FRAGMENT


def bent(random: Random) -> bytes:
    """A frame of random traffic with some of its bytes others, some more, or some missing."""
    whole = traffic.packet(random)
    if whole.quoted is None and random.random() < 0.2:
        types = (3, 11) if not whole.is_ipv6 else (1, 2)
        whole = replace(
            whole,
            source=whole.destination,
            destination=whole.source,
            protocol=own_icmp(whole),
            icmp_type=random.choice(types),
            source_port=0,
            destination_port=0,
            quoted=whole,
        )
    data = bytearray(frame(whole, random.randbytes(random.choice((0, 4, 24)))))
    head = 20 if data[12] == 8 else 40
    if head == 40 and random.random() < 0.4:
        extended(random, data)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.choice((random.randrange(12, len(data)), random.randrange(ETHER, ETHER + head)))
        data[at] = random.choice((data[at] ^ (1 << random.randrange(8)), random.randrange(256)))
    match random.randrange(4):
        case 0:
            del data[random.randrange(ETHER + head, len(data) + 1) :]
        case 1:
            data += random.randbytes(random.randrange(1, 64))
        case 2:
            at = ETHER + (2 if head == 20 else 4)
            data[at : at + 2] = random.randrange(64).to_bytes(2)
    # The kernel runs no shorter frames.
    return bytes(data.ljust(ETHER + (20 if data[12:14] == b"\x08\x00" else 40), b"\0"))


def extended(random: Random, data: bytearray) -> None:
    """Put IPv6 extension headers of any content between the first header and the rest."""
    for _ in range(random.choice((1, 1, 2, 3, 7))):
        kind = random.choice((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, 51))
        body = bytearray(random.randbytes(8)) if random.random() < 0.3 else bytearray(8)
        body[0], body[1] = data[20], 0
        if kind == 51:
            body += bytes(4)
            body[1] = 1
        data[20] = kind
        data[54:54] = body
        length = int.from_bytes(data[18:20]) + len(body)
        data[18:20] = length.to_bytes(2)
