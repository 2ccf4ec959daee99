import pytest

from tabard.dataplane.maps import Protocol, address
from tabard.dataplane.packet import (
    Fragment,
    Head,
    Kind,
    Packet,
    head,
    is_ipv4,
    is_link_local,
    is_link_multicast,
)

A4, B4 = address("10.0.0.1"), address("10.0.0.2")
A6, B6 = address("fd00::1"), address("fd00::2")


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, Protocol.SCTP])
def test_ports_are_read(protocol: Protocol) -> None:
    packet = Packet(A4, B4, protocol, 40_000, 80)
    assert head(packet) == Head(Kind.FLOW, protocol, 40_000, 80, 80)


def test_other_protocols_have_no_ports() -> None:
    assert head(Packet(A4, B4, 47, 1, 2)) == Head(Kind.FLOW, 47)


def test_an_echo_answers_as_its_request_turned_around() -> None:
    for a, protocol, asks, answers in (
        (A4, Protocol.ICMP, 8, 0),
        (A6, Protocol.ICMPV6, 128, 129),
    ):
        request = head(Packet(a, a, protocol, icmp_type=asks, icmp_id=77))
        answer = head(Packet(a, a, protocol, icmp_type=answers, icmp_id=77))
        assert request == Head(Kind.FLOW, protocol, 77, asks, asks)
        assert answer == Head(Kind.ANSWER, protocol, asks, 77, answers)


@pytest.mark.parametrize(
    ("source", "protocol", "type", "kind"),
    [
        (A4, Protocol.ICMP, 3, Kind.ERROR),
        (A4, Protocol.ICMP, 11, Kind.ERROR),
        (A4, Protocol.ICMP, 5, Kind.SINGLE),
        (A4, Protocol.ICMP, 13, Kind.SINGLE),
        (A4, Protocol.ICMP, 135, Kind.SINGLE),
        (A6, Protocol.ICMPV6, 2, Kind.ERROR),
        (A6, Protocol.ICMPV6, 130, Kind.SINGLE),
        (A6, Protocol.ICMPV6, 135, Kind.NEIGHBOUR),
        (A6, Protocol.ICMPV6, 138, Kind.SINGLE),
        # The other family's ICMP is a protocol like any other.
        (A4, Protocol.ICMPV6, 135, Kind.FLOW),
        (A6, Protocol.ICMP, 8, Kind.FLOW),
    ],
)
def test_icmp_is_told_apart(source: object, protocol: Protocol, type: int, kind: Kind) -> None:
    assert head(Packet(source, source, protocol, icmp_type=type, hop_limit=255)).kind is kind


def test_discovery_that_was_forwarded_or_fragmented_is_none() -> None:
    far = Packet(A6, B6, Protocol.ICMPV6, icmp_type=135, hop_limit=254)
    part = Packet(A6, B6, Protocol.ICMPV6, icmp_type=135, hop_limit=255, fragment=Fragment(1, True))
    assert head(far).kind is head(part).kind is Kind.SINGLE


def test_a_later_fragment_has_no_ports() -> None:
    later = Fragment(7, False)
    assert head(Packet(A4, B4, 6, 1, 2, fragment=later)) == Head(Kind.FRAGMENT, 6)
    assert head(Packet(A6, B6, 6, 1, 2, fragment=later)) == Head(Kind.FRAGMENT, 0)


def test_addresses_are_told_apart() -> None:
    assert is_ipv4(A4)
    assert not is_ipv4(A6)
    assert is_link_local(address("fe80::1"))
    assert is_link_local(address("febf::1"))
    assert not is_link_local(address("fec0::1"))
    assert is_link_multicast(address("ff02::1:ff00:1"))
    assert not is_link_multicast(address("ff05::1"))
