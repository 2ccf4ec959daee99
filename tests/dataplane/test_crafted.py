import pytest

from packets import TCP, UDP, packet, vxlan
from tabard.dataplane.crafted import checksum, in_vxlan, ip_packet
from tabard.dataplane.maps import Protocol

FAMILIES = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]


@pytest.mark.parametrize("ends", FAMILIES)
def test_a_packet_is_what_the_tests_own_maker_makes(ends: tuple[str, str]) -> None:
    mine = ip_packet(ends, (4000, 53), b"odd")
    assert mine == packet(*ends, UDP, 4000, 53, payload=b"odd")[14:]
    segment = ip_packet(ends, (4000, 80), b"even", Protocol.TCP)
    theirs = packet(*ends, TCP, 4000, 80, payload=b"even")[14:]
    at = len(segment) - 24
    # Sequence number, acknowledgement and both checksums aside.
    assert segment[:at] + segment[at + 12 : at + 16] == theirs[:at] + theirs[at + 12 : at + 16]


@pytest.mark.parametrize("ends", FAMILIES)
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
def test_every_checksum_is_right(ends: tuple[str, str], protocol: Protocol) -> None:
    made = ip_packet(ends, (1, 2), b"payload", protocol)
    head = 20 if made[0] >> 4 == 4 else 40
    if head == 20:
        assert checksum(made[:20]) == 0
    addresses = made[12:20] if head == 20 else made[8:40]
    body = made[head:]
    assert (
        checksum(addresses + len(body).to_bytes(4, "big") + bytes([0, 0, 0, protocol]) + body) == 0
    )


def test_a_packet_in_the_tunnel_bears_its_identity() -> None:
    inner = ip_packet(FAMILIES[1], (1, 2), b"x")
    made = in_vxlan(0xABCDEF, inner)
    assert made == vxlan(0xABCDEF, made[8:22] + inner)
    assert made[20:22] == b"\x86\xdd"


def test_no_other_protocol_is_made() -> None:
    with pytest.raises(ValueError, match="no packet of SCTP"):
        ip_packet(FAMILIES[0], (1, 2), b"", Protocol.SCTP)
