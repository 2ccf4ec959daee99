"""`tabard events tail`, `show`, `quarantine` and `verify`."""

from typing import Annotated

import typer

from tabard.cli.moments import At
from tabard.cli.options import (
    Cluster,
    Form,
    Nats,
    Stream,
    StreamName,
    moment,
    usage,
)
from tabard.cli.printing import Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Look at the event streams themselves.

    Example: tabard events tail
    """


@app.command("tail")
def events_tail(
    stream: Stream = StreamName.LEDGER,
    start: Annotated[
        At | None,
        typer.Option(
            "--at",
            "--from",
            parser=moment,
            metavar="SEQ|TIME|-5m",
            help="Begin there: a sequence, a time (UTC), or so long ago; else the last 20.",
        ),
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End at the head.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Of FLOWS: those of link-local and multicast addresses too."),
    ] = False,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show events as they come; of FLOWS, a flow a line.

    JSON: one event a line; YAML: one a document. `tabard explain events` says what each key means.
    Wide: data is not cut, and no flow left out. It ends with Ctrl-C, or --no-follow.

    Example: tabard events tail --stream OBSERVED --at -10m
    """
    from tabard.bus.port import Stream as Chosen
    from tabard.cli import events

    events.tail(
        Chosen(stream.value),
        start,
        not no_follow,
        everything,
        output,
        cluster,
        nats,
    )


@app.command("show")
def events_show(
    sequence: Annotated[int | None, typer.Argument(min=1, metavar="[SEQ]")] = None,
    at: Annotated[
        At | None,
        typer.Option(
            "--at",
            parser=moment,
            metavar="SEQ|TIME|-5m",
            help="Instead: the last one stored by a time (UTC), or so long ago.",
        ),
    ] = None,
    stream: Stream = StreamName.LEDGER,
    output: Form = Output.JSON,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Show one event: JSON, if no other form is asked for.

    Table: a key a line, with what the event says in short; wide: in full.

    Of an unreadable one: why, its first bytes, and how to go on.

    Example: tabard events show 17 --stream LEDGER
    """
    from tabard.bus.port import Stream as Chosen
    from tabard.cli import events

    if (sequence is None) == (at is None):
        usage("events show needs either a sequence or --at")
    events.show(at or At(sequence), Chosen(stream.value), output, cluster, nats)


@app.command("quarantine")
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
        usage("--reason must say why")
    events.quarantine(sequence, Chosen(stream.value), reason, cluster, nats)


@app.command("verify")
def events_verify(output: Form = Output.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Replay the whole ledger: no hole, no changed event?

    Exits 1 naming the first bad one. Table and wide tell it in a line on stderr; name is the head,
    LEDGER/N. `tabard explain verify` says what each key of the JSON means.

    Example: tabard events verify
    """
    from tabard.cli import events

    events.verify(output, cluster, nats)
