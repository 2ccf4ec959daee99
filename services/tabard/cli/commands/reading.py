"""`tabard get`, `status`, `wait` and `drift`."""

from typing import Annotated

import typer

from tabard.cli import completion, kinds
from tabard.cli.options import Cluster, Form, Namespace, Nats, Timeout, usage
from tabard.cli.printing import Output


def get(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"One of {kinds.listed(kinds.SHOWN)}.",
            autocompletion=completion.shown_kinds,
        ),
    ],
    namespace: Namespace = "",
    all_namespaces: Annotated[
        bool,
        typer.Option("-A", "--all-namespaces", help="All namespaces; so it is without -n."),
    ] = False,
    selector: Annotated[
        str, typer.Option("-l", "--selector", metavar="SELECTOR", help="By labels, as kubectl.")
    ] = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="Form of the output.")] = (
        Output.TABLE
    ),
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show what the ledger says: pods, identities, nodes, policies…

    JSON: {sequence, items}; the ledger's sequence and the objects.

    Example: tabard get pods -n shop -l app=web -o wide
    """
    from tabard.cli.get import get as show
    from tabard.cli.selector import SelectorError, parse

    chosen_kind = kinds.shown(kind)
    if chosen_kind is None:
        usage(f"there is no kind {kind!r}; there are {kinds.listed(kinds.SHOWN)}")
    if namespace and all_namespaces:
        usage("-n and -A exclude each other")
    if namespace and chosen_kind == "nodes":
        usage("nodes are in no namespace; leave -n out")
    try:
        chosen = parse(selector)
    except SelectorError as error:
        usage(str(error))
    show(chosen_kind, namespace, chosen, output, cluster, nats)


def status(output: Form = Output.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Show how far ledger, allocator and each node are.

    Example: tabard status -o json
    """
    from tabard.cli.get import show_status

    show_status(output, cluster, nats)


def wait(
    sequence: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="LEDGER sequence; else all published.")
    ] = None,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Wait until every live node enforces what was published.

    Exits 3 if that takes too long.

    Example: tabard wait --timeout 10
    """
    from tabard.cli.wait import wait as wait_for

    wait_for(sequence, timeout, cluster, nats)


def drift(
    node: Annotated[
        str, typer.Option(metavar="N", help="Only this node.", autocompletion=completion.nodes)
    ] = "",
    output: Form = Output.TABLE,
    cluster: Cluster = "",
) -> None:
    """Compare each node's kernel with the ledger.

    Exits 1 if any entry differs.

    Example: tabard drift --node n1
    """
    from tabard.cli.drift import drift as look

    look(node, output, cluster)
