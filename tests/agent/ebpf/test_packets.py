"""Real packets between real namespaces: what passes, and what goes on when the agent does not."""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from entries import allowing
from guarded import (
    ALLOWED_PORT,
    CLIENT,
    DENIED_PORT,
    OTHER,
    SERVER,
    SERVER_POLICY,
    cluster,
    scene,
)
from kernel import COMPILED, MARK, SMALL, changed_sources
from packets import TCP, UDP, packet, vxlan
from tabard.agent.ebpf import layout
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.dataplane.maps import (
    Action,
    Direction,
    Maps,
    Mode,
    PolicyKey,
    Protocol,
    Reason,
    address,
    strength,
)
from tabard.dataplane.port import Change, LinkGone, NodeConfig
from tabard.policy.diff import diff
from topology import (
    Echo,
    inside,
    ip,
    make_socket,
    stream,
    tcp_reaches,
    udp_reaches,
)

pytestmark = pytest.mark.ebpf

PLACES = [
    pytest.param(Mode.NATIVE, 1, 4, id="same-node"),
    pytest.param(Mode.NATIVE, 2, 4, id="native"),
    pytest.param(Mode.OVERLAY, 2, 4, id="overlay-over-ipv4"),
    pytest.param(Mode.OVERLAY, 2, 6, id="overlay-over-ipv6"),
]


@pytest.mark.parametrize(("mode", "nodes", "v"), PLACES)
def test_identities_decide_over_real_packets(mode: Mode, nodes: int, v: int) -> None:
    bulk = os.urandom(2_000_000)
    with scene(mode, nodes, v) as s:
        for place in (s.server.v4, s.server.v6):
            client, other = s.client.namespace, s.other.namespace
            assert tcp_reaches(client, place, ALLOWED_PORT, bulk)
            assert udp_reaches(client, place, ALLOWED_PORT)
            assert udp_reaches(client, place, ALLOWED_PORT, bytes(1300))
            assert udp_reaches(client, place, ALLOWED_PORT, bytes(4000)), "in fragments"
            assert not tcp_reaches(client, place, DENIED_PORT)
            assert not udp_reaches(client, place, DENIED_PORT)
            assert not tcp_reaches(other, place, ALLOWED_PORT)
            assert not udp_reaches(other, place, ALLOWED_PORT)
        counters = s.cluster.dataplanes[s.server.node].counters()
        assert counters[Direction.INGRESS, Reason.DENIED_POLICY] >= 8
        denied = {r for d, r in counters if d is Direction.INGRESS and not r.allowed}
        assert denied <= {Reason.DENIED_POLICY, Reason.DENIED_UNKNOWN_ENDPOINT}


@pytest.mark.parametrize(("mode", "nodes", "v"), PLACES[1:3])
def test_an_unreachable_port_is_reported_to_an_allowed_client(
    mode: Mode, nodes: int, v: int
) -> None:
    with scene(mode, nodes, v) as s:
        all_ports = PolicyKey(SERVER_POLICY, Direction.INGRESS, CLIENT, Protocol.ANY)
        change = Change(policies_set=allowing({all_ports}))
        s.cluster.dataplanes[s.server.node].write(change)
        for family, place in ((socket.AF_INET, s.server.v4), (socket.AF_INET6, s.server.v6)):
            with make_socket(s.client.namespace, family, socket.SOCK_DGRAM) as asker:
                asker.settimeout(2)
                asker.connect((place, 9))
                asker.send(b"anyone?")
                with pytest.raises(ConnectionRefusedError):
                    asker.recv(10)
        counters = s.cluster.dataplanes[s.server.node].counters()
        assert counters[Direction.EGRESS, Reason.ALLOWED_RELATED] == 2


def test_the_host_and_the_world_are_told_from_pods() -> None:
    with scene(Mode.OVERLAY, 2) as s:
        node = s.server.node
        for place in (s.server.v4, s.server.v6):
            assert tcp_reaches(node.namespace, place, DENIED_PORT), "the node reaches its pods"
        assert not tcp_reaches(s.client.node.namespace, s.server.v4, ALLOWED_PORT), "another not"


# ---- the wire guard


def test_a_pod_cannot_speak_to_a_tunnel_port() -> None:
    with scene(Mode.OVERLAY, 2) as s:
        forged = packet(s.client.v4, s.server.v4, UDP, 7, DENIED_PORT, payload=b"forged")
        for v in (4, 6):
            place = s.server.node.v4 if v == 4 else s.server.node.v6
            family = socket.AF_INET if v == 4 else socket.AF_INET6
            with make_socket(s.other.namespace, family, socket.SOCK_DGRAM) as sender:
                sender.sendto(vxlan(CLIENT, forged), (place, 8472))
        counters = s.cluster.dataplanes[s.other.node].counters()
        assert counters[Direction.EGRESS, Reason.DENIED_TUNNEL_PORT] == 2


@pytest.mark.parametrize("v", [4, 6])
def test_a_strangers_tunnel_packet_is_refused_by_either_guard(v: int) -> None:
    with scene(Mode.OVERLAY, 2, v) as s:
        hub, node = s.cluster.topology.hub, s.server.node
        ip(
            hub,
            "address add 192.0.2.99/24 dev br0",
            "address add fd00:ffff::99/64 dev br0 nodad",
        )
        guard = s.cluster.dataplanes[node]
        forged = packet(s.client.v4, s.server.v4, UDP, 7, ALLOWED_PORT, payload=b"forged")
        family, place = (socket.AF_INET, node.v4) if v == 4 else (socket.AF_INET6, node.v6)
        with make_socket(hub, family, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(vxlan(CLIENT, forged), (place, 8472))
            wait_for(guard, Direction.INGRESS, Reason.DENIED_UNKNOWN_NODE, 1)
            # from_wire has refused it. Without that one, from_overlay does.
            Pins(BPF_ROOT, s.cluster.name, node.namespace).wire.joinpath("from_wire").unlink()
            stranger.sendto(vxlan(CLIENT, forged), (place, 8472))
            wait_for(guard, Direction.INGRESS, Reason.DENIED_UNKNOWN_NODE, 2)
        assert (Direction.INGRESS, Reason.ALLOWED_POLICY) not in guard.counters()


def test_a_known_nodes_word_for_an_identity_counts_and_none_for_this_host() -> None:
    with scene(Mode.OVERLAY, 2) as s:
        guard = s.cluster.dataplanes[s.server.node]
        for sport, (identity, reason, count) in enumerate(
            (
                (CLIENT, Reason.ALLOWED_POLICY, 1),
                (OTHER, Reason.DENIED_POLICY, 1),
                (0, Reason.DENIED_UNKNOWN_PEER, 1),
                (1, Reason.DENIED_UNKNOWN_PEER, 2),
                (999, Reason.DENIED_UNKNOWN_PEER, 3),
            ),
            start=1000,
        ):
            inner = packet(s.client.v4, s.server.v4, UDP, sport, ALLOWED_PORT, payload=b"x")
            with make_socket(s.client.node.namespace, socket.AF_INET, socket.SOCK_DGRAM) as node:
                node.sendto(vxlan(identity, inner), (s.server.node.v4, 8472))
            wait_for(guard, Direction.INGRESS, reason, count)


def test_the_tunnel_brings_no_packet_in_a_local_pods_name() -> None:
    with scene(Mode.OVERLAY, 2) as s:
        guard = s.cluster.dataplanes[s.server.node]
        for source, destination, reason in (
            (s.server.v4, s.server.v4, Reason.DENIED_SPOOFED_SOURCE),
            (s.client.v4, "10.2.0.77", Reason.DENIED_UNKNOWN_ENDPOINT),
        ):
            inner = packet(source, destination, UDP, 7, ALLOWED_PORT, payload=b"x")
            with make_socket(s.client.node.namespace, socket.AF_INET, socket.SOCK_DGRAM) as node:
                node.sendto(vxlan(CLIENT, inner), (s.server.node.v4, 8472))
            wait_for(guard, Direction.INGRESS, reason)


@pytest.mark.parametrize("mode", Mode)
def test_a_pod_cannot_use_anothers_address(mode: Mode) -> None:
    with scene(mode, 2) as s:
        raw = make_socket(s.other.namespace, socket.AF_PACKET, socket.SOCK_RAW)
        with raw:
            raw.bind(("eth0", 0))
            macs = s.other.host_mac + s.other.mac
            for source in (s.client.v4, s.client.v6, "10.1.0.99", "fd00:1::99"):
                destination = s.server.v6 if ":" in source else s.server.v4
                raw.send(packet(source, destination, TCP, 7, ALLOWED_PORT, ethernet=macs))
        guard = s.cluster.dataplanes[s.other.node]
        wait_for(guard, Direction.EGRESS, Reason.DENIED_SPOOFED_SOURCE, 2)
        wait_for(guard, Direction.EGRESS, Reason.DENIED_UNKNOWN_ENDPOINT, 2)


def test_a_pods_mark_does_not_reach_the_node() -> None:
    with scene(Mode.NATIVE, 1) as s:
        for identity in (CLIENT, 1):
            with make_socket(s.other.namespace, socket.AF_INET, socket.SOCK_DGRAM) as sender:
                mark = (MARK | identity).to_bytes(4, sys.byteorder)
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                sender.sendto(b"forged", (s.server.v4, ALLOWED_PORT))
        counters = s.cluster.dataplanes[s.server.node].counters()
        assert counters[Direction.INGRESS, Reason.DENIED_POLICY] == 2


def wait_for(guard: EbpfDataplane, direction: Direction, reason: Reason, count: int = 1) -> None:
    """Packets arrive a little after they were sent."""

    until = time.monotonic() + 2
    while guard.counters().get((direction, reason), 0) < count:
        assert time.monotonic() < until, guard.counters()
        time.sleep(0.01)


# ---- interfaces that come and go


def test_attached_interfaces_are_found_again_by_another_process(tmp_path: Path) -> None:
    with cluster(Mode.NATIVE, 1) as one:
        node = one.topology.nodes[0]
        first = one.start(node)
        pods = [one.add(one.topology.pod(node), CLIENT) for _ in range(2)]
        expected = {pod.uid: one.pods[pod][1] for pod in pods}
        assert first.attached() == expected
        assert first.attach(pods[0].uid, pods[0].interface) == (
            expected[pods[0].uid],
            pods[0].host_mac,
        )
        first.close()

        second = one.start(node)
        assert second.attached() == expected

        second.detach(pods[0].uid)
        second.detach(pods[0].uid)
        assert second.attached() == {pods[1].uid: expected[pods[1].uid]}
        with pytest.raises(LinkGone):
            second.attach("x", "pod77")


def test_a_deleted_interface_is_not_attached_and_its_name_can_be_attached_again() -> None:
    with cluster(Mode.NATIVE, 1) as one:
        node = one.topology.nodes[0]
        dataplane = one.start(node)
        pod = one.add(one.topology.pod(node), CLIENT)
        ip(node.namespace, f"link delete {pod.interface}")
        assert dataplane.attached() == {}

        ip(
            node.namespace,
            f"link add {pod.interface} address {pod.host_mac.hex(':')} type veth peer name x0",
        )
        ifindex, _ = dataplane.attach(pod.uid, pod.interface)
        assert dataplane.attached() == {pod.uid: ifindex}

        ip(node.namespace, f"link delete {pod.interface}")
        dataplane.close()
        one.start(node)
        pins = Pins(BPF_ROOT, one.name, node.namespace)
        assert list(pins.pods()) == [], "opening clears pins of interfaces that are gone"


def test_nothing_passes_an_attached_interface_before_its_endpoint_is_written() -> None:
    with scene(Mode.NATIVE, 1) as s:
        new = s.cluster.add(s.cluster.topology.pod(s.client.node), CLIENT)
        with contextlib.closing(_Stopping(Echo(new.namespace, ALLOWED_PORT))):
            assert not tcp_reaches(new.namespace, s.server.v4, ALLOWED_PORT)
            assert not tcp_reaches(s.client.namespace, new.v4, ALLOWED_PORT)
            assert not tcp_reaches(new.node.namespace, new.v4, ALLOWED_PORT)
            s.cluster.write()
            assert tcp_reaches(new.namespace, s.server.v4, ALLOWED_PORT)
            assert tcp_reaches(s.client.namespace, new.v4, ALLOWED_PORT)


class _Stopping:
    def __init__(self, server: Echo) -> None:
        self.close = server.stop


# ---- agents that die, and agents that change


def test_enforcement_goes_on_when_its_agent_is_killed() -> None:
    agent = textwrap.dedent(
        """
        import pickle, sys, time
        from tabard.agent.ebpf.dataplane import EbpfDataplane
        from tabard.policy.diff import diff
        config, options, pods = pickle.loads(bytes.fromhex(sys.stdin.readline()))
        dataplane = EbpfDataplane(config, **options)
        dataplane.open()
        print([dataplane.attach(uid, name)[0] for uid, name in pods], flush=True)
        dataplane.write(diff(dataplane.read(), pickle.loads(bytes.fromhex(sys.stdin.readline()))))
        print("written", flush=True)
        time.sleep(60)
        """
    )
    with cluster(Mode.NATIVE, 1) as one, contextlib.ExitStack() as stack:
        node = one.topology.nodes[0]
        client, server, other = (one.topology.pod(node) for _ in range(3))
        config = NodeConfig(
            node.namespace, Mode.NATIVE, (address(node.v4),), underlay_device="eth0"
        )
        stack.callback(Echo(server.namespace, ALLOWED_PORT).stop)
        process = subprocess.Popen(
            [sys.executable, "-c", agent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        names = [(pod.uid, pod.interface) for pod in (client, server, other)]
        options = {
            "cluster": one.name,
            "sizes": SMALL,
            "netns": node.namespace,
            "compiled": COMPILED,
        }
        first = pickle.dumps((config, options, names)).hex()
        process.stdin.write(first + "\n")
        process.stdin.flush()
        for pod, identity, ifindex in zip(
            (client, server, other),
            (CLIENT, SERVER, OTHER),
            json.loads(process.stdout.readline()),
            strict=True,
        ):
            one.pods[pod] = (identity, ifindex)
        process.stdin.write(pickle.dumps(one.maps(node)).hex() + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "written\n"

        with stream(client.namespace, server.v4, ALLOWED_PORT) as allowed:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert tcp_reaches(client.namespace, server.v4, ALLOWED_PORT)
            assert not tcp_reaches(other.namespace, server.v4, ALLOWED_PORT)
            taken_over = one.start(node)
            assert taken_over.read() == one.maps(node)
            assert set(taken_over.attached()) == {pod.uid for pod in one.pods}
        assert allowed.sent > 300
        assert allowed.lost == 0


def other_sources(directory: Path, number: int) -> Path:
    """The programs with a difference that does nothing, and so with another fingerprint."""
    made = directory / f"bpf{number}"
    made.mkdir()
    return changed_sources(made, after=f"/* {number} */\n")


@pytest.mark.parametrize("mode", Mode)
def test_new_programs_take_over_with_no_packet_lost_or_leaked(mode: Mode, tmp_path: Path) -> None:
    with scene(mode, 2) as s:
        with (
            stream(s.client.namespace, s.server.v4, ALLOWED_PORT) as allowed,
            stream(s.other.namespace, s.server.v6, ALLOWED_PORT) as denied,
        ):
            for number in range(3):
                for node in s.cluster.topology.nodes:
                    s.cluster.dataplanes[node].close()
                    s.cluster.start(node, sources=other_sources(tmp_path, number * 2 + node.number))
        assert allowed.sent > 1000
        assert allowed.lost == 0
        assert not denied.back
        pins = Pins(BPF_ROOT, s.cluster.name, s.server.node.namespace)
        (schema,) = pins.schemas()
        assert len(pins.fingerprints(schema)) == 1, "the old programs are gone"


@pytest.mark.parametrize(("mode", "nodes", "v"), PLACES[1:3])
def test_policies_are_switched_with_no_packet_lost_or_leaked(
    mode: Mode, nodes: int, v: int
) -> None:
    """Both policies allow one port and deny the other, by entries as unlike as can be."""
    deny, allow = strength(Action.DENY), strength(Action.ALLOW)
    with scene(mode, nodes, v) as s:
        node = s.server.node
        now = s.cluster.maps(node)

        def turned(number: int) -> Maps:
            def key(peer: int, *port: int) -> PolicyKey:
                protocol = Protocol.UDP if port else Protocol.ANY
                bits = 16 if port else 0
                return PolicyKey(100 + number, Direction.INGRESS, peer, protocol, *port, bits)

            if number % 2:
                policies = {key(CLIENT, ALLOWED_PORT): allow, key(0, DENIED_PORT): deny}
            else:
                policies = {key(0): allow, key(CLIENT, DENIED_PORT): deny}
            endpoints = {
                place: replace(one, policy=100 + number) for place, one in now.endpoints.items()
            }
            return replace(now, policies=policies, endpoints=endpoints)

        def put(maps: Maps) -> None:
            s.cluster.dataplanes[node].write(diff(before, maps))

        before, maps = now, turned(0)
        put(maps)
        with (
            stream(s.client.namespace, s.server.v4, ALLOWED_PORT) as allowed,
            stream(s.client.namespace, s.server.v6, DENIED_PORT) as denied,
        ):
            number = 0
            while allowed.sent < 2_000 or number < 300:
                number += 1
                before, maps = maps, turned(number)
                put(maps)
        assert allowed.lost == 0
        assert denied.sent > 500
        assert not denied.back


def test_larger_maps_take_over_with_no_packet_lost_or_leaked() -> None:
    with scene(Mode.OVERLAY, 2) as s:
        with (
            stream(s.client.namespace, s.server.v4, ALLOWED_PORT) as allowed,
            stream(s.other.namespace, s.server.v6, ALLOWED_PORT) as denied,
        ):
            for hosts in (2048, 4096):
                for node in s.cluster.topology.nodes:
                    s.cluster.dataplanes[node].close()
                    again = s.cluster.start(node, sizes=replace(SMALL, hosts=hosts))
                    assert again.read() == s.cluster.maps(node), "copied"
        assert allowed.sent > 1000
        assert allowed.lost == 0
        assert not denied.back
        pins = Pins(BPF_ROOT, s.cluster.name, s.server.node.namespace)
        assert len(pins.schemas()) == 1, "the old maps are gone"
        # The very same conntrack: a flow of before is answered after.
        counters = s.cluster.dataplanes[s.server.node].counters()
        told = counters[Direction.INGRESS, Reason.ALLOWED_POLICY]
        assert told == 1, "no flow was opened a second time"


def test_maps_of_another_format_go_live_only_when_they_are_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scene(Mode.OVERLAY, 2) as s:
        node = s.server.node
        pins = Pins(BPF_ROOT, s.cluster.name, node.namespace)
        monkeypatch.setattr(layout, "FORMAT", layout.FORMAT + 1)
        with (
            stream(s.client.namespace, s.server.v4, ALLOWED_PORT) as allowed,
            stream(s.other.namespace, s.server.v6, ALLOWED_PORT) as denied,
        ):
            s.cluster.dataplanes[node].close()
            staged = s.cluster.start(node)
            assert staged.read() == Maps(), "their entries could not be copied"
            assert len(pins.schemas()) == 2
            assert set(staged.attached()) == {s.server.uid}
            assert tcp_reaches(s.client.namespace, s.server.v4, ALLOWED_PORT)
            assert not tcp_reaches(s.client.namespace, s.server.v4, DENIED_PORT)

            staged.close()  # and it dies before it has written anything
            staged = s.cluster.start(node)
            assert tcp_reaches(s.client.namespace, s.server.v4, ALLOWED_PORT)

            change = diff(staged.read(), s.cluster.maps(node))
            staged.write(replace(change, endpoints_set={}, is_part=True))
            assert len(pins.schemas()) == 2
            assert tcp_reaches(s.client.namespace, s.server.v4, ALLOWED_PORT)
            staged.write(diff(staged.read(), s.cluster.maps(node)))
            assert len(pins.schemas()) == 1
            assert tcp_reaches(s.client.namespace, s.server.v4, ALLOWED_PORT)
            assert not tcp_reaches(s.client.namespace, s.server.v4, DENIED_PORT)
        assert allowed.sent > 500
        assert allowed.lost == 0
        assert not denied.back


def test_the_overlay_device_is_kept_made_again_and_taken_away() -> None:
    with cluster(Mode.OVERLAY, 1) as one:
        node = one.topology.nodes[0]
        first = one.start(node)
        index = inside(node.namespace, lambda: socket.if_nametoindex("tabard0"))
        first.close()
        second = one.start(node)
        assert inside(node.namespace, lambda: socket.if_nametoindex("tabard0")) == index

        ip(node.namespace, "link delete tabard0")
        second.close()
        third = one.start(node)
        assert inside(node.namespace, lambda: socket.if_nametoindex("tabard0")) != index
        third.remove()
        names = inside(node.namespace, socket.if_nameindex)
        assert "tabard0" not in [name for _, name in names]
