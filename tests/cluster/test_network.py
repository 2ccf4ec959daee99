import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tabard.cluster import network
from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import NODES_MAX, apart_hosts, places
from tabard.netns import enter


def test_a_node_routes_to_the_other_nodes_pods_in_native_mode_only() -> None:
    overlay = network.plan("r", places(2), "overlay")
    native = network.plan("r", places(2), "native")
    assert not any("route" in command for command in overlay.inside["tb-r-n1"])
    assert [c for c in native.inside["tb-r-n1"] if "route" in c] == [
        "route add 10.244.2.0/24 via 198.18.0.12",
        "route add fd00:244:2::/64 via fd00:c612::c",
    ]


def test_every_node_is_plugged_into_the_hub() -> None:
    plan = network.plan("r", places(2), "overlay")
    assert "link add eth0 netns tb-r-n2 type veth peer name n2 netns tb-r-hub" in plan.root
    assert "link set n2 master br0 up" in plan.inside["tb-r-hub"]


def test_the_hub_has_an_address_for_each_bus_server() -> None:
    one, three = (network.plan("r", places(1), "overlay", count) for count in (1, 3))
    assert set(three.inside["tb-r-hub"]) - set(one.inside["tb-r-hub"]) == {
        "addr add 198.18.0.2/24 dev br0",
        "addr add 198.18.0.3/24 dev br0",
    }


def test_a_process_that_is_apart_has_a_namespace_and_an_address_that_no_node_has() -> None:
    hosts = apart_hosts(["nats.1", "allocator.1"])
    assert hosts == {"nats.1": "198.18.0.200", "allocator.1": "198.18.0.201"}
    assert int(hosts["nats.1"].rpartition(".")[2]) > 10 + NODES_MAX
    plan = network.plan("r", places(1), "overlay", apart=hosts)
    assert "addr add 198.18.0.201/24 dev eth0" in plan.inside["tb-r-s_allocator.1"]
    assert "link set allocator.1 master br0 up" in plan.inside["tb-r-hub"]


@pytest.fixture
def run() -> Iterator[str]:
    name = f"t{os.getpid() % 10**6}-{secrets.token_hex(2)}"
    yield name
    for run in (name, f"{name}-x"):
        network.delete(network.names_of(run))


@pytest.mark.ebpf
def test_nodes_reach_each_other_and_forward(run: str) -> None:
    network.lay(network.plan(run, places(2), "native"))

    def listen() -> socket.socket:
        return socket.create_server(("198.18.0.12", 7000))

    def connect() -> None:
        socket.create_connection(("198.18.0.12", 7000), timeout=5).close()

    with enter.call(f"tb-{run}-n2", listen):
        enter.call(f"tb-{run}-n1", connect)
    forwarding = enter.call(f"tb-{run}-n1", Path("/proc/sys/net/ipv4/ip_forward").read_text)
    assert forwarding.strip() == "1"


@pytest.mark.ebpf
def test_the_hub_keeps_its_mac_address_when_ports_come_and_go(run: str) -> None:
    network.lay(network.plan(run, places(2), "overlay"))

    def mac() -> str:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as probe:
            probe.bind((network.BRIDGE, 0))
            return str(probe.getsockname()[4].hex(":"))

    before = enter.call(f"tb-{run}-hub", mac)
    for port in ("n1", "n2"):
        subprocess.run(["ip", "-n", f"tb-{run}-hub", "link", "set", port, "nomaster"], check=True)
        assert enter.call(f"tb-{run}-hub", mac) == before


@pytest.mark.ebpf
def test_a_run_owns_its_namespaces_and_no_longer_named_runs(run: str) -> None:
    network.lay(network.plan(run, places(1), "overlay"))
    network.lay(network.plan(f"{run}-x", places(1), "overlay"))
    enter.create(f"tb-{run}-p-0123456789ab", lambda: None)
    enter.create(f"tb-{run}-s_nats.1", lambda: None)
    mine = network.names_of(run)
    places_of_mine = ("hub", "n1", "p-0123456789ab", "s_nats.1")
    assert mine == [f"tb-{run}-{place}" for place in places_of_mine]
    assert network.pods_among(run, mine) == [f"tb-{run}-p-0123456789ab"]
    network.delete(mine)
    assert network.names_of(run) == []
    assert len(network.names_of(f"{run}-x")) == 2


@pytest.mark.ebpf
def test_a_thread_comes_back_from_a_visit(run: str) -> None:
    network.lay(network.plan(run, places(1), "overlay"))
    here = os.stat("/proc/thread-self/ns/net").st_ino
    with network.visiting(f"tb-{run}-hub"):
        assert os.stat("/proc/thread-self/ns/net").st_ino != here
    assert os.stat("/proc/thread-self/ns/net").st_ino == here


@pytest.mark.ebpf
def test_the_command_that_failed_is_named(run: str) -> None:
    network.lay(network.plan(run, places(1), "overlay"))
    with pytest.raises(ClusterError, match=f"netns add tb-{run}-hub"):
        network.lay(network.plan(run, places(1), "overlay"))
