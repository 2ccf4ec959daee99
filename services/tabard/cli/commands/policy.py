"""`tabard policy`: what policies say of flows, and what their authors use."""

from typing import TYPE_CHECKING, Annotated

import typer

from tabard.cli import completion
from tabard.cli.kinds import By, FailOn, GraphForm, LintForm, TrimForm
from tabard.cli.moments import At
from tabard.cli.options import (
    Cluster,
    Files,
    Follow,
    Form,
    Moment,
    Nats,
    Paths,
    WatchTimeout,
    check_watch,
    usage,
)
from tabard.cli.printing import Output

if TYPE_CHECKING:
    from tabard.cli.questions import Question
    from tabard.cli.where import Where

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_SIDE = "A file or directory, `cluster`, or a point of its history: SEQ, TIME, -5m."
_END = "Pod or workload NS/NAME, workload NS/KIND/NAME, or address."
Source = Annotated[
    str, typer.Option("--from", metavar="END", help=_END, autocompletion=completion.pods)
]
Destination = Annotated[
    str, typer.Option("--to", metavar="END", help=_END, autocompletion=completion.pods)
]


@app.callback()
def main() -> None:
    """Ask what policies say, check them, compare them, draw them.

    Of a running cluster, of its past (--at), or of manifests alone.

    Example: tabard policy check -f compose/shop --from shop/cart --to data/postgres
    """


@app.command("check")
def policy_check(
    source: Source,
    destination: Destination,
    ports: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            metavar="PORT",
            help="80, 53/UDP, http, ICMP; any if left out. Repeatable.",
        ),
    ] = None,
    at: Moment = None,
    files: Files = None,
    watch: Follow = False,
    timeout: WatchTimeout = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Say whether a flow may pass, and by which rule.

    Of a cluster also which events of the ledger led there; with -f of manifests alone, where each
    workload stands as one pod. -w prints it again whenever it changes, after the event that changed
    it. Each address family that both ends have is judged, and told apart if verdicts differ.

    Exits 4 if it is denied; of several ports or address families, if one is; with -w, if it was
    last.

    JSON: {sequence, allowed, from, to, checks, connections, events}, with -w one a line, whose
    sequence is the event's; `tabard explain check` says what each key means.

    Example: tabard policy check --from shop/frontend --to data/redis --port 6379
    """
    from tabard.cli.check import check

    where = _where(files, at, watch, timeout, cluster, nats)
    check(_question(source, destination, ports or []), where, watch, timeout, output)


@app.command("explain")
def policy_explain(
    source: Source,
    destination: Destination,
    ports: Annotated[
        list[str],
        typer.Option("--port", metavar="PORT", help="80, 53/UDP, http, ICMP. Repeatable."),
    ],
    at: Moment = None,
    files: Files = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show each rule considered for a flow: which matched, and why not.

    Rules are listed in the order in which they are judged: tier admin, network (denials first),
    baseline. A rule decides, passes the flow on to the next tier, matches too late to matter, or
    misses; then it is said what it asks for, and what it met.

    Exits 4 if the flow is denied, as `policy check` does. JSON: as of `policy check`, each half
    with what was considered; `tabard explain policy explain` says what each key means.

    Example: tabard policy explain --from shop/frontend --to data/redis --port 6379
    """
    from tabard.cli.check import check

    where = _where(files, at, False, None, cluster, nats)
    check(_question(source, destination, ports, whole=True), where, False, None, output)


@app.command("matrix")
def policy_matrix(
    namespace: Annotated[
        str,
        typer.Option(
            "-n",
            "--namespace",
            metavar="NS",
            help="Pairs with one end there, at least.",
            autocompletion=completion.namespaces,
        ),
    ] = "",
    selector: Annotated[
        str,
        typer.Option(
            "-l", "--selector", metavar="SELECTOR", help="Pairs with one end of these labels."
        ),
    ] = "",
    by: Annotated[
        By, typer.Option("--by", help="What a row and a column stand for.")
    ] = By.WORKLOAD,
    ports: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            metavar="PORT",
            help="Only these: 80, 53/UDP, http, ICMP. Repeatable.",
        ),
    ] = None,
    outside: Annotated[
        list[str] | None,
        typer.Option("--outside", metavar="ADDRESS", help="Beside the pods. Repeatable."),
    ] = None,
    at: Moment = None,
    files: Files = None,
    watch: Follow = False,
    timeout: WatchTimeout = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show who may speak to whom, on which ports.

    Rows speak and columns listen; a port is TCP unless it says otherwise; ~ is before what only
    some pods may, or on some of their addresses only. -o wide, json and yaml list the pairs with
    the rules that allow each. With -f of manifests alone, where each workload stands as one pod.

    -w lists the pairs, then each whose connections change. JSON: {sequence, by, parties, items}, an
    item being {from, to, connections, some, rules}; with -w one {sequence, event, item} a line.
    `tabard explain matrix` says what each key means.

    Example: tabard policy matrix -n shop --outside 203.0.113.9
    """
    from tabard.cli import naming
    from tabard.cli.matrix import matrix
    from tabard.cli.selector import SelectorError, parse

    where = _where(files, at, watch, timeout, cluster, nats)
    try:
        wanted = [naming.port(text) for text in ports or []]
        addresses = [naming.outside(text) for text in outside or []]
        chosen = parse(selector)
    except (naming.NamingError, SelectorError) as error:
        usage(str(error))
    matrix(namespace, chosen, by, wanted, addresses, where, watch, timeout, output)


@app.command("lint")
def policy_lint(
    paths: Paths = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="From which severity on to exit 1.")
    ] = FailOn.WARNING,
    rules: Annotated[
        bool, typer.Option("--rules", help="Show every rule that there is, and do nothing else.")
    ] = False,
    at: Moment = None,
    output: Annotated[
        LintForm, typer.Option("-o", "--output", help="Form of the output.")
    ] = LintForm.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Find what is probably not meant in policies, and where it stands.

    Of manifests, with the workloads that they are for; without a path of the cluster, now or as of
    --at. What apply would refuse is an error, and the rest is looked at all the same. To say that a
    finding is meant, annotate the object: tabard.io/lint-ignore: TB302,TB303.

    Exits 1 if something is found that is as bad as --fail-on, or worse.

    JSON: {sequence, findings, meant}; `tabard explain lint` says what each key means.

    Example: tabard policy lint compose/shop --fail-on info
    """
    from tabard.cli import lint

    if rules:
        lint.show_rules()
        return
    lint.run(_where(paths, at, False, None, cluster, nats), fail_on, output)


# A moment such as -1h begins as an option does.
@app.command("diff", context_settings={"ignore_unknown_options": True})
def policy_diff(
    before: Annotated[str, typer.Argument(metavar="A", help=_SIDE, autocompletion=completion.side)],
    after: Annotated[str, typer.Argument(metavar="B", help=_SIDE, autocompletion=completion.side)],
    workloads: Annotated[
        str,
        typer.Option(
            "--workloads",
            metavar="SIDE",
            help="Whose workloads are meant on both; else each side's own, or the other's.",
            autocompletion=completion.side,
        ),
    ] = "",
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show which flows become allowed or denied, and by which rule.

    It compares what policies mean, between each two workloads, nodes and each part of the world
    that a CIDR tells apart. Each side is all the policies there are: a folder is compared as if
    nothing else were in force. Workloads that one side alone has are named, and not compared.

    Exits 1 if a verdict differs, and 2 if a side cannot be read.

    JSON: {before, after, compared, changes, only}; `tabard explain diff` says what each key means.

    Example: tabard policy diff cluster compose/shop
    """
    from tabard.cli import sides
    from tabard.cli.differ import diff

    try:
        one, other = (sides.place(text, cluster, nats) for text in (before, after))
        meant = sides.place(workloads, cluster, nats) if workloads else None
        diff(one, other, meant, output)
    except sides.SideError as error:
        usage(str(error))


@app.command("graph")
def policy_graph(
    paths: Paths = None,
    namespace: Annotated[
        str,
        typer.Option(
            "-n",
            "--namespace",
            metavar="NS",
            help="Edges with one end there, at least.",
            autocompletion=completion.namespaces,
        ),
    ] = "",
    at: Moment = None,
    output: Annotated[
        GraphForm, typer.Option("-o", "--output", help="Form of the output.")
    ] = GraphForm.MERMAID,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Draw who may speak to whom, by workload and port.

    Of manifests; without a path of the cluster, now or as of --at. Workloads are grouped by
    namespace; one that no policy isolates is dashed, since everyone may speak to it. What goes
    without saying is left out: edges between two that no policy holds, and what a workload may
    send as everyone in the world may.

    Example: tabard policy graph compose/shop -o svg
    """
    from tabard.cli.graph import graph

    graph(_where(paths, at, False, None, cluster, nats), namespace, output)


@app.command("trim")
def policy_trim(
    paths: Paths = None,
    any_workload: Annotated[
        bool,
        typer.Option(
            "--any-workload",
            help="Remove only what another part says by its words, whatever workloads there are.",
        ),
    ] = False,
    unmatched: Annotated[
        bool,
        typer.Option("--unmatched", help="Remove also what selects or names nobody now."),
    ] = False,
    write: Annotated[
        str,
        typer.Option(
            "--write", metavar="DIR", help="A file for each object there, none to stdout."
        ),
    ] = "",
    at: Moment = None,
    output: Annotated[
        TrimForm, typer.Option("-o", "--output", help="Form of the output.")
    ] = TrimForm.MANIFESTS,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Print a smaller set of policies that means the same.

    Policies, rules, peers and ports go that change no verdict: for the workloads in the manifests
    (or of the cluster, now or as of --at), a pod without labels in each of their namespaces, nodes
    and the world, on every port and whatever addresses pods have. What selects or names nobody now
    is kept, unless --unmatched. The engine then holds both sets against each other.

    JSON: {sequence, equivalence, pairs, removed, policies}; `tabard explain trim` says what each
    key means.

    Example: tabard policy trim compose/shop -o table
    """
    from tabard.cli.trim import trim

    where = _where(paths, at, False, None, cluster, nats)
    trim(where, any_workload, unmatched, write, output)


def _question(
    source: str, destination: str, ports: list[str], *, whole: bool = False
) -> "Question":
    from tabard.cli import naming
    from tabard.cli.questions import Question

    try:
        ends = naming.place(source), naming.place(destination)
        wanted = [naming.port(text) for text in ports]
    except naming.NamingError as error:
        usage(str(error))
    return Question(*ends, wanted, whole=whole)


def _where(
    files: list[str] | None,
    at: At | None,
    watch: bool,
    timeout: float | None,
    cluster: str,
    nats: str,
) -> "Where":
    from tabard.cli.where import Where

    check_watch(watch, timeout, at is not None)
    if files and watch:
        usage("-w follows a cluster's ledger; manifests are read once")
    if files and at is not None:
        usage("--at is a point of the ledger's history; manifests have none")
    return Where(files or (), at, cluster, nats)
