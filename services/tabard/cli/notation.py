"""A graph in the notations of others: Mermaid, which Markdown shows, and Graphviz' DOT. Pure."""

from collections.abc import Iterator

from tabard.cli.drawing import Graph, Node, namespaces


def mermaid(graph: Graph) -> str:
    """A flowchart; a namespace is a subgraph."""
    return "\n".join(_mermaid(graph))


def _mermaid(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    for number, (namespace, members) in enumerate(namespaces(graph)):
        if not namespace:
            yield from (f"  n{at}(({_quoted(node.name)})):::world" for at, node in members)
            continue
        yield f"  subgraph ns{number}[{_quoted(namespace)}]"
        for at, node in members:
            mark = "held" if node.ingress else "open"
            yield f"    n{at}[{_quoted(_text(node))}]:::{mark}"
        yield "  end"
    for edge in graph.edges:
        yield f"  n{edge.source} -->|{_quoted(edge.label)}| n{edge.target}"
    yield "  classDef open stroke-dasharray: 5 4"
    yield "  classDef held stroke-width: 2px"
    yield "  classDef world fill: #f4f1e8"


def _quoted(text: str) -> str:
    """A label; Mermaid reads entity codes (#quot;) in it."""
    return '"' + text.replace("#", "#35;").replace('"', "#quot;").replace("\n", "<br/>") + '"'


def dot(graph: Graph) -> str:
    """A digraph; a namespace is a cluster."""
    return "\n".join(_dot(graph))


def _dot(graph: Graph) -> Iterator[str]:
    yield "digraph policies {"
    yield "  rankdir=LR"
    yield '  node [shape=box, style=rounded, fontname="sans-serif"]'
    yield '  edge [fontname="sans-serif", fontsize=10]'
    for number, (namespace, members) in enumerate(namespaces(graph)):
        if not namespace:
            yield from (
                f"  n{at} [label={_string(node.name)}, shape=ellipse]" for at, node in members
            )
            continue
        yield f"  subgraph cluster_{number} {{"
        yield f"    label={_string(namespace)}"
        for at, node in members:
            style = "" if node.ingress else ', style="rounded,dashed"'
            yield f"    n{at} [label={_string(_text(node))}{style}]"
        yield "  }"
    for edge in graph.edges:
        yield f"  n{edge.source} -> n{edge.target} [label={_string(edge.label)}]"
    yield "}"


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _text(node: Node) -> str:
    return f"{node.name}\n↻ {node.itself}" if node.itself else node.name
