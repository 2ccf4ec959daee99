"""What becomes of a packet at each hook of the memory dataplane."""

from dataclasses import replace

import pytest

from tabard.dataplane.maps import Maps, Mode, Protocol, Reason, address
from tabard.dataplane.memory import Action, MemoryDataplane, Outcome
from tabard.dataplane.packet import Fragment, Packet
from tabard.dataplane.port import NodeConfig
from tabard.policy.diff import diff
from world import World, network_policy

TUNNEL_PORT = 8472
A, B, FAR, WORLD = (
    address(text) for text in ("10.244.1.1", "10.244.1.2", "10.244.2.1", "203.0.113.9")
)
A6 = address("fd00:1::1")
NODE1, NODE2 = address("192.168.9.1"), address("192.168.9.2")


class Node:
    """Node n1 of a world with pods x/a and x/b here and x/far on n2."""

    def __init__(self, mode: Mode = Mode.OVERLAY, **spec: object) -> None:
        world = self.world = World(nodes=2)
        world.pod("x/a", {"app": "a"}, ip=("10.244.1.1", "fd00:1::1"))
        world.pod("x/b", {"app": "b"}, ip="10.244.1.2")
        world.pod("x/far", {"app": "far"}, ip="10.244.2.1", node="n2")
        if spec:
            world.policy(network_policy("p", "x", **spec))
        self.mode = mode
        self.dataplane = MemoryDataplane(NodeConfig("n1", mode, (NODE1,)))
        self.update()
        endpoints = self.dataplane.read().endpoints
        self.a, self.b = endpoints[A], endpoints[B]
        self.far = world.state.endpoints["x/far"].identity

    def update(self) -> None:
        maps = self.world.judge("n1", self.mode).maps
        self.dataplane.write(diff(self.dataplane.read(), maps))


def udp(source: object, destination: object, port: int = 53, **rest: object) -> Packet:
    return Packet(source, destination, Protocol.UDP, 40_000, port, **rest)


def test_to_a_pod_of_this_node_a_packet_goes_with_its_senders_mark() -> None:
    node = Node()
    outcome = node.dataplane.from_pod(node.a.ifindex, udp(A, B))
    assert outcome == Outcome(
        Action.DELIVER, Reason.ALLOWED_NO_POLICY, node.b.ifindex, node.a.identity
    )


def test_to_a_pod_elsewhere_it_goes_through_the_tunnel() -> None:
    node = Node()
    outcome = node.dataplane.from_pod(node.a.ifindex, udp(A, FAR))
    assert outcome == Outcome(
        Action.TUNNEL, Reason.ALLOWED_NO_POLICY, identity=node.a.identity, node=NODE2
    )


@pytest.mark.parametrize("destination", [WORLD, NODE1, NODE2])
def test_to_others_it_goes_through_the_hosts_stack(destination: object) -> None:
    node = Node()
    outcome = node.dataplane.from_pod(node.a.ifindex, udp(A, destination))
    assert outcome == Outcome(Action.PASS, Reason.ALLOWED_NO_POLICY)


def test_in_native_mode_other_nodes_pods_are_reached_through_the_stack() -> None:
    node = Node(Mode.NATIVE)
    outcome = node.dataplane.from_pod(node.a.ifindex, udp(A, FAR))
    assert outcome == Outcome(Action.PASS, Reason.ALLOWED_NO_POLICY)


def test_a_denied_packet_is_dropped() -> None:
    node = Node(policyTypes=["Egress"])
    outcome = node.dataplane.from_pod(node.a.ifindex, udp(A, B))
    assert outcome == Outcome(Action.DROP, Reason.DENIED_POLICY)


def test_a_pod_cannot_lie_about_its_address() -> None:
    node = Node()
    for source, reason in (
        (B, Reason.DENIED_SPOOFED_SOURCE),
        (FAR, Reason.DENIED_UNKNOWN_ENDPOINT),
        (NODE1, Reason.DENIED_UNKNOWN_ENDPOINT),
        (WORLD, Reason.DENIED_UNKNOWN_ENDPOINT),
    ):
        outcome = node.dataplane.from_pod(node.a.ifindex, udp(source, B))
        assert outcome == Outcome(Action.DROP, reason)


def test_an_interface_without_endpoint_lets_nothing_out() -> None:
    assert Node().dataplane.from_pod(999, udp(A, B)).action is Action.DROP


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("destination", [NODE1, NODE2, WORLD, address("10.244.2.99")])
def test_no_pod_speaks_to_a_tunnel_port(mode: Mode, destination: object) -> None:
    node = Node(mode)
    outcome = node.dataplane.from_pod(node.a.ifindex, udp(A, destination, TUNNEL_PORT))
    assert outcome == Outcome(Action.DROP, Reason.DENIED_TUNNEL_PORT)


def test_between_known_pods_the_tunnel_port_is_like_any_other() -> None:
    node = Node()
    assert node.dataplane.from_pod(node.a.ifindex, udp(A, B, TUNNEL_PORT)).action is Action.DELIVER
    native = Node(Mode.NATIVE)
    packet = udp(A, FAR, TUNNEL_PORT)
    assert native.dataplane.from_pod(native.a.ifindex, packet).action is Action.PASS


def test_a_tunnel_port_in_a_later_fragment_is_found_by_the_first() -> None:
    node = Node()
    first = udp(A, WORLD, TUNNEL_PORT, fragment=Fragment(1, True))
    later = udp(A, WORLD, 0, fragment=Fragment(1, False))
    for packet in (first, later):
        outcome = node.dataplane.from_pod(node.a.ifindex, packet)
        assert outcome.reason is Reason.DENIED_TUNNEL_PORT


def test_what_comes_through_the_tunnel_carries_its_senders_identity() -> None:
    node = Node()
    outcome = node.dataplane.from_overlay(NODE2, node.far, udp(FAR, A))
    assert outcome == Outcome(Action.DELIVER, None, node.a.ifindex, node.far)


@pytest.mark.parametrize(
    ("outer", "packet", "reason"),
    [
        (WORLD, udp(FAR, A), Reason.DENIED_UNKNOWN_NODE),
        (NODE2, udp(B, A), Reason.DENIED_SPOOFED_SOURCE),
        (NODE2, udp(FAR, FAR), Reason.DENIED_UNKNOWN_ENDPOINT),
        (NODE2, udp(FAR, WORLD), Reason.DENIED_UNKNOWN_ENDPOINT),
    ],
)
def test_the_wire_is_guarded(outer: object, packet: Packet, reason: Reason) -> None:
    node = Node()
    assert node.dataplane.from_overlay(outer, node.far, packet) == Outcome(Action.DROP, reason)


@pytest.mark.parametrize(("tunnel_id", "identity"), [(0, 0), (1, 0), ((1 << 24) + 300, 300)])
def test_the_wire_cannot_say_host_or_a_cidr(tunnel_id: int, identity: int) -> None:
    outcome = Node().dataplane.from_overlay(NODE2, tunnel_id, udp(FAR, A))
    assert outcome.identity == identity


def test_the_mark_decides_who_enters() -> None:
    far = {"podSelector": {"matchLabels": {"app": "far"}}}
    node = Node(ingress=[{"from": [far]}])
    into_a = node.a.ifindex
    for mark, reason in (
        (node.far, Reason.ALLOWED_POLICY),
        (node.b.identity, Reason.DENIED_POLICY),
        (0, Reason.DENIED_UNKNOWN_PEER),
        (None, Reason.DENIED_UNKNOWN_PEER),
    ):
        packet = udp(FAR, A, 53 + (mark or 0))
        outcome = node.dataplane.to_pod(into_a, packet, mark)
        assert outcome.reason is reason
        assert (outcome.action is Action.PASS) == reason.allowed


def test_the_node_itself_always_enters() -> None:
    node = Node(policyTypes=["Ingress"])
    outcome = node.dataplane.to_pod(node.a.ifindex, udp(NODE1, A))
    assert outcome == Outcome(Action.PASS, Reason.ALLOWED_HOST)
    other = node.dataplane.to_pod(node.a.ifindex, udp(NODE2, A))
    assert other == Outcome(Action.DROP, Reason.DENIED_POLICY)


def test_a_packet_at_the_wrong_interface_does_not_enter() -> None:
    node = Node()
    outcome = node.dataplane.to_pod(node.b.ifindex, udp(WORLD, A))
    assert outcome == Outcome(Action.DROP, Reason.DENIED_UNKNOWN_ENDPOINT)


def test_nobody_comes_from_outside_in_this_nodes_name() -> None:
    node = Node(Mode.NATIVE)
    for source in (A, NODE1):
        outcome = node.dataplane.from_wire(udp(source, B))
        assert outcome == Outcome(Action.DROP, Reason.DENIED_SPOOFED_SOURCE)
    assert node.dataplane.from_wire(udp(FAR, A)) == Outcome(Action.PASS)


def test_only_nodes_reach_the_tunnel_port_from_outside() -> None:
    node = Node()
    assert node.dataplane.from_wire(udp(NODE2, NODE1, TUNNEL_PORT)).action is Action.PASS
    outcome = node.dataplane.from_wire(udp(WORLD, NODE1, TUNNEL_PORT))
    assert outcome == Outcome(Action.DROP, Reason.DENIED_UNKNOWN_NODE)


def discovery(source: str, destination: str) -> Packet:
    return Packet(
        address(source),
        address(destination),
        Protocol.ICMPV6,
        icmp_type=135,
        hop_limit=255,
    )


@pytest.mark.parametrize(
    ("source", "destination", "passes"),
    [
        ("::", "ff02::1:ff00:1", True),
        ("fe80::9", "fe80::1", True),
        ("fd00:1::1", "fe80::1", True),
        ("fd00:1::2", "fe80::1", False),
        ("fe80::9", "fd00:1::7", False),
    ],
)
def test_discovery_passes_on_its_own_link_only(source: str, destination: str, passes: bool) -> None:
    node = Node(policyTypes=["Ingress", "Egress"])
    outcome = node.dataplane.from_pod(node.a.ifindex, discovery(source, destination))
    assert (outcome.reason is Reason.ALLOWED_NEIGHBOUR) == passes
    assert (outcome.action is Action.PASS) == passes


def test_discovery_enters_unmarked_only() -> None:
    node = Node(policyTypes=["Ingress"])
    packet = discovery("fe80::1", "fd00:1::1")
    assert node.dataplane.to_pod(node.a.ifindex, packet).reason is Reason.ALLOWED_NEIGHBOUR
    marked = node.dataplane.to_pod(node.a.ifindex, packet, mark=300)
    assert marked.action is Action.DROP


def test_later_fragments_follow_their_first() -> None:
    node = Node(policyTypes=["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
    out = node.dataplane.from_pod
    later = udp(A, WORLD, 0, fragment=Fragment(1, False))
    assert out(node.a.ifindex, later).reason is Reason.DENIED_FRAGMENT
    first = udp(A, WORLD, 53, fragment=Fragment(1, True))
    assert out(node.a.ifindex, first).reason is Reason.ALLOWED_POLICY
    assert out(node.a.ifindex, later).reason is Reason.ALLOWED_ESTABLISHED
    other = replace(later, fragment=Fragment(2, False))
    assert out(node.a.ifindex, other).reason is Reason.DENIED_FRAGMENT


def test_without_policy_fragments_pass_unseen() -> None:
    node = Node()
    later = udp(A, WORLD, 0, fragment=Fragment(1, False))
    assert node.dataplane.from_pod(node.a.ifindex, later).reason is Reason.ALLOWED_NO_POLICY


def test_empty_maps_let_nothing_pass() -> None:
    dataplane = MemoryDataplane(NodeConfig("n1", Mode.OVERLAY, (NODE1,)))
    assert dataplane.read() == Maps()
    assert not dataplane.from_pod(1, udp(A, B)).reason.allowed
    assert not dataplane.to_pod(1, udp(B, A)).reason.allowed
    assert not dataplane.from_overlay(NODE2, 300, udp(FAR, A)).reason.allowed
