"""Clusters with every kind of party, and policies that may name any of them.

Pods in and out of their nodes' ranges, one in its node's network, one that claims a node's address;
nodes, strangers, addresses that nobody holds.
"""

from typing import Any

from hypothesis import strategies as st

from strategies import NAMESPACES, labels, named_ports, ports, selectors, specs
from tabard.dataplane.maps import Protocol
from tabard.events import ledger as events
from world import World, network_policy

BOTH = ("10.244.1.5", "fd00:1::5")
"""A pod's addresses, in its node's range."""
PODS = (BOTH, ("10.244.2.5",), ("10.1.1.7", "fd00:9::7"), ("10.244.2.6", "fd00:2::6"))
STRANGERS = ("10.244.1.99", "fd00:2::99", "203.0.113.9", "10.1.1.8", "fd77::1", "192.168.9.3")
NODES = ("192.168.9.1", "fd00:ffff::1", "192.168.9.2", "fd00:ffff::2")
CIDRS = (
    "0.0.0.0/0",
    "::/0",
    "10.244.0.0/16",
    "10.244.2.5/32",
    "10.1.1.0/24",
    "192.168.9.0/24",
    "192.168.9.1/32",
    "fd00::/16",
    "fd00:1::/64",
    "fd00:ffff::/32",
)
ASKED = ((Protocol.TCP, 80), (Protocol.TCP, 81), (Protocol.UDP, 5353), (Protocol.SCTP, 80))

blocks = st.sampled_from(CIDRS).map(lambda cidr: {"ipBlock": {"cidr": cidr}})


def _cidr_rules(side: str) -> Any:
    rule = st.fixed_dictionaries(
        {side: st.lists(blocks, min_size=1, max_size=2)},
        optional={"ports": st.lists(ports(), max_size=2)},
    )
    return st.lists(rule, max_size=2)


by_address = st.fixed_dictionaries(
    {
        "podSelector": selectors,
        "policyTypes": st.just(["Ingress", "Egress"]),
        "ingress": _cidr_rules("from"),
        "egress": _cidr_rules("to"),
    }
)
policies = st.lists(st.tuples(st.sampled_from(NAMESPACES), specs | by_address), max_size=4)
pods = st.lists(
    st.tuples(st.sampled_from(NAMESPACES), labels, named_ports), min_size=1, max_size=len(PODS)
)


def told(
    found: list[tuple[str, dict[str, str], Any]], said: list[tuple[str, Any]], *, leaves: bool
) -> World:
    """Pods on two nodes, one in its node's network, one that claims a node's address; with
    `leaves` a node that left while pods ran there."""
    world = World(nodes=0)
    for number in (1, 2):
        world.node(
            f"n{number}",
            (f"192.168.9.{number}", f"fd00:ffff::{number}"),
            (f"10.244.{number}.0/24", f"fd00:{number}::/64"),
        )
    for index, (namespace, own, its_ports) in enumerate(found):
        at = f"n{index % 2 + 1}"
        world.pod(f"{namespace}/p{index}", own, node=at, ip=PODS[index], ports=its_ports)
    world.pod("x/host", {"app": "a"}, node="n1", ip="192.168.9.1", host_network=True)
    world.pod("x/liar", {"app": "a"}, node="n1", ip="192.168.9.2")
    for number, (namespace, spec) in enumerate(said):
        world.policy(network_policy(f"p{number}", namespace, **spec))
    if leaves:
        world.emit(events.NodeRemoved("n2"))
    return world
