"""Commands and their options. What they do is imported only when one runs."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from tabard.cli import advice, kinds
from tabard.identity.syntax import LABEL_VALUE, is_label_key

if TYPE_CHECKING:
    from tabard.cli.change import Until

_NUMBERS = {
    "int_parsing": "whole number",
    "int_from_float": "whole number",
    "float_parsing": "number",
}
"""Errors of the parser (pydantic's types) that do not quote what was given."""


class Commands(TyperGroup):
    """All commands; a wrong value is told as its user sees it, not as the parser does."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            faults: list[Any] = getattr(error.__cause__, "errors", list)()
            if faults and faults[0]["type"] in _NUMBERS:
                error.message = f"{faults[0]['input']!r} is no {_NUMBERS[faults[0]['type']]}"
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    cls=Commands,
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 time-out, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
events_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(events_app, name="events")


class Output(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    NAME = "name"


class Shape(StrEnum):
    TABLE = "table"
    JSON = "json"


class StreamName(StrEnum):
    OBSERVED = "OBSERVED"
    LEDGER = "LEDGER"
    STATUS = "STATUS"
    FLOWS = "FLOWS"


class ModeName(StrEnum):
    OVERLAY = "overlay"
    NATIVE = "native"


class PodsName(StrEnum):
    NETNS = "netns"
    MEMORY = "memory"
    NONE = "none"


class DataplaneName(StrEnum):
    AUTO = "auto"
    EBPF = "ebpf"
    MEMORY = "memory"


def _kept(option: str) -> Callable[[str], str]:
    """For what is suggested to be typed next, remember that `option` chose the cluster."""

    def keep(value: str) -> str:
        if value:
            advice.keep(option, value)
        return value

    return keep


Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Which of this machine's clusters.",
        callback=_kept("--cluster"),
    ),
]
Nats = Annotated[
    str,
    typer.Option(
        "--nats",
        metavar="URL",
        help="Bus of a cluster that runs elsewhere.",
        callback=_kept("--nats"),
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "-f", "--filename", metavar="FILE|DIR", help="Manifests; - for stdin. Repeatable."
    ),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait", help="Return once it is published; else once the allocator has decided."
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Return once every live node enforces what the allocator has decided."
    ),
]
Timeout = Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Longest wait.")]
Namespace = Annotated[
    str, typer.Option("-n", "--namespace", metavar="NS", help="Only this namespace.")
]
Table = Annotated[Shape, typer.Option("-o", "--output", help="Form of the output.")]
Stream = Annotated[StreamName, typer.Option("--stream", case_sensitive=False, help="Which stream.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"tabard {version('tabard')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Tabard: identity-based network security for pods, from events on a bus.

    Example: tabard up -f compose/shop --nodes 3
    """
    advice.forget()


@events_app.callback()
def events_main() -> None:
    """Look at the event streams themselves.

    Example: tabard events tail
    """


@app.command()
def up(
    files: Files = None,
    nodes: Annotated[int, typer.Option(min=1, max=100, help="How many nodes.")] = 3,
    mode: Annotated[
        ModeName, typer.Option(help="How packets carry identities between nodes.")
    ] = ModeName.OVERLAY,
    pods: Annotated[
        PodsName | None,
        typer.Option(help="Real pods in namespaces, pods at the gate only, or events only."),
    ] = None,
    dataplane: Annotated[
        DataplaneName, typer.Option(help="What enforces; auto takes ebpf where it can.")
    ] = DataplaneName.AUTO,
    nats: Annotated[
        str, typer.Option(metavar="URL", help="An existing bus instead of one of its own.")
    ] = "",
    replicas: Annotated[int, typer.Option(help="Stream replicas on an existing bus.")] = 1,
    data: Annotated[
        str, typer.Option(metavar="DIR", help="State directory, kept; else a temporary one.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="RUN", help="The cluster's name; else random.")] = "",
    ready_timeout: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="Longest wait until all is enforced.")
    ] = 60.0,
    settings_given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the parts. Repeatable."),
    ] = None,
) -> None:
    """Run a small cluster on this machine until Ctrl-C.

    Nothing of it is left then, but a directory given by --data.

    Settings for --set. For good, in the ledger from the first start on: LABELS_INCLUDE and
    LABELS_EXCLUDE (JSON lists of regular expressions of label keys), NUMBERS_CLUSTER_ID,
    NUMBERS_CLUSTER_BITS, FIXED (JSON: number in 128-255 to labels), RETIRE_GRACE_MS. Of each
    agent: IDENTITIES_MAX, POLICIES_MAX, NODES_MAX, PREFIXES_MAX, HOSTS_MAX, ENDPOINTS_MAX,
    CONNTRACK_MAX, FRAGMENTS_MAX (entries of its maps), DRIFT_INTERVAL_MS.

    Example: tabard up -f compose/shop --nodes 3
    """
    pairs = [text.partition("=") for text in settings_given or []]
    if bad := [name for name, equals, _ in pairs if not equals]:
        _usage(f"--set {bad[0]}: write NAME=VALUE")
    if replicas not in (1, 3, 5):
        _usage("--replicas must be 1, 3 or 5")
    if replicas > 1 and not nats:
        _usage("--replicas needs --nats: the cluster's own bus is one server")
    from pathlib import Path

    from tabard.cli import failing
    from tabard.cli.up import up as bring_up
    from tabard.cluster.errors import ClusterError
    from tabard.cluster.settings import Settings

    try:
        settings = Settings(
            name=name,
            nodes=nodes,
            mode=mode.value,
            pods=None if pods is None else pods.value,
            dataplane=dataplane.value,
            nats=tuple(url.strip() for url in nats.split(",") if url.strip()),
            replicas=replicas,
            data=Path(data) if data else None,
            ready_timeout_s=ready_timeout,
            extra={name.upper(): value for name, _, value in pairs},
        )
    except ClusterError as error:
        failing.fail("bring the cluster up", failing.Failure(str(error), code=failing.Exit.USAGE))
    bring_up(settings, files or [])


@app.command()
def demo(
    json_file: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write all figures there, as JSON.")
    ] = "",
    dataplane: Annotated[
        DataplaneName, typer.Option(help="What enforces; auto takes ebpf where it can.")
    ] = DataplaneName.AUTO,
) -> None:
    """Run the main job on an example shop: real packets, four trials.

    It takes under a minute. Exit code 0 only if everything held. The figures are `probes`,
    `agree`, `disagree`, `resolve_ms`, `first_packet_ms`, `remote_map_writes_per_start` (by mode),
    `leaked`, `lost`, and the details of each trial.

    Example: tabard demo --json figures.json
    """
    from tabard.cli.demo import demo as run_demo

    run_demo(dataplane.value, json_file)


@app.command()
def down(cluster: Cluster = "") -> None:
    """End the cluster that is named, or clean up after killed ones.

    Without --cluster none that runs is ended: it may be another's.

    Example: tabard down --cluster demo
    """
    from tabard.cli.up import down as take_down

    take_down(cluster)


@app.command()
def apply(
    files: Files = None,
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Publish what manifests say: namespaces, policies, workloads.

    Exits 1 if any is refused. --wait waits for the nodes' watermarks, not for pods to start.

    Example: tabard apply -f compose/shop --wait
    """
    from tabard.cli import change

    if not files:
        _usage("apply needs -f FILE or -f DIR")
    change.apply(files, _until(no_wait, wait), timeout, cluster, nats)


@app.command()
def delete(
    what: Annotated[list[str] | None, typer.Argument(metavar="[pod NS/NAME…]")] = None,
    files: Files = None,
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Take away what manifests declare, or stop pods.

    A workload's pod is replaced. Exits 1 if nothing of what manifests declare is there.

    Example: tabard delete pod shop/web-0
    """
    from tabard.cli import change

    until = _until(no_wait, wait)
    if bool(files) == bool(what):
        _usage("delete needs either -f FILE or pod NS/NAME")
    if files:
        change.delete_objects(files, until, timeout, cluster, nats)
        return
    kind, *names = what or [""]
    if kind not in ("pod", "pods") or not names:
        _usage("delete takes pod NS/NAME; everything else by -f")
    for name in names:
        _place(name)
    change.delete_pods(names, until, timeout, cluster, nats)


@app.command()
def scale(
    workload: Annotated[str, typer.Argument(metavar="KIND/NAME")],
    replicas: Annotated[int, typer.Option(min=0, help="How many pods it should have.")],
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", metavar="NS", help="The workload's namespace.")
    ] = "default",
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Change how many pods a workload has.

    KIND is deployment (deploy), replicaset (rs) or statefulset (sts). --wait waits for the nodes'
    watermarks, not for the pods, which start afterwards: tabard get workloads shows how many run.

    Example: tabard scale deployment/frontend -n shop --replicas 20
    """
    from tabard.cli import change

    kind, separator, name = workload.partition("/")
    if not (kind and separator and name):
        _usage(f"{workload!r} is not KIND/NAME, such as deployment/frontend")
    change.scale((kind, namespace, name), replicas, _until(no_wait, wait), timeout, cluster, nats)


@app.command()
def label(
    kind: Annotated[str, typer.Argument(metavar="pod")],
    name: Annotated[str, typer.Argument(metavar="NS/NAME")],
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-…")],
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Change a running pod's labels, and so its identity.

    KEY- removes one.

    Example: tabard label pod shop/web-0 role=admin tier-
    """
    from tabard.cli import change

    if kind not in ("pod", "pods"):
        _usage(f"only a pod can be labelled, not {kind!r}; other objects by apply -f")
    _place(name)
    change.label(
        name,
        [_label_change(text) for text in labels],
        _until(no_wait, wait),
        timeout,
        cluster,
        nats,
    )


@app.command()
def get(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=f"One of {kinds.listed(kinds.SHOWN)}."),
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
    from tabard.cli import printing
    from tabard.cli.get import get as show
    from tabard.cli.selector import SelectorError, parse

    chosen_kind = kinds.shown(kind)
    if chosen_kind is None:
        _usage(f"there is no kind {kind!r}; there are {kinds.listed(kinds.SHOWN)}")
    if namespace and all_namespaces:
        _usage("-n and -A exclude each other")
    if namespace and chosen_kind == "nodes":
        _usage("nodes are in no namespace; leave -n out")
    try:
        chosen = parse(selector)
    except SelectorError as error:
        _usage(str(error))
    show(chosen_kind, namespace, chosen, printing.Output(output.value), cluster, nats)


@app.command()
def status(output: Table = Shape.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Show how far ledger, allocator and each node are.

    Example: tabard status -o json
    """
    from tabard.cli import printing
    from tabard.cli.get import show_status

    show_status(printing.Output(output.value), cluster, nats)


@app.command()
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


@app.command()
def drift(
    node: Annotated[str, typer.Option(metavar="N", help="Only this node.")] = "",
    output: Table = Shape.TABLE,
    cluster: Cluster = "",
) -> None:
    """Compare each node's kernel with the ledger.

    Exits 1 if any entry differs.

    Example: tabard drift --node n1
    """
    from tabard.cli import printing
    from tabard.cli.drift import drift as look

    look(node, printing.Output(output.value), cluster)


@events_app.command("tail")
def events_tail(
    stream: Stream = StreamName.LEDGER,
    start: Annotated[
        int | None,
        typer.Option("--from", min=1, metavar="SEQ", help="First event; else the last 20."),
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End at the head.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Of FLOWS: those of link-local and multicast addresses too."),
    ] = False,
    output: Table = Shape.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show events as they come; of FLOWS, a flow a line.

    JSON: one event a line.

    Example: tabard events tail --stream OBSERVED --from 1
    """
    from tabard.bus.port import Stream as Chosen
    from tabard.cli import events, printing

    events.tail(
        Chosen(stream.value),
        start,
        not no_follow,
        everything,
        printing.Output(output.value),
        cluster,
        nats,
    )


@events_app.command("show")
def events_show(
    sequence: Annotated[int, typer.Argument(min=1, metavar="SEQ")],
    stream: Stream = StreamName.LEDGER,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show one event as JSON.

    Of an unreadable one: why, its first bytes, and how to go on.

    Example: tabard events show 17 --stream LEDGER
    """
    from tabard.bus.port import Stream as Chosen
    from tabard.cli import events

    events.show(sequence, Chosen(stream.value), cluster, nats)


@events_app.command("quarantine")
def events_quarantine(
    sequence: Annotated[int, typer.Argument(min=1, metavar="SEQ")],
    stream: Annotated[
        StreamName, typer.Option("--stream", case_sensitive=False, help="Which stream.")
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the ledger.")],
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Let readers go on past an event that they cannot read.

    One that can be read is refused.

    Example: tabard events quarantine 17 --stream LEDGER --reason "flipped bit on disk"
    """
    from tabard.bus.port import Stream as Chosen
    from tabard.cli import events

    if not reason.strip():
        _usage("--reason must say why")
    events.quarantine(sequence, Chosen(stream.value), reason, cluster, nats)


@events_app.command("verify")
def events_verify(output: Table = Shape.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Replay the whole ledger: no hole, no changed event?

    Exits 1 naming the first bad one.

    Example: tabard events verify
    """
    from tabard.cli import events, printing

    events.verify(printing.Output(output.value), cluster, nats)


def _usage(message: str) -> NoReturn:
    raise typer.BadParameter(message)


def _until(no_wait: bool, wait: bool) -> "Until":
    from tabard.cli.change import Until

    if no_wait and wait:
        _usage("--no-wait and --wait exclude each other")
    return Until.PUBLISHED if no_wait else Until.ENFORCED if wait else Until.TAKEN


def _place(name: str) -> None:
    namespace, separator, pod = name.partition("/")
    if not (namespace and separator and pod) or "/" in pod:
        _usage(f"{name!r} is not NS/NAME, such as shop/web-0")


def _label_change(text: str) -> tuple[str, str | None]:
    """`key=value` as (key, value), `key-` as (key, None)."""
    key, equals, value = text.partition("=")
    if not equals:
        key, minus = text[:-1], text[-1:]
        if minus != "-":
            _usage(f"{text!r} is neither KEY=VALUE nor KEY-")
    if not is_label_key(key):
        _usage(f"{key!r} is no label's key, such as role or example.com/role")
    if not LABEL_VALUE.fullmatch(value):
        _usage(
            f"{text!r}: a value has up to 63 letters, digits, '-', '_' and '.', and begins and "
            "ends with a letter or digit"
        )
    return key, value if equals else None
