"""`tabard get`, `describe`, `explain`, `status`, `wait` and `drift`."""

from typing import TYPE_CHECKING, Annotated

import typer

from tabard.cli import completion, kinds
from tabard.cli.options import (
    Cluster,
    Follow,
    Form,
    Moment,
    Namespace,
    Nats,
    NodeSelector,
    Timeout,
    WatchTimeout,
    check_watch,
    usage,
)
from tabard.cli.printing import Output

if TYPE_CHECKING:
    from tabard.cli.selector import LabelSelector

_STREAMS_ARE_NOW = (
    "a stream is shown as it is now: the bus does not keep what it held; tabard events tail --at "
    "shows its messages from then on"
)


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
    at: Moment = None,
    watch: Follow = False,
    timeout: WatchTimeout = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show what the ledger says, or said: pods, identities, nodes…

    JSON: {sequence, stored_at, items}; with -w one {sequence, event, item} a line. `tabard explain
    KIND` says what each key means. With --at nodes have no watermarks and pods are never Enforced:
    the bus keeps each node's last word alone. Streams are shown as they are now.

    Example: tabard get pods -n shop -l app=web -o wide --at -5m
    """
    from tabard.cli.get import get as show

    chosen_kind = _kind(kind)
    if namespace and all_namespaces:
        usage("-n and -A exclude each other")
    if namespace and chosen_kind in kinds.WITHOUT_NAMESPACE:
        usage(f"{chosen_kind} are in no namespace; leave -n out")
    if chosen_kind == "streams":
        if at is not None:
            usage(_STREAMS_ARE_NOW)
        if watch:
            usage("a stream changes with each message; tabard events tail --stream NAME follows it")
        if selector:
            usage("streams have no labels; leave -l out")
    check_watch(watch, timeout, at is not None)
    show(chosen_kind, namespace, _selector(selector), at, watch, timeout, output, cluster, nats)


def describe(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"One of {kinds.listed(kinds.SHOWN)}; or KIND/NAME in one word.",
            autocompletion=completion.shown_kinds,
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="As `get` has it; NS/NAME, or after -n NAME; of a workload KIND/NAME too.",
            autocompletion=completion.described,
        ),
    ] = "",
    namespace: Namespace = "",
    at: Moment = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show all about one object, and the ledger events behind it.

    Of a pod: its identity, the policies that select it, whether they isolate it, its node. Of an
    identity: its pods, the policies that select or name it. Of a policy: its rules, the pods that
    it selects, the document. What is gone is shown with --at. Wide: nothing is cut or left out.
    `tabard explain KIND` says what each key of the JSON means.

    Example: tabard describe pod shop/web-0
    """
    from tabard.cli.describe import describe as show

    if not name:
        kind, _, name = kind.partition("/")
    chosen_kind = _kind(kind)
    if not name:
        usage(f"describe needs the name of a {kinds.SHOWN[chosen_kind][0]}")
    if namespace and chosen_kind not in ("pods", "policies", "workloads"):
        usage(f"{chosen_kind} are not named by a namespace; leave -n out")
    if chosen_kind == "streams" and at is not None:
        usage(_STREAMS_ARE_NOW)
    show(chosen_kind, name, namespace, at, output, cluster, nats)


def explain(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND|COMMAND]",
            help="As pods, status or events; else all.",
            autocompletion=completion.explained,
        ),
    ] = None,
    output: Form = Output.TABLE,
) -> None:
    """Say what each key of a command's JSON and YAML means.

    The keys are stable: none goes or changes its meaning without a word in the changelog. Name:
    only the commands that are explained.

    Example: tabard explain pods
    """
    from tabard.cli.explain import explain as show
    from tabard.cli.explain import found

    chosen = found(" ".join(what or []))
    if not chosen:
        usage(f"no command that prints JSON is called so; all: {'; '.join(found(''))}")
    show(chosen, output)


def status(
    selector: NodeSelector = "",
    at: Moment = None,
    watch: Follow = False,
    timeout: WatchTimeout = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show how far ledger, allocator and each node are.

    LAG counts the events that a node does not enforce yet, LAG-MS the milliseconds since the first
    of them was stored. With --at both are unknown: the bus keeps each node's last word alone.
    Wide: also the services' URLs, and of each node its map writes, its addresses, and when it spoke
    last. Name: the nodes. `tabard explain status` says what each key of the JSON means.

    Example: tabard status -w
    """
    from tabard.cli.status import show_status

    check_watch(watch, timeout, at is not None)
    show_status(_selector(selector), at, watch, timeout, output, cluster, nats)


def wait(
    sequence: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="LEDGER sequence; else all published.")
    ] = None,
    all_nodes: Annotated[
        bool, typer.Option("--all-nodes", help="Silent nodes too, whose agent may be down.")
    ] = False,
    timeout: Timeout = 30.0,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Wait until every live node enforces what was published.

    A node is live unless its agent said nothing for 15 s; those that are not are named. Exits 3
    if it takes too long, naming the nodes that are behind. JSON: {sequence, nodes}, a node being
    {name, watermark, live}; `tabard explain wait` says what each key means.

    Example: tabard wait --sequence 881 --all-nodes --timeout 10
    """
    from tabard.cli.wait import wait as wait_for

    wait_for(sequence, all_nodes, timeout, output, cluster, nats)


def drift(
    node: Annotated[
        str, typer.Option(metavar="N", help="Only this node.", autocompletion=completion.nodes)
    ] = "",
    selector: NodeSelector = "",
    at: Moment = None,
    watch: Follow = False,
    timeout: WatchTimeout = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
) -> None:
    """Compare what each node's kernel holds with the ledger.

    Without --at with the ledger at the sequence that the node enforces: what differs is a fault,
    and its agent repairs it. With --at what kernels hold now is compared with what the ledger said
    then: what differs is what has changed in enforcement since. A kernel's own past is not kept,
    and of a pod that has gone since not where it was: its endpoint is wanted at interface 0.

    Wide: a row for each entry, held and wanted. Name: nodes that differ. -w asks a node again when
    its watermark moves or its agent tells of drift, at most once a second. Exits 1 if any entry
    differs, or a node could not be asked. `tabard explain drift` says what each key of the JSON
    means.

    Example: tabard drift -l kubernetes.io/hostname=n1 -o wide --at 03:12
    """
    from tabard.cli.drift import drift as look

    check_watch(watch, timeout, at is not None)
    look(node, _selector(selector), at, watch, timeout, output, cluster)


def _kind(text: str) -> str:
    found = kinds.shown(text)
    if found is None:
        usage(f"there is no kind {text!r}; there are {kinds.listed(kinds.SHOWN)}")
    return found


def _selector(text: str) -> "LabelSelector":
    from tabard.cli.selector import SelectorError, parse

    try:
        return parse(text)
    except SelectorError as error:
        usage(str(error))
