"""`tabard bus status`, `check` and `repair`."""

from typing import Annotated

import typer

from tabard.cli.options import Cluster, Form, Nats, StreamName
from tabard.cli.printing import Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Monitoring = Annotated[
    str,
    typer.Option(
        metavar="URL,…",
        help="Where each server is monitored; else TABARD_BUS_MONITORING, or the cluster's own.",
    ),
]
Streams = Annotated[
    list[StreamName] | None,
    typer.Option("--stream", case_sensitive=False, help="Only this stream. Repeatable."),
]


@app.callback()
def main() -> None:
    """Look after the bus: its servers, and what each of them stores.

    Example: tabard bus status
    """


@app.command("status")
def bus_status(
    output: Form = Output.TABLE, monitoring: Monitoring = "", cluster: Cluster = "", nats: Nats = ""
) -> None:
    """Show every server's replica of every stream, by its own counts.

    Holes are messages that it must have and has not; behind, how many it has yet to get. Exits 1
    if a server gives no answer or a replica is not as it must be. A message whose checksum is wrong
    may still be counted: `bus check` reads them. JSON: {servers: [{name, url, failure}],
    replicas: [{server, stream, account, role, first, last, messages, bytes, holes, behind,
    faults}]}.

    Example: tabard bus status -o wide
    """
    from tabard.cli import bus

    bus.show_status(output, monitoring, cluster, nats)


@app.command("check")
def bus_check(
    stream: Streams = None,
    output: Form = Output.TABLE,
    monitoring: Monitoring = "",
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Read every replica, and hold it against the others.

    Also against order and, of LEDGER, the chain hash. LEDGER and OBSERVED are read, unless one is
    named. It makes a consumer at each server for the time of reading. What a server still has in
    memory it does not read from its disk. A guarded bus wants an admin's key. Exits and JSON as
    `bus status`.

    Example: tabard bus check --stream LEDGER
    """
    from tabard.bus.port import UNBROKEN, Stream
    from tabard.cli import bus
    from tabard.cli.options import usage

    chosen = [Stream(each.value) for each in stream or ()]
    if others := [each for each in chosen if each not in UNBROKEN]:
        usage(f"messages of {others[0]} come and go: there is no order to hold them against")
    bus.check_replicas(chosen or UNBROKEN, output, monitoring, cluster, nats)


@app.command("repair")
def bus_repair(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="As `bus status` names it.")],
    stream: Streams = None,
    monitoring: Monitoring = "",
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Make a server's damaged replicas anew from the others.

    Those of a cluster of `tabard up` on this machine; of another's it prints what to type there.
    Refused unless a majority of the replicas is whole without it. The server is stopped meanwhile,
    and what it held is moved aside, not removed.

    Example: tabard bus repair nats.2
    """
    from tabard.bus.port import Stream
    from tabard.cli import bus

    bus.repair_server(
        server, [Stream(each.value) for each in stream or ()], monitoring, cluster, nats
    )
