"""`tabard chaos list` and `run`."""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import typer

from tabard.chaos.report import files, tables
from tabard.chaos.report.document import document
from tabard.chaos.report.page import reason
from tabard.chaos.scenarios import SCENARIOS, Scenario, UnknownScenario, chosen, lacking
from tabard.cli.failing import Exit, Failure, Interrupted, fail, run
from tabard.cli.options import FiguresName
from tabard.cli.printing import Output, as_json, show_table, show_value, tell, tell_next
from tabard.cli.up import cancelled_by_signals
from tabard.cluster import preflight
from tabard.cluster.errors import ClusterError
from tabard.demo.stage import Stage

if TYPE_CHECKING:
    from tabard.chaos.report.outcome import Outcome

COLUMNS = ("SCENARIO", "WHAT HAPPENS")
WIDE = ("SCENARIO", "MODES", "HELD S", "NEEDS", "WHAT HAPPENS")
SEEDS = 1 << 31
"""Seeds that are drawn where none is given: short enough to be typed."""


def show_scenarios(output: Output) -> None:
    match output:
        case Output.JSON | Output.YAML:
            items = [
                {
                    "name": each.name,
                    "line": each.line,
                    "modes": sorted(each.modes),
                    "hold_s": each.hold_s,
                    "needs": each.needs,
                }
                for each in SCENARIOS
            ]
            show_value({"items": items}, output)
        case Output.NAME:
            for each in SCENARIOS:
                print(each.name)
        case Output.TABLE:
            show_table(COLUMNS, ([each.name, each.line] for each in SCENARIOS))
            tell_next(f"tabard chaos run {SCENARIOS[0].name}, or all")
        case Output.WIDE:
            show_table(
                WIDE,
                (
                    [each.name, sorted(each.modes), each.hold_s, each.needs, each.line]
                    for each in SCENARIOS
                ),
            )
        case _:
            assert_never(output)


def run_scenarios(
    name: str,
    seed: int | None,
    minutes: float,
    rate: float,
    report: Path,
    mode: str,
    output: FiguresName,
) -> None:
    """Exit.FAILED unless every scenario was carried out and every checker is green."""
    what = "rehearse failure"
    try:
        scenarios = chosen(name, mode)
        if lack := preflight.missing():
            raise ClusterError(
                f"chaos needs a kernel that enforces, and there is none: {lack}",
                "tabard chaos simulate, which needs neither root nor eBPF",
            )
        for package, needing in lacking(scenarios).items():
            raise ClusterError(
                f"scenario {needing!r} needs Debian's {package}, which is not there",
                f"apt-get install -y --no-install-recommends {package}",
            )
        # Now, and not after the run, is the time to learn that it cannot be written.
        files.ready(report)
    except UnknownScenario as error:
        fail(what, Failure(str(error), error.next, Exit.USAGE))
    except ClusterError as error:
        fail(what, error)
    except OSError as error:
        reason_why = f"no report can be written to {report}: {error.strerror}"
        fail(what, Failure(reason_why, f"tabard chaos run {name} --report DIR", Exit.USAGE))
    drawn = secrets.randbelow(SEEDS) if seed is None else seed
    outcome = run(what, _rehearsed(scenarios, drawn, minutes, rate, mode), log_level="critical")
    _show(outcome, output)
    try:
        page = files.write(outcome, report)
    except OSError as error:
        fact = f"all is judged and shown, but no report can be written to {report}"
        fail(what, Failure(f"{fact}: {error.strerror}", f"{outcome.command} --report DIR"))
    if not outcome.held:
        tell(f"✗ {reason(outcome)}")
        tell(f"  {page}")
        tell_next(outcome.command)
        raise typer.Exit(Exit.FAILED)
    tell(f"✓ all held; {page}")


async def _rehearsed(
    scenarios: Sequence[Scenario], seed: int, minutes: float, rate: float, mode: str
) -> "Outcome":
    from tabard.chaos.judge.verdicts import judged
    from tabard.chaos.run import run as rehearse

    try:
        with Stage() as stage, cancelled_by_signals():
            stage.say(f"seed {seed}")
            ran = await rehearse(
                scenarios,
                seed=seed,
                minutes=minutes,
                mode=mode,
                rate_per_s=rate,
                tell=stage.say,
            )
            stage.say("judging")
            return judged(ran.record, ran.evidence, scenarios)
    except asyncio.CancelledError:
        raise Interrupted("nothing of the cluster is left, and nothing was judged") from None


def _show(outcome: "Outcome", output: FiguresName) -> None:
    match output:
        case FiguresName.JSON:
            print(as_json(document(outcome)))
        case FiguresName.MARKDOWN:
            print(tables.markdown(outcome), end="")
        case FiguresName.TABLE:
            show_table([each.upper() for each in tables.COLUMNS], tables.scenarios(outcome))
            print()
            show_table(("HELD", "INVARIANT", "JUDGED", "VIOLATIONS"), tables.checkers(outcome))
        case _:
            assert_never(output)
