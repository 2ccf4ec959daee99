"""`tabard policy graph`: which edges there are, and that each notation holds them."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from command import Tabard
from linting import WEB_AND_DB, network_policy
from shops import SHOP
from tabard.cli.drawing import Edge, Graph, Node, drawing
from tabard.cli.ground import Ground
from tabard.cli.notation import dot, mermaid
from tabard.cli.svg import svg
from tabard.manifests.forecast import forecast
from tabard.manifests.objects import check
from tabard.manifests.reading import read
from tabard.manifests.source import load
from tabard.policy.engine import Engine

FROM_WEB = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}"
TO_DB = network_policy(f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{FROM_WEB}]}}")


def graph_of(text: str, namespace: str = "") -> Graph:
    state = forecast(check(load(text, "a.yaml")).objects)
    return drawing(Ground(state, Engine(state)), namespace)


def edges(graph: Graph) -> set[tuple[str, str, str]]:
    return {
        (graph.nodes[edge.source].name, graph.nodes[edge.target].name, edge.label)
        for edge in graph.edges
    }


def test_an_edge_is_what_may_pass_and_who_is_open_is_marked() -> None:
    graph = graph_of(WEB_AND_DB + TO_DB)
    assert edges(graph) == {("web", "db", "5432/TCP")}
    assert {node.name: node.ingress for node in graph.nodes} == {"web": False, "db": True}


def test_what_all_the_world_may_send_is_one_edge() -> None:
    rule = "{ports: [{port: 8080}]}"
    door = network_policy(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{rule}]}}")
    assert edges(graph_of(WEB_AND_DB + door)) == {("world", "web", "8080/TCP")}


def test_a_cidr_is_a_node_of_its_own() -> None:
    rule = "{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 5432}]}"
    door = network_policy(f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{rule}]}}")
    assert edges(graph_of(WEB_AND_DB + door)) == {("192.0.2.0/24", "db", "5432/TCP")}


def test_a_namespace_is_drawn_with_all_that_it_has_to_do_with() -> None:
    other = WEB_AND_DB.replace("namespace: x", "namespace: y")
    graph = graph_of(f"{WEB_AND_DB}{other}{TO_DB}", "x")
    assert {node.namespace for node in graph.nodes} == {"x"}


def test_of_another_namespace_and_the_world_a_namespace_s_picture_says_nothing() -> None:
    other = (WEB_AND_DB + TO_DB).replace("namespace: x", "namespace: y")
    rule = "{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 5432}]}"
    door = network_policy(
        f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{rule}]}}", "door", "y"
    )
    graph = graph_of(f"{WEB_AND_DB}{TO_DB}---\n{other}{door}", "x")
    assert {node.namespace for node in graph.nodes} == {"x"}


def test_mermaid_groups_by_namespace_and_escapes_labels() -> None:
    nodes = [Node('a"#', "x", ingress=False), Node("b", "x"), Node("world", "")]
    lines = mermaid(Graph(nodes, [Edge(0, 1, "80/TCP"), Edge(2, 0, "all")])).splitlines()
    assert lines[0] == "flowchart LR"
    assert '  subgraph ns0["x"]' in lines
    assert '    n0["a#quot;#35;"]:::open' in lines
    assert '  n0 -->|"80/TCP"| n1' in lines
    assert '  n2(("world")):::world' in lines


def test_dot_groups_by_namespace_and_escapes_labels() -> None:
    nodes = [Node('a"', "x", ingress=False, itself="all"), Node("world", "")]
    lines = dot(Graph(nodes, [Edge(1, 0, "80/TCP")])).splitlines()
    assert lines[0] == "digraph policies {"
    assert lines[-1] == "}"
    assert '    n0 [label="a\\"\\n↻ all", style="rounded,dashed"]' in lines
    assert '  n1 -> n0 [label="80/TCP"]' in lines


def test_the_svg_is_well_formed_and_self_contained_and_holds_every_node_and_edge() -> None:
    state = forecast(read([SHOP]).objects)
    graph = drawing(Ground(state, Engine(state)))
    text = svg(graph)
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    titles = [each.text for each in root.iter(f"{space}title")]
    for edge in graph.edges:
        ends = graph.nodes[edge.source].name, graph.nodes[edge.target].name
        assert f"{ends[0]} → {ends[1]}: {edge.label}" in titles
    for node in graph.nodes:
        assert (f"{node.namespace}/{node.name}" if node.namespace else node.name) in titles
    assert not re.search(r"(href|src|url\(http|@import)", text), "nothing is fetched"


def test_boxes_of_the_svg_do_not_overlap_and_lie_within_it() -> None:
    state = forecast(read([SHOP]).objects)
    root = ElementTree.fromstring(svg(drawing(Ground(state, Engine(state)))))
    space = "{http://www.w3.org/2000/svg}"
    boxes = [
        tuple(float(rect.get(name, "0")) for name in ("x", "y", "width", "height"))
        for group in root.iter(f"{space}g")
        for rect in group.iter(f"{space}rect")
    ]
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    for at, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for other_x, other_y, other_w, other_h in boxes[at + 1 :]:
            apart = x + w <= other_x or other_x + other_w <= x
            assert apart or y + h <= other_y or other_y + other_h <= y


def test_a_circle_of_flows_is_drawn() -> None:
    nodes = [Node(name, "x") for name in "abc"]
    text = svg(Graph(nodes, [Edge(0, 1, "1/TCP"), Edge(1, 2, "1/TCP"), Edge(2, 0, "1/TCP")]))
    assert text.count("marker-end") == 3
    assert svg(Graph([], [])).startswith("<svg")
    boxes = re.findall(r'<g><rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', text)
    labels = re.findall(r'<text x="(\d+)" y="(\d+)" font-size="10"', text)
    assert (len(boxes), len(labels)) == (3, 3)
    for x, y, width, height in (map(int, box) for box in boxes):
        for at_x, at_y in (map(int, label) for label in labels):
            assert not (x <= at_x <= x + width and y <= at_y <= y + height)


@pytest.mark.parametrize(
    ("form", "begins"), [("mermaid", "flowchart"), ("dot", "digraph"), ("svg", "<svg")]
)
def test_each_form_is_printed(tabard: Tabard, tmp_path: Path, form: str, begins: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(WEB_AND_DB + TO_DB)
    result = tabard("policy", "graph", str(file), "-o", form)
    assert result.exit_code == 0
    assert result.stdout.startswith(begins)
    assert "dashed" in result.stderr
