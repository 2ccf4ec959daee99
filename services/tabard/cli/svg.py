"""A graph as an SVG picture that needs nothing else. Pure.

Laid out in layers: who is spoken to stands to the right of who speaks, as far as circles allow,
and in a layer near those it has to do with (Sugiyama's barycentres). A namespace is a colour.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

from tabard.cli.drawing import Edge, Graph, Node

SWEEPS = 8
"""Times that layers are put in order by their neighbours."""
WIDTH, HEIGHT = 150, 40
"""Of a node's box, in pixels."""
GAP_X, GAP_Y = 170, 26
BEND = 18
"""Height of an edge that passes a column by."""
MARGIN = 24
LETTERS_MAX = 20
LABEL_MAX = 24
COLOURS = ("#dbe9f6", "#e3f1dc", "#fbe8d3", "#ecdff2", "#f9dcdc", "#d9f0ee", "#f6efc6", "#e4e4e4")
WORLD_COLOUR = "#f4f1e8"

Place = tuple[float, float]
"""The middle of a box."""


def svg(graph: Graph) -> str:
    layers, ways = _threaded(_layers(graph), graph.edges)
    places = _places(_ordered(layers, ways))
    colours = _colours(graph)
    width = max((x for x, _ in places.values()), default=0) + WIDTH / 2 + MARGIN
    height = max((y for _, y in places.values()), default=0) + HEIGHT / 2 + MARGIN + 30
    curves = [_curve([places[at] for at in way]) for way in ways]
    drawn = list(zip(graph.edges, curves, strict=True))
    out = Counter(edge.source for edge in graph.edges)
    into = Counter(edge.target for edge in graph.edges)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="12">',
        "<title>who may speak to whom</title>",
        '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(_edge(graph, edge, curve) for edge, curve in drawn),
        *(_node(node, places[at], colours) for at, node in enumerate(graph.nodes)),
        # Where fewer edges meet there is more room.
        *(
            _label(edge, curve, at_source=out[edge.source] < into[edge.target])
            for edge, curve in drawn
        ),
        *_legend(colours, height),
        "</svg>",
    ]
    return "\n".join(lines)


def _colours(graph: Graph) -> dict[str, str]:
    namespaces = dict.fromkeys(node.namespace for node in graph.nodes if node.namespace)
    return {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(namespaces)}


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
    """Begin, then for each part two points that pull and its end: from a box's side to another's,
    level through the column of each bend."""
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


def _edge(graph: Graph, edge: Edge, curve: Sequence[Place]) -> str:
    begin, *others = (f"{x:.0f} {y:.0f}" for x, y in curve)
    ends = (graph.nodes[edge.source].name, graph.nodes[edge.target].name)
    title = escape(f"{ends[0]} → {ends[1]}: {edge.label}")
    return (
        f'<path d="M{begin} C{" ".join(others)}" fill="none" stroke="#999" '
        f'marker-end="url(#to)"><title>{title}</title></path>'
    )


def _label(edge: Edge, curve: Sequence[Place], *, at_source: bool) -> str:
    """The ports, near one end of the edge."""
    points, at = (curve[:4], 0.35) if at_source else (curve[-4:], 0.62)
    weights = ((1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3)
    x, y = (
        sum(weight * point[axis] for weight, point in zip(weights, points, strict=True))
        for axis in (0, 1)
    )
    return (
        f'<text x="{x:.0f}" y="{y + 4:.0f}" font-size="10" text-anchor="middle" fill="#333" '
        f'stroke="#fff" stroke-width="3" paint-order="stroke">{escape(_cut(edge.label))}</text>'
    )


def _cut(text: str, most: int = LABEL_MAX) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _node(node: Node, place: Place, colours: Mapping[str, str]) -> str:
    x, y = place
    dashed = "" if node.ingress or not node.namespace else ' stroke-dasharray="5 4"'
    radius = 6 if node.namespace else HEIGHT / 2
    named = f"{node.namespace}/{node.name}" if node.namespace else node.name
    lines = [_cut(node.name, LETTERS_MAX)] + ([f"↻ {_cut(node.itself)}"] if node.itself else [])
    top = y + 4 - 7 * (len(lines) - 1)
    texts = "".join(
        f'<text x="{x:.0f}" y="{top + 14 * row:.0f}" text-anchor="middle">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )
    return (
        f'<g><rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="{radius:.0f}" fill="{colours.get(node.namespace, WORLD_COLOUR)}" '
        f'stroke="#555"{dashed}><title>{escape(named)}</title></rect>{texts}</g>'
    )


def _legend(colours: Mapping[str, str], height: float) -> Iterator[str]:
    x = MARGIN
    for name, colour in [*colours.items(), ("dashed: everyone may speak to it", "#fff")]:
        dashed = ' stroke-dasharray="3 2"' if colour == "#fff" else ""
        yield (
            f'<rect x="{x}" y="{height - 26:.0f}" width="14" height="14" fill="{colour}" '
            f'stroke="#555"{dashed}/><text x="{x + 20}" y="{height - 15:.0f}">{escape(name)}</text>'
        )
        x += 40 + 8 * len(name)
