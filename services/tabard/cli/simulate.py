"""`tabard chaos simulate`: histories of a simulated cluster, until one breaks an invariant."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
import typer

from tabard.cli.advice import following
from tabard.cli.failing import Exit, Interrupted, fail
from tabard.cli.printing import (
    Output,
    coloured,
    counted,
    show_line,
    show_lines,
    show_table,
    show_value,
    tell,
)
from tabard.simulator.choices import Act
from tabard.simulator.faults.catalogue import FAULTS
from tabard.simulator.history import Outcome, replay, run
from tabard.simulator.shrink import Shrunk, shrink
from tabard.simulator.telling import SUMS

LINES = 10
"""How often progress is told where no bar can be shown."""
COUNTS_A_LINE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """Histories of these seeds, each so many steps long, with a fault planted or none ("")."""

    seeds: Sequence[int]
    steps: int
    fault: str
    traced: bool

    def again(self, seed: int) -> str:
        """The command that carries out the history of one seed again."""
        return following(f"tabard chaos simulate --seed {seed} {self.words}")

    @property
    def words(self) -> str:
        """The options that all of its histories share."""
        return f"--steps {self.steps}" + (f" --fault {self.fault}" if self.fault else "")


@dataclass(slots=True)
class Result:
    histories: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] | None = None
    last: Outcome | None = None
    shrunk: Shrunk | None = None
    """Of the last one, if it has a violation."""

    def add(self, outcome: Outcome, seconds: float) -> None:
        self.counts = (self.counts or Counter()) + Counter(outcome.counts)
        self.histories += 1
        self.steps += len(outcome.choices)
        self.seconds = seconds
        self.last = outcome

    @property
    def speed(self) -> float:
        """Histories a second."""
        return self.histories / self.seconds if self.seconds else 0.0


def list_faults(output: Output) -> None:
    items = [
        {"name": each.name, "caught_by": each.caught_by.value, "breaks": each.breaks}
        for each in FAULTS.values()
    ]
    match output:
        case Output.JSON | Output.YAML:
            show_value({"items": items}, output)
        case Output.NAME:
            for each in items:
                print(each["name"])
        case Output.TABLE | Output.WIDE:
            show_table(
                ("FAULT", "CAUGHT BY", "WHAT IT BREAKS"), (list(each.values()) for each in items)
            )


def simulate(asked: Asked, output: Output) -> None:
    """Exit.FAILED at the first violation."""
    # What a simulated cluster logs is of no cluster that anybody has.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    result = Result()
    with FAULTS[asked.fault].plant() if asked.fault else nullcontext():
        try:
            _carry_out(asked, result)
        except KeyboardInterrupt:
            fail("rehearse failure", Interrupted(*_so_far(asked, result)))
    match output:
        case Output.JSON | Output.YAML:
            show_value(_row(asked, result), output)
        case Output.NAME:
            if result.shrunk is not None:
                print(result.shrunk.outcome.seed)
        case Output.TABLE | Output.WIDE:
            _show(asked, result)
    if result.shrunk is not None:
        raise typer.Exit(Exit.FAILED)


def _carry_out(asked: Asked, result: Result) -> None:
    began = time.monotonic()
    with _showing(asked) as heard:
        for seed in asked.seeds:
            outcome = run(seed, asked.steps, traced=asked.traced)
            result.add(outcome, time.monotonic() - began)
            heard(result)
            if outcome.found:
                tell(f"seed {seed} breaks {outcome.found[0].violation.invariant}; shrinking it …")
                shrunk = shrink(outcome)
                again = replay(seed, shrunk.outcome.choices, traced=True)
                result.shrunk = Shrunk(again, shrunk.tries, shrunk.is_minimal)
                break


def _so_far(asked: Asked, result: Result) -> tuple[str, str]:
    """What an interrupted command had found, and the command that goes on."""
    last = result.last
    if last is not None and last.found:
        return f"seed {last.seed} was being shrunk", f"{asked.again(last.seed)} --trace"
    if not result.histories or result.histories == len(asked.seeds):
        return "no history was over", asked.again(asked.seeds[0])
    left = len(asked.seeds) - result.histories
    command = f"tabard chaos simulate --first-seed {asked.seeds[result.histories]} --seeds {left}"
    return f"{_amount(result)}, held", following(f"{command} {asked.words}")


Heard = Callable[[Result], None]


@contextmanager
def _showing(asked: Asked) -> Iterator[Heard]:
    """Takes the result after each history, and shows how far that is."""
    yield from _bar(asked) if coloured(sys.stderr) else _lines(asked)


def _bar(asked: Asked) -> Iterator[Heard]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("histories"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("held, {task.fields[speed]:.1f} a second"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(asked.seeds), speed=0.0)
        yield lambda result: progress.update(task, completed=result.histories, speed=result.speed)


def _lines(asked: Asked) -> Iterator[Heard]:
    total = len(asked.seeds)
    every = -(-total // LINES)

    def heard(result: Result) -> None:
        if result.histories % every == 0 and result.histories < total:
            tell(f"{result.histories} of {total} histories, {result.speed:.1f} a second")

    yield heard


def _show(asked: Asked, result: Result) -> None:
    if asked.traced and result.last is not None:
        show_lines((line, "") for line in result.last.trace)
    if result.shrunk is None:
        show_line(f"✓ all held: {_amount(result)}", "green")
        show_lines(("  " + line, "") for line in _happened(result))
        if asked.fault:
            tell(f"fault {asked.fault} was not noticed: its checker is {_checker(asked.fault)}")
        return
    found = result.shrunk.outcome.found[0]
    whole = result.last
    assert whole is not None
    first = whole.found[0]
    when = "in the end" if _is_healed(whole) else f"step {first.step}"
    show_line(f"✗ seed {whole.seed}, {when}: {first.violation.invariant}", "red")
    show_line(f"  {first.violation.what}")
    show_line(_enough(len(whole.choices), result.shrunk))
    show_lines((f"  {line}", "") for line in result.shrunk.outcome.trace)
    end = "in the end: " if _is_healed(result.shrunk.outcome) else ""
    show_line(f"  → {end}{found.violation.what}")
    if asked.fault:
        meant = _checker(asked.fault)
        other = "" if first.violation.invariant == meant else ", which it did not"
        show_line(f"fault {asked.fault} is planted, for {meant} to notice{other}")
    show_line(f"after {_amount(result)}")
    tell(f"next: {asked.again(whole.seed)} --trace")


def _is_healed(outcome: Outcome) -> bool:
    """Its violation was seen only after all steps, when faults were healed."""
    return outcome.found[0].step > len(outcome.choices)


def _enough(steps: int, shrunk: Shrunk) -> str:
    few = len(shrunk.outcome.choices)
    enough = "is enough" if few == 1 else "are enough"
    more = "" if shrunk.is_minimal else "; the search for fewer was given up"
    return f"of its {counted(steps, 'step')} {few} {enough}{more}:"


def _checker(fault: str) -> str:
    return FAULTS[fault].caught_by.value


def _amount(result: Result) -> str:
    histories = counted(result.histories, "history", "histories")
    return (
        f"{histories}, {counted(result.steps, 'step')}, in {result.seconds:.1f} s "
        f"({result.speed:.1f} histories a second)"
    )


def _happened(result: Result) -> list[str]:
    """What was done, and what came of it, most first: `1203 claims · 88 numbers reused …`."""
    counts, acts = result.counts or Counter(), {act.value for act in Act}
    return [
        *_listed("done", {SUMS[Act(name)]: n for name, n in counts.items() if name in acts}),
        *_listed("came", {name: count for name, count in counts.items() if name not in acts}),
    ]


def _listed(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{count} {name}" for name, count in ranked]
    for at in range(0, len(told), COUNTS_A_LINE):
        yield f"{'' if at else title:<6}" + " · ".join(told[at : at + COUNTS_A_LINE])


def _row(asked: Asked, result: Result) -> dict[str, Any]:
    whole, violation = result.last, None
    if result.shrunk is not None and whole is not None:
        first, shrunk = whole.found[0], result.shrunk
        violation = {
            "seed": whole.seed,
            "step": first.step,
            "invariant": first.violation.invariant.value,
            "what": first.violation.what,
            "choices": [str(choice) for choice in shrunk.outcome.choices],
            "trace": list(shrunk.outcome.trace),
            "minimal": shrunk.is_minimal,
            "replay": asked.again(whole.seed),
        }
    return {
        "first_seed": asked.seeds[0],
        "steps": asked.steps,
        "fault": asked.fault or None,
        "histories": result.histories,
        "carried_out": result.steps,
        "seconds": round(result.seconds, 3),
        "counts": dict(sorted((result.counts or Counter()).items())),
        "trace": list(whole.trace) if whole is not None else [],
        "violation": violation,
    }
