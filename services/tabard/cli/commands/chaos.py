"""`tabard chaos`: failure rehearsed, on a simulated cluster and on a real one."""

import typer

from tabard.cli.options import Form
from tabard.cli.printing import Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Rehearse failure: what must hold is judged while things break.

    A real cluster is started for it and removed again; yours are left alone.

    Example: tabard chaos list
    """


@app.command("list")
def chaos_list(output: Form = Output.TABLE) -> None:
    """Show the scenarios that `chaos run` knows, a line each.

    JSON: {items: [{name, line, modes, hold_s}]}.

    Example: tabard chaos list -o name
    """
    from tabard.cli import chaos

    chaos.show_scenarios(output)
