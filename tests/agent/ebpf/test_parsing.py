"""Frames that are odd, cut short or lie: what cannot be judged is dropped."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entries import allowing
from kernel import MARK, SHOT, Kernel, endpoint
from packets import (
    DESTINATION,
    HOP_BY_HOP,
    HOST_MAC,
    ICMP,
    ICMPV6,
    NEIGHBOUR_TYPES,
    POD_MAC,
    ROUTING,
    SCTP,
    TCP,
    UDP,
    arp,
    packet,
)
from tabard.agent.ebpf.source import PROGRAMS
from tabard.dataplane.maps import (
    Direction,
    EndpointFlag,
    Maps,
    PolicyKey,
    Protocol,
    Reason,
    address,
)

pytestmark = pytest.mark.ebpf

POD = {4: "10.1.0.1", 6: "fd00:1::1"}
PEER = {4: "10.2.0.9", 6: "fd00:2::9"}
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
UNENFORCED = EndpointFlag(0)

families = pytest.mark.parametrize("v", [4, 6])


def maps(flags: EndpointFlag | None = None, ifindex: int = 1) -> Maps:
    own = endpoint(ifindex=ifindex) if flags is None else endpoint(flags=flags, ifindex=ifindex)
    return Maps(
        identities=frozenset({301}),
        policies=allowing(
            PolicyKey(1, direction, 301, protocol, 80, 16)
            for direction in Direction
            for protocol in (Protocol.TCP, Protocol.UDP)
        ),
        hosts={address(PEER[v]): 301 for v in (4, 6)},
        endpoints={address(POD[v]): own for v in (4, 6)},
    )


def out(v: int, proto: int = TCP, port: int = 80, **options: object) -> bytes:
    return packet(POD[v], PEER[v], proto, 40000, port, **options)  # type: ignore[arg-type]


@families
@pytest.mark.parametrize("proto", [TCP, UDP, SCTP, ICMP, ICMPV6])
def test_no_cut_of_a_packet_passes_before_its_header_is_whole(
    native: Kernel, v: int, proto: int
) -> None:
    native.put(maps(UNENFORCED))
    proto = {ICMP: ICMPV6, ICMPV6: ICMP}.get(proto, proto) if (proto == ICMP) == (v == 6) else proto
    whole = out(v, proto)
    header = {TCP: 20, UDP: 8, SCTP: 8, ICMP: 8, ICMPV6: 8}[proto] + 14 + (20 if v == 4 else 40)
    shortest = 14 + (20 if v == 4 else 40)  # the kernel runs no shorter frames
    for length in range(shortest, len(whole) + 1):
        reason = native.egress(whole[:length])
        assert (reason is Reason.DENIED_MALFORMED) == (length < header), length


@families
def test_wrong_versions_and_header_lengths_are_malformed(native: Kernel, v: int) -> None:
    native.put(maps(UNENFORCED))
    frame = bytearray(out(v))
    first = {4: (0x55, 0x44, 0x05, 0x40), 6: (0x40, 0x50, 0x00, 0x70)}[v]
    for byte in first:
        frame[14] = byte
        assert native.egress(bytes(frame)) is Reason.DENIED_MALFORMED, hex(byte)


def test_ipv4_options_are_stepped_over(native: Kernel) -> None:
    native.put(maps())
    frame = bytearray(out(4))
    frame[14] = 0x47
    frame[16:18] = (20 + 8 + 20).to_bytes(2)
    frame[34:34] = b"\x01" * 8
    assert native.egress(bytes(frame)) is Reason.ALLOWED_POLICY
    native.put(Maps())
    native.put(maps())
    native.forget_flows()
    frame[34 + 8 + 3] = 81
    assert native.egress(bytes(frame)) is Reason.DENIED_POLICY


@pytest.mark.parametrize("program", ["from_pod", "to_pod", "from_overlay"])
@pytest.mark.parametrize("ethertype", [0x8100, 0x88CC, 0x8847, 0x0842, 0x0001])
def test_other_ethertypes_are_dropped(native: Kernel, program: str, ethertype: int) -> None:
    native.put(maps(UNENFORCED))
    frame = HOST_MAC + POD_MAC + ethertype.to_bytes(2, "big") + bytes(60)
    ran = native.run(program, frame)
    assert ran.action == SHOT
    if program != "from_overlay":  # which has refused it for its tunnel before
        assert ran.reason is Reason.DENIED_MALFORMED


def test_an_ipv6_packet_cannot_pass_for_an_ipv4_pod(native: Kernel) -> None:
    native.put(maps(UNENFORCED))
    disguised = packet(f"::ffff:{POD[4]}", PEER[6], TCP, 40000, 80)
    assert native.egress(disguised) is Reason.DENIED_MALFORMED
    assert native.ingress(packet(PEER[6], f"::ffff:{POD[4]}", TCP, 1, 80)) is (
        Reason.DENIED_MALFORMED
    )


# ---- IPv6 extension headers


@pytest.mark.parametrize("headers", [(HOP_BY_HOP,), (DESTINATION,), (HOP_BY_HOP, DESTINATION) * 3])
def test_extension_headers_are_walked(native: Kernel, headers: tuple[int, ...]) -> None:
    native.put(maps())
    assert native.egress(out(6, ext_headers=headers)) is Reason.ALLOWED_POLICY
    assert native.egress(out(6, port=81, ext_headers=headers)) is Reason.DENIED_POLICY


def test_one_extension_header_more_than_the_bound_is_malformed(native: Kernel) -> None:
    native.put(maps(UNENFORCED))
    assert native.egress(out(6, ext_headers=(DESTINATION,) * 6)) is Reason.ALLOWED_NO_POLICY
    assert native.egress(out(6, ext_headers=(DESTINATION,) * 7)) is Reason.DENIED_MALFORMED


def test_no_next_header_and_segments_left_are_malformed(native: Kernel) -> None:
    native.put(maps(UNENFORCED))
    assert native.egress(out(6, 59)) is Reason.DENIED_MALFORMED
    frame = bytearray(out(6, ext_headers=(ROUTING,)))
    assert native.egress(bytes(frame)) is Reason.ALLOWED_NO_POLICY
    frame[14 + 40 + 3] = 1
    assert native.egress(bytes(frame)) is Reason.DENIED_MALFORMED


# ---- fragments


@families
def test_later_fragments_follow_their_first(native: Kernel, v: int) -> None:
    native.put(maps())
    later = out(v, UDP, fragment=(9, 1480, False), payload=b"x" * 100)
    assert native.egress(later) is Reason.DENIED_FRAGMENT

    first = out(v, UDP, fragment=(9, 0, True), payload=b"x" * 100)
    assert native.egress(first) is Reason.ALLOWED_POLICY
    assert native.egress(later) is Reason.ALLOWED_ESTABLISHED
    other = out(v, UDP, fragment=(10, 1480, False), payload=b"x" * 100)
    assert native.egress(other) is Reason.DENIED_FRAGMENT


@families
def test_fragments_of_a_refused_first_are_refused(native: Kernel, v: int) -> None:
    native.put(maps())
    first = out(v, UDP, 81, fragment=(9, 0, True), payload=b"x" * 100)
    assert native.egress(first) is Reason.DENIED_POLICY
    later = out(v, UDP, fragment=(9, 1480, False), payload=b"x" * 100)
    assert native.egress(later) is Reason.DENIED_POLICY


@families
def test_a_fragment_without_its_first_passes_where_nothing_is_enforced(
    native: Kernel, v: int
) -> None:
    native.put(maps(UNENFORCED))
    later = out(v, UDP, fragment=(9, 1480, False), payload=b"x" * 100)
    assert native.egress(later) is Reason.ALLOWED_NO_POLICY


@families
def test_a_first_fragment_too_small_for_its_header_is_malformed(native: Kernel, v: int) -> None:
    native.put(maps(UNENFORCED))
    frame = out(v, TCP, fragment=(9, 0, True))
    assert native.egress(frame[:-8]) is Reason.DENIED_MALFORMED


# ---- whose packet it is


@families
def test_a_source_must_be_this_interfaces_pod(native: Kernel, v: int) -> None:
    stranger = {4: "10.1.0.66", 6: "fd00:1::66"}[v]
    native.put(maps(UNENFORCED))
    assert native.egress(packet(stranger, PEER[v], TCP, 1, 80)) is Reason.DENIED_UNKNOWN_ENDPOINT
    native.put(maps(UNENFORCED, ifindex=77))
    assert native.egress(out(v)) is Reason.DENIED_SPOOFED_SOURCE
    assert native.ingress(packet(PEER[v], POD[v], TCP, 1, 80)) is Reason.DENIED_UNKNOWN_ENDPOINT


def test_without_endpoints_nothing_passes(native: Kernel) -> None:
    for v in (4, 6):
        assert native.egress(out(v)) is Reason.DENIED_UNKNOWN_ENDPOINT
        assert native.ingress(packet(PEER[v], POD[v], TCP, 1, 80), mark=MARK | 301) is (
            Reason.DENIED_UNKNOWN_ENDPOINT
        )


@families
def test_the_wire_brings_neither_local_pods_nor_the_node_itself(native: Kernel, v: int) -> None:
    native.put(maps(UNENFORCED))
    spoofed = packet(POD[v], PEER[v], TCP, 1, 80)
    assert native.run("from_wire", spoofed).reason is Reason.DENIED_SPOOFED_SOURCE
    assert native.run("from_wire", packet(PEER[v], POD[v], TCP, 1, 80)).reason is None
    native.put(Maps(hosts={address(PEER[v]): 1}))
    assert native.run("from_wire", packet(PEER[v], POD[v], TCP, 1, 80)).reason is (
        Reason.DENIED_SPOOFED_SOURCE
    )


@families
def test_the_wire_brings_tunnel_packets_of_known_nodes_only(native: Kernel, v: int) -> None:
    tunnel = packet(PEER[v], POD[v], UDP, 5555, 8472)
    assert native.run("from_wire", tunnel).reason is Reason.DENIED_UNKNOWN_NODE
    native.put(Maps(nodes=frozenset({address(PEER[v])})))
    assert native.run("from_wire", tunnel).reason is None


def test_the_wires_other_traffic_is_the_hosts(native: Kernel) -> None:
    for frame in (arp(POD_MAC, PEER[4], POD[4]), out(4)[:40], out(4, UDP, 53), out(6, 47)):
        assert native.run("from_wire", frame).reason is None


@families
def test_a_tag_beneath_a_tag_hides_nothing_from_the_wire(native: Kernel, v: int) -> None:
    """BPF_PROG_TEST_RUN takes no tag off: the frame is as the kernel shows one with two."""
    native.put(Maps(hosts={address(PEER[v]): 1}))
    spoofed = packet(PEER[v], POD[v], TCP, 1, 80)
    for ethertype in (b"\x81\x00", b"\x88\xa8"):
        tagged = spoofed[:12] + ethertype + b"\0\0" + spoofed[12:]
        assert native.run("from_wire", tagged).reason is Reason.DENIED_MALFORMED


# ---- neighbours


def test_arp_passes_for_the_pods_own_address(native: Kernel) -> None:
    native.put(maps())
    assert native.egress(arp(POD_MAC, POD[4], "169.254.1.1")) is Reason.ALLOWED_NEIGHBOUR
    assert native.egress(arp(POD_MAC, "10.1.0.66", "169.254.1.1")) is Reason.DENIED_SPOOFED_SOURCE
    assert native.egress(arp(HOST_MAC, POD[4], "169.254.1.1")) is Reason.DENIED_SPOOFED_SOURCE
    assert native.egress(arp(POD_MAC, POD[4], "169.254.1.1")[:40]) is Reason.DENIED_SPOOFED_SOURCE
    assert native.ingress(arp(HOST_MAC, "10.9.9.9", POD[4])) is Reason.ALLOWED_NEIGHBOUR
    assert native.ingress(arp(HOST_MAC, "10.9.9.9", "10.1.0.66")) is Reason.DENIED_UNKNOWN_ENDPOINT


@pytest.mark.parametrize("kind", NEIGHBOUR_TYPES)
def test_neighbour_discovery_stays_on_the_link(native: Kernel, kind: int) -> None:
    native.put(maps())
    for source in ("fe80::1:2", "::", POD[6]):
        for destination in ("ff02::1", "fe80::1"):
            frame = packet(source, destination, ICMPV6, 0, kind)
            assert native.egress(frame) is Reason.ALLOWED_NEIGHBOUR
    allowed = packet(POD[6], PEER[6], ICMPV6, 0, kind)
    assert native.egress(allowed) is Reason.DENIED_POLICY, "to another pod it is traffic"
    routed = packet(POD[6], "fe80::1", ICMPV6, 0, kind, hop_limit=64)
    assert native.egress(routed) is Reason.DENIED_UNKNOWN_PEER
    stranger = packet("fd00:1::66", "ff02::1", ICMPV6, 0, kind)
    assert native.egress(stranger) is Reason.DENIED_UNKNOWN_ENDPOINT

    assert native.ingress(packet("fe80::1", POD[6], ICMPV6, 0, kind)) is Reason.ALLOWED_NEIGHBOUR
    from_a_pod = packet(PEER[6], POD[6], ICMPV6, 0, kind)
    assert native.ingress(from_a_pod, mark=MARK | 301) is Reason.DENIED_POLICY
    routed = packet(PEER[6], POD[6], ICMPV6, 0, kind, hop_limit=254)
    assert native.ingress(routed) is Reason.DENIED_POLICY


# ---- anything at all


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    program=st.sampled_from(PROGRAMS),
    v=st.sampled_from([4, 6]),
    proto=st.sampled_from([TCP, UDP, SCTP, ICMP, ICMPV6, 43, 44, 60, 0, 59, 50]),
    flips=st.lists(st.tuples(st.integers(12, 90), st.integers(0, 255)), max_size=6),
    cut=st.integers(54, 200),
)
def test_no_frame_breaks_a_program_or_passes_unnamed(
    native: Kernel, program: str, v: int, proto: int, flips: list[tuple[int, int]], cut: int
) -> None:
    """`Kernel.run` asserts that action and counted reason fit; unenforced directions are not
    used, so that whatever passes has matched an entry."""
    if not native.maps.endpoints:
        native.put(maps())
    frame = bytearray(out(v, proto, payload=bytes(60)))
    for at, value in flips:
        if at < len(frame):
            frame[at] = value
    ran = native.run(program, bytes(frame[:cut]))
    if program in ("from_pod", "to_pod"):
        assert ran.reason is not None
