"""A graph as an SVG picture that needs nothing else; a namespace is a colour. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tabard.cli.drawing import Edge, Graph, Node
from tabard.cli.layout import HEIGHT, MARGIN, WIDTH, Place, laid_out

LETTERS_MAX = 20
LABEL_MAX = 24
COLOURS = ("#dbe9f6", "#e3f1dc", "#fbe8d3", "#ecdff2", "#f9dcdc", "#d9f0ee", "#f6efc6", "#e4e4e4")
WORLD_COLOUR = "#f4f1e8"


def svg(graph: Graph) -> str:
    places, curves = laid_out(graph)
    colours = _colours(graph)
    width = max((x for x, _ in places.values()), default=0) + WIDTH / 2 + MARGIN
    height = max((y for _, y in places.values()), default=0) + HEIGHT / 2 + MARGIN + 30
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
    if curve[-1][0] < curve[0][0]:
        at = 0.85  # it passes behind its own source
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
