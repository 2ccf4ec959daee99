"""`tabard policy graph`: who may speak to whom, as a picture."""

from tabard.cli.drawing import drawing
from tabard.cli.kinds import GraphForm
from tabard.cli.notation import dot, mermaid
from tabard.cli.printing import tell
from tabard.cli.svg import svg
from tabard.cli.where import Where, ground

WHAT = "draw the policies"


def graph(where: Where, namespace: str, output: GraphForm) -> None:
    """Print the picture; of `namespace`, unless it is empty, with all that it has to do with."""
    drawn = drawing(ground(WHAT, where, notes=False), namespace)
    if not drawn.nodes:
        tell("no pods")
    match output:
        case GraphForm.MERMAID:
            print(mermaid(drawn))
        case GraphForm.DOT:
            print(dot(drawn))
        case GraphForm.SVG:
            print(svg(drawn))
    if any(node.namespace and not node.ingress for node in drawn.nodes):
        tell("dashed: no policy says who may speak to it, so everyone may; such edges are left out")
    if any(not drawn.nodes[edge.source].namespace for edge in drawn.edges):
        tell("an edge from the world is one from everyone who may send at all")
