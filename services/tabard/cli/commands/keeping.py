"""`tabard snapshots list`, `take` and `verify`; `tabard ledger trim`."""

from pathlib import Path
from typing import Annotated

import typer

from tabard.cli.options import Cluster, Form, Nats, Timeout, usage
from tabard.cli.printing import Output

snapshots = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
ledger = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@snapshots.callback()
def snapshots_main() -> None:
    """Look after snapshots of the ledger's state.

    Who starts from nothing begins at one. An allocator that follows takes them by itself.

    Example: tabard snapshots list
    """


@snapshots.command("list")
def snapshots_list(output: Form = Output.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Show the snapshots that the bus keeps, newest first.

    Example: tabard snapshots list -o wide
    """
    from tabard.cli import snapshots

    snapshots.listing(output, cluster, nats)


@snapshots.command("take")
def snapshots_take(output: Form = Output.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Take a snapshot of the ledger's end now; the oldest makes room.

    Example: tabard snapshots take
    """
    from tabard.cli import snapshots

    snapshots.take(output, cluster, nats)


@snapshots.command("verify")
def snapshots_verify(output: Form = Output.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Fold the ledger and hold each snapshot against it.

    Exits 1 if one would be refused, or is not what the ledger comes to there.

    Example: tabard snapshots verify
    """
    from tabard.cli import snapshots

    snapshots.verify(output, cluster, nats)


@ledger.callback()
def ledger_main() -> None:
    """Look after the ledger.

    Example: tabard ledger trim --keep-days 90 --archive /var/backups/tabard
    """


@ledger.command("trim")
def ledger_trim(
    archive: Annotated[
        Path,
        typer.Option(
            file_okay=False, metavar="DIR", help="Where the file of what is removed is written."
        ),
    ],
    before: Annotated[
        int | None,
        typer.Option(min=2, metavar="SEQ", help="Keep this event and all after it."),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="DAYS", help="Keep what was stored in so many days."),
    ] = None,
    timeout: Timeout = 30.0,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Remove the ledger's oldest events; it then begins at a snapshot.

    Never ahead of another one that was verified, of a live node, or of the file: it is written
    and read back first. `--nats file:FILE` reads it with all commands. Snapshots from before go
    too. Exits 0 if there is nothing to remove.

    Example: tabard ledger trim --keep-days 90 --archive /var/backups/tabard
    """
    from tabard.cli import trimming

    if (before is None) == (keep_days is None):
        usage("ledger trim needs either --before or --keep-days")
    trimming.trim(before, keep_days, archive, timeout, output, cluster, nats)
