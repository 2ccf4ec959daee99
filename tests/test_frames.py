"""What is written is read back, so that the one can be trusted to judge the other."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

import traffic
from frames import frame, own_icmp, read
from tabard.dataplane.maps import Protocol
from tabard.dataplane.packet import ERRORS, Fragment, Packet, TcpFlag


@given(seed=st.integers(0, 2**32 - 1), about=st.booleans())
def test_a_packet_survives_its_frame(seed: int, about: bool) -> None:
    packet = traffic.packet(Random(seed))
    assert read(frame(packet)) == as_read(packet)
    if about and packet.quoted is None:
        protocol = own_icmp(packet)
        error = Packet(
            packet.destination,
            packet.source,
            protocol,
            icmp_type=ERRORS[protocol][0],
            quoted=packet,
        )
        found = read(frame(error))
        assert found is not None
        assert found.quoted == as_read(packet, quoted=True)


def as_read(packet: Packet, quoted: bool = False) -> Packet:
    """Without what a frame does not tell: an IPv4 TTL, and the flags of a quoted packet."""
    if not packet.is_ipv6:
        packet = replace(packet, hop_limit=64)
    return replace(packet, tcp_flags=TcpFlag(0)) if quoted else packet


def test_frames_are_cut_where_they_say_they_end() -> None:
    seed = next(n for n in range(1000) if _is_plain_tcp(traffic.packet(Random(n))))
    whole = frame(traffic.packet(Random(seed)))
    assert read(whole) is not None
    assert read(whole[:-1]) is None
    assert read(whole + b"padding") == read(whole)


def _is_plain_tcp(packet: Packet) -> bool:
    return packet.protocol == Protocol.TCP and not isinstance(packet.fragment, Fragment)
