"""The machine's small underlay: a hub namespace with a bridge, and one namespace for each node;
for each bus server and allocator too where they are to be apart.

`plan` is pure and says every command; `lay` carries a plan out and `names_of` finds what is there.
Pods' namespaces are the source's; they are only removed here.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import CDLL, get_errno
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import HUB, UNDERLAY, ModeName, NodePlace, bus_hosts
from tabard.netns import enter
from tabard.netns.names import hub_namespace, node_namespace, pod_id_of, service_namespace

BRIDGE = "br0"
BRIDGE_MAC = "02:00:c6:12:00:01"
"""Given, or it would be the lowest of its ports', and another when ports come and go: who knew the
hub by the one before would not reach it for as long as neighbours are kept."""
UNDERLAY_DEVICE = "eth0"
"""A node's interface towards the hub."""

_libc = CDLL(None, use_errno=True)

_SYSCTLS: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # A reply may leave through the overlay device: the strict reverse-path check would drop it.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    # Answer ARP only for the interface's own address, and speak only in its name.
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv4/conf/all/arp_announce": "2",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Commands for `ip -batch`: first `root` outside, then each namespace's `inside` it."""

    root: tuple[str, ...]
    inside: Mapping[str, tuple[str, ...]]
    sysctls: Mapping[str, Mapping[str, str]]


def plan(
    run: str,
    nodes: Iterable[NodePlace],
    mode: ModeName,
    bus_servers: int = 1,
    apart: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """`apart`: process → address on the underlay, of each that gets a namespace of its own."""
    nodes = tuple(nodes)
    hub = hub_namespace(run)
    root = [f"netns add {hub}"]
    in_hub = ["link set lo up", f"link add {BRIDGE} address {BRIDGE_MAC} type bridge"]
    in_hub.append(f"link set {BRIDGE} up")
    in_hub += [f"addr add {gateway} dev {BRIDGE}{_nodad(gateway.version)}" for gateway in HUB]
    in_hub += [
        f"addr add {host}/{HUB[0].network.prefixlen} dev {BRIDGE}"
        for host in bus_hosts(bus_servers)[1:]
    ]
    inside = {}
    for node in nodes:
        namespace = node_namespace(run, node.name)
        root += _plugged(namespace, node.name, hub)
        in_hub.append(f"link set {node.name} master {BRIDGE} up")
        inside[namespace] = _in_node(node, nodes, mode)
    sysctls = {namespace: _SYSCTLS for namespace in inside}
    for process, address in apart.items():
        namespace = service_namespace(run, process)
        root += _plugged(namespace, process, hub)
        in_hub.append(f"link set {process} master {BRIDGE} up")
        inside[namespace] = (
            "link set lo up",
            f"link set {UNDERLAY_DEVICE} up",
            f"addr add {address}/{UNDERLAY[0].prefixlen} dev {UNDERLAY_DEVICE}",
        )
    return Plan(tuple(root), {hub: tuple(in_hub), **inside}, sysctls)


def _plugged(namespace: str, port: str, hub: str) -> tuple[str, str]:
    """A new namespace, its device joined to the hub's of the name `port`."""
    return (
        f"netns add {namespace}",
        f"link add {UNDERLAY_DEVICE} netns {namespace} type veth peer name {port} netns {hub}",
    )


def _in_node(node: NodePlace, nodes: Iterable[NodePlace], mode: ModeName) -> tuple[str, ...]:
    commands = ["link set lo up", f"link set {UNDERLAY_DEVICE} up"]
    commands += [
        f"addr add {address}/{network.prefixlen} dev {UNDERLAY_DEVICE}{_nodad(network.version)}"
        for address, network in zip(node.underlay, UNDERLAY, strict=True)
    ]
    if mode == "native":
        commands += [
            f"route add {cidr} via {address}"
            for other in nodes
            if other != node
            for cidr, address in zip(other.pod_cidrs, other.underlay, strict=True)
        ]
    return tuple(commands)


def _nodad(version: int) -> str:
    """No wait for duplicate address detection: the hub has only our addresses."""
    return " nodad" if version == 6 else ""


def lay(plan: Plan) -> None:
    """Carry the plan out; ClusterError names the first command that failed. Blocks."""
    _ip(plan.root)
    for namespace, values in plan.sysctls.items():
        enter.call(namespace, partial(_set, values))
    for namespace, commands in plan.inside.items():
        _ip(commands, "-n", namespace)


def _set(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        Path("/proc/sys", name).write_text(value)


def names_of(run: str) -> list[str]:
    """The namespaces of `run` that are there: hub, nodes, services and pods, and no other run's.

    Another run's name may begin with this one's, so a common prefix says nothing.
    """
    nodes, services = node_namespace(run, "n"), service_namespace(run, "")
    infrastructure = re.compile(rf"{hub_namespace(run)}|{nodes}\d+|{services}[a-z0-9.]+")
    return [
        name
        for name in enter.names(hub_namespace(run).removesuffix("hub"))
        if infrastructure.fullmatch(name) or pod_id_of(run, name) is not None
    ]


def pods_among(run: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that are namespaces of the run's pods."""
    return [name for name in names if pod_id_of(run, name) is not None]


def delete(names: Iterable[str]) -> None:
    """Remove namespaces; the kernel frees what is in them. NamespaceError for what stays."""
    for name in names:
        enter.delete(name)


@contextmanager
def visiting(name: str) -> Iterator[None]:
    """The calling thread is in the namespace inside the block, sockets made there stay in it.

    For the thread of an event loop, whose bus client opens a new socket whenever it reconnects.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter.enter(name)
        try:
            yield
        finally:
            if _libc.setns(home, 0) != 0:
                raise ClusterError(f"cannot leave namespace {name}: {os.strerror(get_errno())}")
    finally:
        os.close(home)


def _ip(commands: Iterable[str], *options: str) -> None:
    lines = list(commands)
    done = subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        found = re.search(r"Command failed -:(\d+)", done.stderr)
        command = lines[int(found[1]) - 1] if found else f"{len(lines)} commands"
        raise ClusterError(
            f"`ip {' '.join(options)} {command}` failed: {done.stderr.strip()}", "ip netns list"
        )
