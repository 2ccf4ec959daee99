"""A graph as an SVG picture that needs nothing else. Pure.

Laid out in layers: who is spoken to stands to the right of who speaks, as far as circles allow,
and in a layer near those it has to do with (Sugiyama's barycentres). A namespace is a colour.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tabard.cli.drawing import Edge, Graph, Node

SWEEPS = 8
"""Times that layers are put in order by their neighbours."""
WIDTH, HEIGHT = 150, 40
"""Of a node's box, in pixels."""
GAP_X, GAP_Y = 170, 26
MARGIN = 24
LETTERS_MAX = 20
LABEL_MAX = 24
COLOURS = ("#dbe9f6", "#e3f1dc", "#fbe8d3", "#ecdff2", "#f9dcdc", "#d9f0ee", "#f6efc6", "#e4e4e4")
WORLD_COLOUR = "#f4f1e8"

Place = tuple[float, float]
"""The middle of a box."""


def svg(graph: Graph) -> str:
    layers = _ordered(_layers(graph), graph.edges)
    places = _places(layers)
    namespaces = list(dict.fromkeys(node.namespace for node in graph.nodes if node.namespace))
    colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(namespaces)}
    width = max((x for x, _ in places.values()), default=0) + WIDTH / 2 + MARGIN
    height = max((y for _, y in places.values()), default=0) + HEIGHT / 2 + MARGIN + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="12">',
        "<title>who may speak to whom</title>",
        '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(_edge(graph, edge, places) for edge in graph.edges),
        *(_node(node, places[at], colours) for at, node in enumerate(graph.nodes)),
        *(_label(edge, places) for edge in graph.edges),
        *_legend(colours, height),
        "</svg>",
    ]
    return "\n".join(lines)


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


def _ordered(layers: list[list[int]], edges: Sequence[Edge]) -> list[list[int]]:
    """Each layer in the order of the middle of its nodes' neighbours."""
    near: dict[int, list[int]] = {at: [] for layer in layers for at in layer}
    for edge in edges:
        near[edge.source].append(edge.target)
        near[edge.target].append(edge.source)
    for _ in range(SWEEPS):
        rank = {at: place / len(layer) for layer in layers for place, at in enumerate(layer)}

        def middle(at: int, rank: Mapping[int, float] = rank) -> float:
            ranks = [rank[other] for other in near[at]] or [rank[at]]
            return sum(ranks) / len(ranks)

        layers = [sorted(layer, key=middle) for layer in layers]
    return layers


def _places(layers: Sequence[Sequence[int]]) -> dict[int, Place]:
    tallest = max((len(layer) for layer in layers), default=0)
    found = {}
    for column, layer in enumerate(layers):
        x = MARGIN + WIDTH / 2 + column * (WIDTH + GAP_X)
        above = (tallest - len(layer)) / 2
        for row, at in enumerate(layer):
            found[at] = (x, MARGIN + HEIGHT / 2 + (above + row) * (HEIGHT + GAP_Y))
    return found


def _curve(edge: Edge, places: Mapping[int, Place]) -> tuple[Place, Place, Place, Place]:
    """Begin, two points that pull, and end: from a box's side to another's."""
    (x, y), (to_x, to_y) = places[edge.source], places[edge.target]
    if to_x > x:
        begin, end = (x + WIDTH / 2, y), (to_x - WIDTH / 2, to_y)
        pull = (end[0] - begin[0]) / 2
        return begin, (begin[0] + pull, y), (end[0] - pull, to_y), end
    begin, end = (x + WIDTH / 2, y + 6), (to_x + WIDTH / 2, to_y + 6)
    pull = GAP_X / 2 if to_x == x else GAP_X * 0.8
    return begin, (begin[0] + pull, y + 6), (end[0] + pull, to_y + 6), end


def _edge(graph: Graph, edge: Edge, places: Mapping[int, Place]) -> str:
    begin, one, other, end = (f"{x:.0f} {y:.0f}" for x, y in _curve(edge, places))
    ends = (graph.nodes[edge.source].name, graph.nodes[edge.target].name)
    title = escape(f"{ends[0]} → {ends[1]}: {edge.label}")
    return (
        f'<path d="M{begin} C{one} {other} {end}" fill="none" stroke="#999" '
        f'marker-end="url(#to)"><title>{title}</title></path>'
    )


def _label(edge: Edge, places: Mapping[int, Place]) -> str:
    """The ports, a third of the way along, where edges into one box are still apart."""
    points = _curve(edge, places)
    at = 0.35
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
