"""`tabard chaos`: failure rehearsed, on a simulated cluster and on a real one."""

from typing import Annotated

import typer

from tabard.cli import completion
from tabard.cli.options import FiguresName, Form, ModeName, fault, usage
from tabard.cli.printing import Output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Rehearse failure: what must hold is judged while things break.

    `simulate` rehearses thousands of histories on a simulated cluster, in this process and
    without root. `run` starts a real cluster, breaks it and removes it again; yours are left alone.

    Example: tabard chaos list
    """


@app.command("list")
def chaos_list(output: Form = Output.TABLE) -> None:
    """Show the scenarios that `chaos run` knows, a line each.

    JSON: {items: [{name, line, modes, hold_s, needs}]}.

    Example: tabard chaos list -o name
    """
    from tabard.cli import chaos

    chaos.show_scenarios(output)


@app.command("run")
def chaos_run(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO|all",
            help="As `chaos list` names it.",
            autocompletion=completion.scenarios,
        ),
    ],
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="What all chance is drawn from; else one that is told."
        ),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="N",
            help="Go round again until so long has passed; each is carried out once anyway.",
        ),
    ] = 0.0,
    rate: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=100.0,
            metavar="N",
            help="How many things happen to pods and policies a second.",
        ),
    ] = 6.0,
    report: Annotated[
        str, typer.Option(metavar="DIR", help="Where index.html and report.json are written.")
    ] = "chaos-report",
    mode: Annotated[
        ModeName, typer.Option(help="How packets carry identities between nodes.")
    ] = ModeName.OVERLAY,
    output: Annotated[
        FiguresName, typer.Option("-o", "--output", help="Form of what is printed at the end.")
    ] = FiguresName.TABLE,
) -> None:
    """Break a real cluster, and judge what it did.

    Starts three bus servers, two allocators and three nodes with agents and eBPF, in network
    namespaces of their own; pods start, stop, are relabelled and send real packets all the time.
    Each scenario injects its faults, heals them, and waits until all is as it should be. In the end
    every packet and every event is held against the ledger. Needs root and eBPF. Nothing is left
    but the report; what a SIGKILLed run leaves, `tabard down` removes. Ctrl-C takes all away and
    judges nothing. Exit code 0 only if every scenario was carried out and everything held. JSON is
    what report.json holds; `tabard explain chaos run` says what each key means.

    Example: tabard chaos run all --seed 7
    """
    from pathlib import Path

    from tabard.cli import chaos

    chaos.run_scenarios(scenario, seed, minutes, rate, Path(report), mode.value, output)


@app.command()
def simulate(
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many histories (100).")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Length of each history.")] = 500,
    first_seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The first history's seed (1).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The history of this seed alone.")
    ] = None,
    trace: Annotated[
        bool, typer.Option("-v", "--trace", help="Tell each step of --seed's history.")
    ] = False,
    planted: Annotated[
        str,
        typer.Option(
            "--fault",
            metavar="NAME",
            help="Break Tabard so on purpose, to see a checker notice.",
            autocompletion=completion.faults,
            callback=fault,
        ),
    ] = "",
    list_faults: Annotated[
        bool, typer.Option("--list-faults", help="Show what --fault can break, and end.")
    ] = False,
    output: Form = Output.TABLE,
) -> None:
    """Carry out histories of a simulated cluster.

    The real allocators and agents run on a bus and kernels in memory; a seed decides what is
    delayed, lost, repeated, cut off, killed or filled up, and when. After every step all is judged.
    Exits 1 at the first violation, with the steps that are enough for it. The same seed and steps
    are the same history anywhere.

    Example: tabard chaos simulate --seeds 1000 --steps 500
    """
    from tabard.cli import simulate

    if list_faults:
        simulate.list_faults(output)
        return
    if seed is not None and (seeds is not None or first_seed is not None):
        usage("--seed is one history; leave --seeds and --first-seed out")
    if trace and seed is None:
        usage("--trace tells one history: say which by --seed")
    if seed is None:
        first = 1 if first_seed is None else first_seed
        chosen = range(first, first + (100 if seeds is None else seeds))
    else:
        chosen = range(seed, seed + 1)
    simulate.simulate(simulate.Asked(chosen, steps, planted, trace), output)
