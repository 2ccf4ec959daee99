"""Frames that were cut, bent or lengthened, and a node's maps by which they are judged."""

from dataclasses import replace
from random import Random

import traffic
from entries import allowing
from frames import ETHER, frame, own_icmp
from kernel import endpoint
from packets import DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING
from tabard.dataplane.maps import Direction, Maps, PolicyKey, PrefixEntry, Protocol, address
from traffic import LOCAL, PARTIES

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
