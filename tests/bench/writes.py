"""A started pod → entries written on the other nodes (counted): identities against addresses."""

import copy
from collections.abc import Callable
from statistics import fmean

from bench import population
from bench.figures import Figure, Target, Yardstick
from bench.lab import Lab
from bench.yardsticks import map_updates, nft_updates
from tabard.dataplane.maps import Maps, Mode
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import NodeConfig
from tabard.demo.address_filter import AddressFilter, peer_sets
from tabard.ledger.state import State
from tabard.netns import enter
from tabard.policy.compile import Compiler
from tabard.policy.diff import diff
from world import World

NODES = (10, 100, 1_000)
COUNTED = 100
"""Nodes on which is counted; of more, every so many-th: all are alike but the first."""
LABELS = {"app": "web"}
PEER = {"app": "api"}
UPDATES = 200
STANDING = 10_000
RUNS = 3


def run(lab: Lab) -> list[Figure]:
    sizes = sorted({lab.scaled(nodes, 3) for nodes in NODES})
    figures = []
    for egress in (False, True):
        kind = "egress policies too" if egress else "ingress policies only"
        name = "egress" if egress else "ingress"
        counted = {way: [] for way in ("overlay", "native", "filter")}
        for nodes in sizes:
            lab.tell(f"{nodes} nodes, {kind}")
            before, after = _start(_world(nodes, egress), LABELS)
            others = _others(before)
            counted["overlay"].append(_mean(others, _entries(before, after, Mode.OVERLAY)))
            counted["native"].append(_mean(others, _entries(before, after, Mode.NATIVE)))
            counted["filter"].append(_mean(others, _elements(before, after)))
        by_address = tuple(counted["filter"])
        for way, most in (("overlay", 1 if egress else 0), ("native", 1)):
            figures.append(
                Figure(
                    f"writes.{way}.{name}",
                    f"{way}, {kind}; {' – '.join(f'{nodes:,}' for nodes in sizes)} nodes",
                    "entries a node",
                    tuple(counted[way]),
                    Target(most),
                    Yardstick("address filter", by_address),
                    means="What starting one pod more of a known kind writes on every other "
                    "node that runs one of its peers; an address filter has an element to write "
                    "in every set that the pod belongs to.",
                )
            )
    figures.append(_first_of_its_kind(sizes[-1]))
    if lab.real:
        figures.append(_seconds(lab))
    return figures


def _world(nodes: int, egress: bool) -> World:
    """Every node runs a pod of the started one's kind, and one of its peers."""
    world = World(nodes=0)
    for number in range(1, nodes + 1):
        joined = population.joined(number)
        world.node(joined.name, joined.addresses, joined.pod_cidrs)
        for at, labels in enumerate((LABELS, PEER)):
            address = population.address(number << 8 | at + 1)
            world.pod(f"shop/{labels['app']}-{number}", labels, node=joined.name, ip=address)
    allow = {"podSelector": {"matchLabels": LABELS}}
    spec = {
        "podSelector": {"matchLabels": PEER},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [allow], "ports": [{"protocol": "TCP", "port": 8080}]}],
    }
    world.policy(population.policy(1, "shop", **spec))
    if egress:
        spec = {
            "podSelector": {"matchLabels": PEER},
            "policyTypes": ["Egress"],
            "egress": [{"to": [allow]}],
        }
        world.policy(population.policy(2, "shop", **spec))
    return world


def _others(state: State) -> list[str]:
    others = [node for node in state.nodes if node != "n1"]
    return others[:: -(-len(others) // COUNTED)]


def _start(world: World, labels: dict[str, str]) -> tuple[State, State]:
    """The state before and after one pod more starts on the first node."""
    before = copy.deepcopy(world.state)
    world.pod("shop/new", labels, node="n1", ip=population.address(1 << 8 | 200))
    return before, world.state


def _entries(before: State, after: State, mode: Mode) -> Callable[[str], int]:
    def count(node: str) -> int:
        """Entries that the node's dataplane is given for the difference."""
        dataplane = MemoryDataplane(NodeConfig(node, mode, ()))
        dataplane.write(diff(Maps(), _compiled(before, node, mode)))
        change = diff(dataplane.read(), _compiled(after, node, mode))
        dataplane.write(change)
        return sum(change.counts().values())

    return count


def _compiled(state: State, node: str, mode: Mode) -> Maps:
    world = World(nodes=0)
    world.state = state
    return Compiler().compile(state, node, mode, world.attachments(node))


def _elements(before: State, after: State) -> Callable[[str], int]:
    def count(node: str) -> int:
        """Elements that the node's sets are given for the difference."""
        sets = AddressFilter("")
        sets.bring_to(peer_sets(before, node))
        return sets.bring_to(peer_sets(after, node)).elements

    return count


def _mean(nodes: list[str], count: Callable[[str], int]) -> float:
    return sum(map(count, nodes)) / len(nodes)


def _first_of_its_kind(nodes: int) -> Figure:
    before, after = _start(_world(nodes, egress=False), LABELS | {"version": "new"})
    others = _others(before)
    return Figure(
        "writes.overlay.new",
        f"overlay, ingress policies only, labels never seen before; {nodes:,} nodes",
        "entries a node",
        (_mean(others, _entries(before, after, Mode.OVERLAY)),),
        means="Once for each new set of labels, whatever the number of its pods: the identity, "
        "and an entry in each policy that admits it.",
    )


def _seconds(lab: Lab) -> Figure:
    namespace = f"tb-{lab.name}-nft"
    count = lab.scaled(UPDATES, 10)
    enter.create(namespace, lambda: None)
    try:
        elements = nft_updates(namespace, STANDING, RUNS * count)
    finally:
        enter.delete(namespace)
    runs = [map_updates(count) for _ in range(RUNS)]
    yardsticks = [elements[start : start + count] for start in range(0, len(elements), count)]
    return Figure(
        "writes.one",
        "one entry, written by itself",
        "µs",
        tuple(map(fmean, runs)),
        None,
        Yardstick("nft add element", tuple(map(fmean, yardsticks))),
        means="What one such write costs by itself: a map update against a command to nft.",
    )
