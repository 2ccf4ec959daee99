"""`tabard auth init`, `add`, `list`, `revoke`, `roles` and `rotate`."""

from typing import Annotated

import typer

from tabard.cli.options import Cluster, Form
from tabard.cli.printing import Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Place = Annotated[
    str,
    typer.Option(
        "--dir", metavar="DIR", help="The auth directory; else that of the cluster that runs here."
    ),
]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        metavar="NAME=HOST,…",
        help="A nats-server, and the addresses and names by which it is reached. Repeatable.",
    ),
]
Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NAME,…", help="Nodes, each with a key. Repeatable."),
]


@app.callback()
def main() -> None:
    """Make and change keys and certificates of a guarded bus.

    They live in a directory whose files only its owner can read. `tabard up --secure` has its own
    in its data directory.

    Example: tabard auth list
    """


@app.command("init")
def auth_init(
    directory: Annotated[str, typer.Argument(metavar="DIR")],
    server: Servers = None,
    node: Nodes = None,
) -> None:
    """Make an auth directory, with keys and certificates.

    It holds a key for each role and node, and a certificate for each server.
    DIR/accounts.conf is for nats-server to include, DIR/servers/NAME.pem and .key are its
    certificate, DIR/ca.pem vouches for them all, and DIR/keys/HOLDER.seed is each process's own
    secret, named to it by TABARD_NATS_NKEY.

    Example: tabard auth init auth --server nats-1=10.0.0.1,bus.example --node n1,n2
    """
    from tabard.cli import auth

    auth.init(directory, server or [], node or [])


@app.command("add")
def auth_add(
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="node, server, or a role of `tabard auth roles`.")
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the node; NAME=HOST,… of a server.")
    ] = "",
    place: Place = "",
    cluster: Cluster = "",
) -> None:
    """Give a node, a role or a server what it needs.

    The servers are told. A holder of a role that has one already is told apart by NAME.

    Example: tabard auth add node n3
    """
    from tabard.cli import auth

    auth.add(role, name, place, cluster)


@app.command("list")
def auth_list(form: Form = Output.TABLE, place: Place = "", cluster: Cluster = "") -> None:
    """Show who has a key, and until when servers' certificates are good. No secrets.

    Exits 1 if a file cannot be used. `tabard explain auth list` says what each key of JSON means.

    Example: tabard auth list -o json
    """
    from tabard.cli import auth

    auth.listed(form, place, cluster)


@app.command("revoke")
def auth_revoke(
    holder: Annotated[str, typer.Argument(metavar="HOLDER", help="As `tabard auth list` has it.")],
    place: Place = "",
    cluster: Cluster = "",
) -> None:
    """Take a holder's key away; the servers disconnect it.

    Example: tabard auth revoke agent.n3
    """
    from tabard.cli import auth

    auth.revoke(holder, place, cluster)


@app.command("roles")
def auth_roles(form: Form = Output.TABLE) -> None:
    """Show what each role may write, ask and hear on the bus.

    `tabard explain auth roles` says what each key of JSON means.

    Example: tabard auth roles -o wide
    """
    from tabard.cli import auth

    auth.roles(form)


@app.command("rotate")
def auth_rotate(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WHAT…]", help="Holders, roles, tls, or all; else all."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="The second step: what was there before is void.")
    ] = False,
    place: Place = "",
    cluster: Cluster = "",
) -> None:
    """Replace keys and certificates, in two steps.

    After the first, servers take the old and the new: give the new ones (DIR/next, DIR/ca.pem) to
    those who are elsewhere. After --finish they take the new alone; whoever came with an old key is
    disconnected and comes again with what its file holds then.

    Example: tabard auth rotate tls agent --finish
    """
    from tabard.cli import auth

    auth.rotate(what or ["all"], finish, place, cluster)
