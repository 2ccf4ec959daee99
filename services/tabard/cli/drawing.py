"""Who may speak to whom, as a graph: what `tabard policy graph` draws. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabard.cli.contrast import cidrs_of
from tabard.cli.ground import Ground
from tabard.cli.kinds import By
from tabard.cli.pairs import Group, Pairs, group
from tabard.dataplane.maps import Direction
from tabard.identity.numbers import Reserved
from tabard.policy.atoms import cut
from tabard.policy.parties import Party, Role
from tabard.policy.traffic import EVERYTHING, Traffic, shown

WORLD = "world"


@dataclass(frozen=True, slots=True)
class Node:
    """A workload, or a part of the world."""

    name: str
    """Within its namespace."""
    namespace: str
    """Empty for a part of the world."""
    ingress: bool = True
    """Whether policies say who may speak to it; else everyone may."""
    egress: bool = True
    """Whether policies say to whom it may speak; else to everyone."""
    itself: str = ""
    """On which ports its pods may speak to each other, where policies say so."""


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` may send to `target`, both places in `Graph.nodes`, on the ports of `label`."""

    source: int
    target: int
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: Sequence[Node]
    edges: Sequence[Edge]


def drawing(found: Ground, namespace: str = "") -> Graph:
    """What is to be drawn: workloads, the world, each CIDR that policies name, and who may send.

    Left out is what goes without saying: between two that no policy holds, and what a workload may
    send as all the world may.
    """
    groups = [*group(found, By.WORKLOAD, (), namespace), *_outside(found)]
    pairs = Pairs(found, groups, ())
    world = next((at for at, each in enumerate(groups) if each.name == WORLD), None)
    held = [_held(found, each) for each in groups]
    allowed = {
        (source, target): pairs.cell(one, other).some
        for source, one in enumerate(groups)
        for target, other in enumerate(groups)
        if any(each.namespace and each.chosen for each in (one, other))
    }
    edges = [
        Edge(source, target, shown(traffic))
        for (source, target), traffic in allowed.items()
        if traffic and source != target and _telling(allowed, held, world, source, target, traffic)
    ]
    said = {at for edge in edges for at in (edge.source, edge.target)}
    kept = [at for at, each in enumerate(groups) if at in said or (each.namespace and each.chosen)]
    place = {at: index for index, at in enumerate(kept)}
    nodes = [
        Node(
            groups[at].name.removeprefix(f"{groups[at].namespace}/"),
            groups[at].namespace,
            *held[at],
            itself=_itself(allowed.get((at, at)), groups[at], held[at]),
        )
        for at in kept
    ]
    return Graph(
        nodes, [Edge(place[each.source], place[each.target], each.label) for each in edges]
    )


def _telling(
    allowed: dict[tuple[int, int], Traffic],
    held: Sequence[tuple[bool, bool]],
    world: int | None,
    source: int,
    target: int,
    traffic: Traffic,
) -> bool:
    """Whether the edge says more than the marks of its ends, and the world's edges, do."""
    ingress, egress = held[target][0], held[source][1]
    if not ingress and not egress:
        return False
    if world is None or world in (source, target):
        return True
    if ingress and allowed.get((world, target)) == traffic:
        return False
    return ingress or allowed.get((source, world)) != traffic


def _itself(traffic: Traffic | None, group: Group, held: tuple[bool, bool]) -> str:
    if not traffic or group.kind == "Pod" or not any(held):
        return ""
    return "" if traffic == EVERYTHING and not all(held) else shown(traffic)


def _held(found: Ground, group: Group) -> tuple[bool, bool]:
    """Whether policies hold all its pods: (to be spoken to, to speak)."""
    parties = [
        party
        for who in group.sorts.values()
        for party in found.engine.parties.find(who)
        if party.role is Role.POD
    ]
    ingress, egress = (
        bool(parties)
        and all(
            found.engine.selecting(direction, party) or found.engine.is_isolated(direction, party)
            for party in parties
        )
        for direction in (Direction.INGRESS, Direction.EGRESS)
    )
    return ingress, egress


def _outside(found: Ground) -> Iterator[Group]:
    """The world, and each CIDR in it that some policy tells apart."""
    parties: dict[str, list[Party]] = {}
    for atom in cut(cidrs_of([found])):
        world = Reserved.WORLD_IPV4 if atom.version == 4 else Reserved.WORLD_IPV6
        name = WORLD if atom.prefix.endswith("/0") else atom.prefix
        parties.setdefault(name, []).append(Party(Role.WORLD, atom.sample, world.value))
    for name, members in parties.items():
        yield Group(name, "", "Address", (), {party.address: party for party in members})


def namespaces(graph: Graph) -> Iterator[tuple[str, list[tuple[int, Node]]]]:
    """Each namespace's nodes with their places; the world's under ""."""
    found: dict[str, list[tuple[int, Node]]] = {}
    for at, node in enumerate(graph.nodes):
        found.setdefault(node.namespace, []).append((at, node))
    yield from found.items()
