"""A node that policies select, in its own kernel: real packets, and crafted ones."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from entries import EGRESS_ISOLATED, INGRESS_ISOLATED, ISOLATED, allowing
from guarded import ALLOWED_PORT, CLIENT, NODE_POLICY, OTHER, Scene, scene
from kernel import SHOT, TUNNEL_PORT, Kernel
from packets import ACK, ICMP, ICMPV6, TCP, UDP, packet
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.dataplane.maps import (
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    Protocol,
    Reason,
    address,
    is_of_node,
)
from tabard.dataplane.port import Change
from topology import Echo, Node, ip, make_socket, tcp_reaches, udp_reaches

pytestmark = pytest.mark.ebpf

NODE_PORT, OTHER_PORT, PODS_PORT = 9090, 9091, 9092
REMOTE_NODE = 6


def keys(direction: Direction, identity: int, *ports: int) -> list[PolicyKey]:
    return [
        PolicyKey(NODE_POLICY, direction, identity, protocol, port, 16)
        for protocol in (Protocol.TCP, Protocol.UDP)
        for port in ports
    ]


def reaches(namespace: str, place: str, port: int) -> set[bool]:
    return {reach(namespace, place, port) for reach in (tcp_reaches, udp_reaches)}


@contextlib.contextmanager
def listening(mode: Mode) -> Iterator[tuple[Scene, Node, Node]]:
    """Pods client and other on the first node, the server on the last; both nodes listen."""
    with scene(mode, 2) as s, contextlib.ExitStack() as stack:
        first, last = s.client.node, s.server.node
        for place in (first, last, s.client):
            for port in (NODE_PORT, OTHER_PORT, PODS_PORT):
                stack.callback(Echo(place.namespace, port).stop)
        yield s, first, last


@pytest.mark.parametrize("mode", Mode)
def test_a_nodes_policies_hold_for_what_it_gets_and_sends(mode: Mode) -> None:
    with listening(mode) as (s, first, last):
        guard = s.cluster.dataplanes[first]
        to_wire = Pins(BPF_ROOT, s.cluster.name, first.namespace).wire / "to_wire"
        for place in (first.v4, first.v6):
            assert reaches(last.namespace, place, OTHER_PORT) == {True}, "nobody selects it yet"
        assert not to_wire.exists(), "and nothing is in its way"
        ingress, egress = Direction.INGRESS, Direction.EGRESS
        s.cluster.guarded[first] = (
            ISOLATED,
            [
                *keys(ingress, REMOTE_NODE, NODE_PORT),
                *keys(ingress, CLIENT, PODS_PORT),
                *keys(egress, REMOTE_NODE, NODE_PORT),
                *keys(egress, CLIENT, PODS_PORT),
            ],
        )
        s.cluster.write()
        assert to_wire.exists()
        for v in (4, 6):
            here, there = (first.v4, last.v4) if v == 4 else (first.v6, last.v6)
            for source, place, port, expected in (
                (last, here, NODE_PORT, True),
                (last, here, OTHER_PORT, False),
                (s.client, here, PODS_PORT, True),
                (s.client, here, NODE_PORT, False),
                (s.other, here, PODS_PORT, False),
                (first, there, NODE_PORT, True),
                (first, there, OTHER_PORT, False),
                (first, s.client.address(v), PODS_PORT, True),
                (first, s.client.address(v), NODE_PORT, False),
                (first, here, OTHER_PORT, True),
                # The tunnel and what it forwards are none of its own.
                (s.client, s.server.address(v), ALLOWED_PORT, True),
                (s.server, s.client.address(v), NODE_PORT, False),
            ):
                assert reaches(source.namespace, place, port) == {expected}, (source, place, port)
        counted = guard.counters()
        for way in Direction:
            assert counted[way, Reason.DENIED_POLICY] >= 4
        del s.cluster.guarded[first]
        s.cluster.write()
        assert not to_wire.exists()
        for place in (first.v4, first.v6):
            assert reaches(last.namespace, place, OTHER_PORT) == {True}, "open again"
            assert reaches(s.other.namespace, place, OTHER_PORT) == {True}


@pytest.mark.parametrize("mode", Mode)
def test_a_node_that_may_speak_to_nobody_still_carries_its_pods_traffic(mode: Mode) -> None:
    with listening(mode) as (s, first, last):
        s.cluster.guarded = {first: (ISOLATED, []), last: (ISOLATED, [])}
        s.cluster.write()
        for node in (first, last):
            # As after minutes without a word: nodes have to find one another again.
            ip(node.namespace, "neighbour flush dev eth0")
        for v in (4, 6):
            place = s.server.address(v)
            assert reaches(s.client.namespace, place, ALLOWED_PORT) == {True}
            assert udp_reaches(s.client.namespace, place, ALLOWED_PORT, bytes(4000)), "in fragments"
            far = last.v4 if v == 4 else last.v6
            assert reaches(first.namespace, far, NODE_PORT) == {False}


def test_a_restarted_agent_and_a_new_device_leave_the_node_guarded() -> None:
    with listening(Mode.OVERLAY) as (s, first, last):
        s.cluster.guarded[first] = (EGRESS_ISOLATED, [])
        s.cluster.write()
        s.cluster.dataplanes[first].close()
        Pins(BPF_ROOT, s.cluster.name, first.namespace).wire.joinpath("to_wire").unlink()
        end = time.monotonic() + 20  # the kernel detaches a link when it has time
        while reaches(first.namespace, last.v4, NODE_PORT) != {True}:
            assert time.monotonic() < end, "who took the pin let it go"
        s.cluster.start(first)
        assert reaches(first.namespace, last.v4, NODE_PORT) == {False}


def test_established_flows_are_judged_anew_when_policies_select_the_node() -> None:
    with listening(Mode.NATIVE) as (s, first, last):
        s.cluster.guarded[first] = (
            INGRESS_ISOLATED,
            keys(Direction.INGRESS, REMOTE_NODE, NODE_PORT),
        )
        s.cluster.write()
        with make_socket(last.namespace, socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(2)
            client.connect((first.v4, NODE_PORT))
            client.sendall(b"one")
            assert client.recv(10) == b"one"
            before = s.cluster.maps(first)
            revoked = {
                place: replace(one, policy=NODE_POLICY + 1)
                for place, one in before.endpoints.items()
                if is_of_node(one)
            }
            s.cluster.dataplanes[first].write(Change(endpoints_set=revoked))
            client.sendall(b"two")
            client.settimeout(0.4)
            with pytest.raises(TimeoutError):
                client.recv(10)


# ---- crafted packets

NODE, FAR, WORLD, POD = "192.0.2.1", "192.0.2.2", "203.0.113.9", "10.1.0.1"


def guarded(kernel: Kernel, flags: EndpointFlag = ISOLATED, *entries: PolicyKey) -> Kernel:
    """The node's address, with nothing allowed but `entries`."""
    itself = Endpoint(7, 1, NODE_POLICY, flags | EndpointFlag.NODE, 0, bytes(6), bytes(6))
    kernel.put(
        Maps(
            identities=frozenset({1, 2, 6, CLIENT, OTHER}),
            policies=allowing(entries),
            nodes=frozenset({address(FAR)}),
            prefixes={(address("0.0.0.0"), 96): PrefixEntry(2)},
            hosts={address(NODE): 1, address(FAR): 6},
            endpoints={address(NODE): itself},
        )
    )
    return kernel


def test_nothing_that_cannot_be_judged_comes_in_or_goes_out(native: Kernel) -> None:
    guarded(native)
    cut = {
        "from_wire": packet(WORLD, NODE, TCP, 1, 2)[:-8],
        "to_wire": packet(NODE, WORLD, TCP, 1, 2)[:-8],
    }
    for program, data in cut.items():
        assert native.run(program, data).reason is Reason.DENIED_MALFORMED
    later = {
        "from_wire": packet(WORLD, NODE, UDP, fragment=(1, 8, False), payload=bytes(8)),
        "to_wire": packet(NODE, WORLD, UDP, fragment=(1, 8, False), payload=bytes(8)),
    }
    for program, data in later.items():
        assert native.run(program, data).reason is Reason.DENIED_FRAGMENT


def test_what_is_forwarded_is_not_the_nodes(native: Kernel) -> None:
    guarded(native)
    assert native.run("from_wire", packet(WORLD, POD, TCP, 1, 2)).reason is None
    assert native.run("to_wire", packet(POD, WORLD, TCP, 1, 2)).reason is None


def test_the_tunnel_is_between_nodes_that_are_known_and_in_overlay_mode_alone(
    overlay: Kernel, native: Kernel
) -> None:
    comes = packet(FAR, NODE, UDP, 50_000, TUNNEL_PORT)
    goes = packet(NODE, FAR, UDP, 50_000, TUNNEL_PORT)
    abroad = packet(NODE, WORLD, UDP, 50_000, TUNNEL_PORT)
    guarded(overlay)
    assert overlay.run("from_wire", comes).reason is None
    assert overlay.run("to_wire", goes).reason is None
    assert overlay.run("to_wire", abroad).reason is Reason.DENIED_POLICY
    guarded(native)
    assert native.run("from_wire", comes).reason is Reason.DENIED_POLICY
    assert native.run("to_wire", goes).reason is Reason.DENIED_POLICY


def test_reports_on_what_the_node_carries_pass(overlay: Kernel) -> None:
    guarded(overlay)
    carried = packet(POD, WORLD, UDP, 1, 2, payload=bytes(8))[14:]
    tunnelled = packet(NODE, FAR, UDP, 50_000, TUNNEL_PORT, payload=bytes(8))[14:]
    its_own = packet(NODE, FAR, UDP, 1, 2, payload=bytes(8))[14:]
    report = packet(NODE, POD, ICMP, 0, 11, payload=carried)
    assert overlay.run("to_wire", report).reason is Reason.ALLOWED_RELATED
    for quoted, reason in ((tunnelled, Reason.ALLOWED_RELATED), (its_own, Reason.DENIED_POLICY)):
        report = packet(FAR, NODE, ICMP, 0, 3, payload=quoted)
        assert overlay.run("from_wire", report).reason is reason


def test_neighbours_find_one_another(native: Kernel) -> None:
    v6, far = "fd00:ffff::1", "fd00:ffff::2"
    itself = guarded(native).maps.endpoints[address(NODE)]
    native.put(Maps(endpoints={address(v6): itself}))
    assert native.run("from_wire", packet(far, v6, ICMPV6, 0, 135)).reason is None
    assert native.run("to_wire", packet(v6, far, ICMPV6, 0, 136)).reason is None
    routed = packet(far, v6, ICMPV6, 0, 135, hop_limit=64)
    assert native.run("from_wire", routed).action == SHOT


def test_answers_to_what_the_node_opened_come_in(native: Kernel) -> None:
    allowed = PolicyKey(NODE_POLICY, Direction.EGRESS, 2, Protocol.TCP, 443, 16)
    guarded(native, ISOLATED, allowed)
    answer = packet(WORLD, NODE, TCP, 443, 50_000, flags=ACK)
    assert native.run("from_wire", answer).reason is Reason.DENIED_POLICY
    asked = packet(NODE, WORLD, TCP, 50_000, 443)
    assert native.run("to_wire", asked).reason is Reason.ALLOWED_POLICY
    assert native.run("from_wire", answer).reason is Reason.ALLOWED_ESTABLISHED
