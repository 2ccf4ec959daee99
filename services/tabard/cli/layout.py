"""Where the boxes and edges of a graph lie: in layers, from who speaks to who listens. Pure.

Who is spoken to stands to the right of who speaks, as far as circles allow, and in a layer near
those it has to do with (Sugiyama's barycentres). An edge passes the columns between by bends of its
own.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tabard.cli.drawing import Edge, Graph

SWEEPS = 8
"""Times that layers are put in order by their neighbours."""
WIDTH, HEIGHT = 150, 40
"""Of a node's box, in pixels."""
GAP_X, GAP_Y = 170, 26
BEND = 18
"""Height of an edge that passes a column by."""
MARGIN = 24

Place = tuple[float, float]
"""The middle of a box, or a point of a curve."""


def laid_out(graph: Graph) -> tuple[dict[int, Place], list[list[Place]]]:
    """The places of the nodes (and of bends, by negative numbers), and each edge's curve.

    A curve is its begin, then for each part two points that pull and its end.
    """
    layers, ways = _threaded(_layers(graph), graph.edges)
    places = _places(_ordered(layers, ways))
    return places, [_curve([places[at] for at in way]) for way in ways]


def _layers(graph: Graph) -> list[list[int]]:
    """Each node's layer: one more than that of the last who speaks to it; circles are cut where
    they are met, and the world is first."""
    into: dict[int, list[int]] = {at: [] for at in range(len(graph.nodes))}
    for edge in graph.edges:
        into[edge.target].append(edge.source)
    depth: dict[int, int] = {}
    for start in into:
        pending = [start]
        met: set[int] = set()
        while pending:
            at = pending[-1]
            met.add(at)
            waiting = [one for one in into[at] if one not in depth and one not in met]
            if waiting:
                pending.append(waiting[0])
                continue
            pending.pop()
            depth[at] = max((depth[one] + 1 for one in into[at] if one in depth), default=0)
    for at, node in enumerate(graph.nodes):
        if not node.namespace and any(edge.source == at for edge in graph.edges):
            depth[at] = 0
    found: list[list[int]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for at in sorted(depth, key=lambda at: (graph.nodes[at].namespace, graph.nodes[at].name)):
        found[depth[at]].append(at)
    return [layer for layer in found if layer]


def _threaded(
    layers: list[list[int]], edges: Sequence[Edge]
) -> tuple[list[list[int]], list[list[int]]]:
    """Layers with a bend (a negative number) for each edge that passes one by, and the way of each
    edge: its source, bends and target."""
    depth = {at: column for column, layer in enumerate(layers) for at in layer}
    found = [list(layer) for layer in layers]
    ways: list[list[int]] = []
    bends = 0
    for edge in edges:
        way = [edge.source]
        for column in range(depth[edge.source] + 1, depth[edge.target]):
            bends += 1
            found[column].append(-bends)
            way.append(-bends)
        ways.append([*way, edge.target])
    return found, ways


def _ordered(layers: list[list[int]], ways: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each layer in the order of the middle of its nodes' neighbours."""
    near: dict[int, list[int]] = {at: [] for layer in layers for at in layer}
    for way in ways:
        for one, other in pairwise(way):
            near[one].append(other)
            near[other].append(one)
    for _ in range(SWEEPS):
        rank = {at: place / len(layer) for layer in layers for place, at in enumerate(layer)}

        def middle(at: int, rank: Mapping[int, float] = rank) -> float:
            ranks = [rank[other] for other in near[at]] or [rank[at]]
            return sum(ranks) / len(ranks)

        layers = [sorted(layer, key=middle) for layer in layers]
    return layers


def _places(layers: Sequence[Sequence[int]]) -> dict[int, Place]:
    """A bend takes less room than a box."""
    heights = [sum(map(_height, layer)) for layer in layers]
    tallest = max(heights, default=0)
    found = {}
    for column, layer in enumerate(layers):
        x = MARGIN + WIDTH / 2 + column * (WIDTH + GAP_X)
        y = MARGIN + (tallest - heights[column]) / 2
        for at in layer:
            found[at] = (x, y + _height(at) / 2)
            y += _height(at)
    return found


def _height(at: int) -> float:
    return HEIGHT + GAP_Y if at >= 0 else BEND


def _curve(points: Sequence[Place]) -> list[Place]:
    """From a box's side to another's, level through the column of each bend."""
    (x, y), *bends, (to_x, to_y) = points
    if to_x <= x:
        begin, end = (x + WIDTH / 2, y + 6), (to_x + WIDTH / 2, to_y + 6)
        pull = GAP_X / 2 if to_x == x else GAP_X * 0.8
        return [begin, (begin[0] + pull, y + 6), (end[0] + pull, to_y + 6), end]
    stops = [(x + WIDTH / 2, y)]
    for bend_x, bend_y in bends:
        stops += [(bend_x - WIDTH / 2, bend_y), (bend_x + WIDTH / 2, bend_y)]
    stops.append((to_x - WIDTH / 2, to_y))
    found = [stops[0]]
    for (from_x, from_y), (next_x, next_y) in pairwise(stops):
        pull = (next_x - from_x) / 2
        found += [(from_x + pull, from_y), (next_x - pull, next_y), (next_x, next_y)]
    return found
