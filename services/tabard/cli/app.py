"""Commands and their options. What they do is imported only when one runs."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tabard.cli import advice, credentials
from tabard.cli.commands import (
    auth,
    bus,
    changing,
    chaos,
    events,
    keeping,
    observing,
    policy,
    reading,
    running,
)

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
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 time-out, 4 denied, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    nkey: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="NKey seed to come to the bus with; else TABARD_NATS_NKEY."
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificates that vouch for the bus; else TABARD_NATS_CA."
        ),
    ] = None,
) -> None:
    """Tabard: identity-based network security for pods, from events on a bus.

    Example: tabard up -f compose/shop --nodes 3
    """
    advice.forget()
    for option, file in (("--nkey", nkey), ("--ca", ca)):
        if file is not None:
            advice.keep_first(option, str(file))
    credentials.given.set(credentials.Credentials(nkey, ca))


for command in (
    running.up,
    running.demo,
    running.down,
    changing.apply,
    changing.delete,
    changing.scale,
    changing.label,
    reading.get,
    reading.describe,
    reading.explain,
    reading.status,
    reading.wait,
    reading.drift,
    observing.metrics,
    observing.doctor,
):
    app.command()(command)
app.add_typer(events.app, name="events")
app.add_typer(policy.app, name="policy")
app.add_typer(bus.app, name="bus")
app.add_typer(keeping.snapshots, name="snapshots")
app.add_typer(keeping.ledger, name="ledger")
app.add_typer(auth.app, name="auth")
app.add_typer(chaos.app, name="chaos")
