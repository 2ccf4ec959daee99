"""Real packets through the device of the DNS proxy: what goes there, and how it goes on."""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kernel import COMPILED, SMALL, cluster_name
from tabard.agent.dns.frames import Datagram, answering, read
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.dataplane.maps import (
    Action,
    Direction,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    Reason,
    address,
    strength,
)
from tabard.dataplane.port import DataplaneError, NodeConfig
from tabard.policy.diff import diff
from topology import Pod, Topology, echo, ip, make_socket, tcp_reaches, topology, udp_reaches

pytestmark = pytest.mark.ebpf

CLIENT, SERVER = 300, 301
POLICY, FREE = 11, 12
PROXIED, ALLOWED = 5353, 8080
EGRESS = EndpointFlag.EGRESS_ENFORCED | EndpointFlag.EGRESS_ISOLATED | EndpointFlag.EGRESS_NETWORK
CLOSED = EndpointFlag.INGRESS_ENFORCED | EndpointFlag.INGRESS_ISOLATED


@dataclass
class Scene:
    """A client whose UDP and TCP to one port of the server are proxied, and to another allowed."""

    topology: Topology
    dataplanes: list[EbpfDataplane]
    client: Pod
    server: Pod

    @property
    def node(self) -> EbpfDataplane:
        """The client's."""
        return self.dataplanes[0]

    def counted(self, direction: Direction, reason: Reason) -> int:
        return self.node.counters().get((direction, reason), 0)


@contextlib.contextmanager
def scene(mode: Mode, nodes: int) -> Iterator[Scene]:
    with topology() as made, contextlib.ExitStack() as stack:
        places = [made.node() for _ in range(nodes)]
        if mode is Mode.NATIVE:
            made.route_pods_natively()
        cluster, dataplanes = cluster_name(), []
        for place in places:
            config = NodeConfig(place.namespace, mode, (place.underlay(4),), underlay_device="eth0")
            dataplane = EbpfDataplane(
                config, cluster=cluster, sizes=SMALL, netns=place.namespace, compiled=COMPILED
            )
            stack.callback(dataplane.remove)
            dataplane.open()
            dataplanes.append(dataplane)
        client, server = made.pod(places[0]), made.pod(places[-1])
        for dataplane, place in zip(dataplanes, places, strict=True):
            endpoints = {}
            for pod, identity, policy, flags in (
                (client, CLIENT, POLICY, EGRESS | CLOSED),
                (server, SERVER, FREE, EndpointFlag(0)),
            ):
                if pod.node == place:
                    ifindex, _ = dataplane.attach(pod.uid, pod.interface)
                    endpoints |= pod.endpoints(ifindex, identity, policy, flags)
            dataplane.write(diff(dataplane.read(), maps(mode, made, place, endpoints, server)))
        yield Scene(made, dataplanes, client, server)


def maps(mode, made, place, endpoints, server) -> Maps:
    prefixes = {
        (address("0.0.0.0"), 96): PrefixEntry(9),
        (address("::"), 0): PrefixEntry(10),
    }
    hosts = {}
    for other in made.nodes:
        remote = mode is Mode.OVERLAY and other != place
        entry = PrefixEntry(0, PrefixFlag.POD_RANGE, other.underlay(4) if remote else b"")
        prefixes[address(f"10.{other.number}.0.0"), 112] = entry
        prefixes[address(f"fd00:{other.number}::"), 64] = entry
        hosts[other.underlay(4)] = 1 if other == place else 6
    if server.node != place:
        hosts |= {address(server.v4): SERVER, address(server.v6): SERVER}
    policies = {
        PolicyKey(POLICY, Direction.EGRESS, SERVER, protocol, port, 16): strength(action)
        for protocol in (Protocol.UDP, Protocol.TCP)
        for port, action in ((PROXIED, Action.PROXY), (ALLOWED, Action.ALLOW))
    }
    return Maps(
        policies=policies,
        identities=frozenset({1, 6, 9, 10, CLIENT, SERVER}),
        nodes=frozenset(other.underlay(4) for other in made.nodes if other != place),
        prefixes=prefixes,
        hosts=hosts,
        endpoints=endpoints,
    )


def next_frame(descriptor: int) -> tuple[bytes, Datagram]:
    """The next datagram that comes out of the device."""
    ready, _, _ = select.select([descriptor], [], [], 10)
    assert ready, "nothing came"
    frame = os.read(descriptor, 1 << 16)
    found = read(frame)
    assert found is not None
    return frame, found


def nothing_came(descriptor: int) -> bool:
    return not select.select([descriptor], [], [], 0)[0]


@contextlib.contextmanager
def diverted(scene: Scene) -> Iterator[int]:
    descriptor = scene.node.divert()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


PLACES = [
    pytest.param(Mode.NATIVE, 1, id="same-node"),
    pytest.param(Mode.NATIVE, 2, id="native"),
    pytest.param(Mode.OVERLAY, 2, id="overlay"),
]


@pytest.mark.parametrize(("mode", "nodes"), PLACES)
def test_what_is_proxied_and_its_answer_go_on_when_they_are_let(mode: Mode, nodes: int) -> None:
    with scene(mode, nodes) as s, diverted(s) as descriptor, echo(s.server.namespace, PROXIED):
        for place, own in ((s.server.v4, s.client.v4), (s.server.v6, s.client.v6)):
            family = socket.AF_INET6 if ":" in place else socket.AF_INET
            with make_socket(s.client.namespace, family, socket.SOCK_DGRAM) as client:
                client.settimeout(10)
                client.connect((place, PROXIED))
                for text in (b"first", b"second"):
                    client.send(text)
                    frame, query = next_frame(descriptor)
                    port = client.getsockname()[1]
                    assert query == Datagram(Direction.EGRESS, own, place, port, PROXIED, text)
                    os.write(descriptor, frame)
                    frame, answer = next_frame(descriptor)
                    assert answer == Datagram(Direction.INGRESS, place, own, PROXIED, port, text)
                    assert nothing_came(descriptor)
                    os.write(descriptor, frame)
                    assert client.recv(100) == text
                # In the server's name, and without the server.
                client.send(b"third")
                _, query = next_frame(descriptor)
                os.write(descriptor, answering(query, b"no"))
                assert client.recv(100) == b"no"
        assert s.counted(Direction.EGRESS, Reason.ALLOWED_PROXY) == 6
        assert s.counted(Direction.INGRESS, Reason.ALLOWED_PROXY) == 4


def test_what_the_proxy_keeps_does_not_arrive_and_other_traffic_does() -> None:
    with (
        scene(Mode.OVERLAY, 2) as s,
        diverted(s) as descriptor,
        echo(s.server.namespace, PROXIED),
        echo(s.server.namespace, ALLOWED),
    ):
        assert not udp_reaches(s.client.namespace, s.server.v4, PROXIED)
        next_frame(descriptor)
        assert udp_reaches(s.client.namespace, s.server.v4, ALLOWED)
        assert tcp_reaches(s.client.namespace, s.server.v4, ALLOWED)
        assert nothing_came(descriptor)


def test_without_a_proxy_what_is_proxied_is_dropped_and_a_new_one_takes_over() -> None:
    with scene(Mode.OVERLAY, 2) as s, echo(s.server.namespace, PROXIED):
        place = s.server.v4
        assert not udp_reaches(s.client.namespace, place, PROXIED)
        for _ in range(2):
            with diverted(s) as descriptor:
                assert not udp_reaches(s.client.namespace, place, PROXIED)
                next_frame(descriptor)
            assert not udp_reaches(s.client.namespace, place, PROXIED)


def test_a_device_that_is_deleted_is_told_from_one_that_is_silent() -> None:
    with scene(Mode.OVERLAY, 1) as s, diverted(s) as descriptor:
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 100)
        ip(s.client.node.namespace, "link delete tabard-dns")
        with pytest.raises(OSError, match="bad state"):
            os.read(descriptor, 100)
        with diverted(s) as another:
            assert nothing_came(another)


def test_a_device_of_the_name_that_is_anothers_is_an_error() -> None:
    with scene(Mode.OVERLAY, 1) as s:
        ip(s.client.node.namespace, "link add tabard-dns type bridge")
        with pytest.raises(DataplaneError, match="'tabard-dns' cannot be made"):
            s.node.divert()


def test_tcp_and_fragments_are_denied_by_their_reason() -> None:
    with scene(Mode.OVERLAY, 2) as s, diverted(s) as descriptor, echo(s.server.namespace, PROXIED):
        assert not tcp_reaches(s.client.namespace, s.server.v4, PROXIED)
        denied = s.counted(Direction.EGRESS, Reason.DENIED_PROXY)
        assert denied >= 1
        assert not udp_reaches(s.client.namespace, s.server.v4, PROXIED, bytes(4000))
        assert s.counted(Direction.EGRESS, Reason.DENIED_PROXY) >= denied + 3
        assert nothing_came(descriptor)
