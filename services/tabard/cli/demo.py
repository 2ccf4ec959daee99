"""`tabard demo`: the four trials, their tables, a summary, and the figures as JSON."""

import asyncio
import json
from pathlib import Path

import typer
from rich.console import Console

from tabard.cli.failing import Exit, Failure, Interrupted, fail, run
from tabard.cli.up import cancelled_by_signals
from tabard.demo.report import Report, figures, summary, tables
from tabard.demo.run import Dataplane
from tabard.demo.run import demo as all_trials
from tabard.demo.stage import Stage

WIDTH_MIN = 170
"""Columns of the tables where there is no terminal to fit."""


def demo(dataplane: Dataplane, json_file: str) -> None:
    if json_file:
        # Now, and not after the trials, is the time to learn that it cannot be written.
        try:
            Path(json_file).touch()
        except OSError as error:
            reason = f"{json_file} cannot be written: {error.strerror}"
            fail("run the demo", Failure(reason, "tabard demo --json FILE", Exit.USAGE))
    report = run("run the demo", _demo(dataplane), log_level="warning")
    _show(report)
    if json_file:
        Path(json_file).write_text(json.dumps(figures(report), indent=2) + "\n")
    if not report.held:
        raise typer.Exit(Exit.FAILED)


async def _demo(dataplane: Dataplane) -> Report:
    try:
        with Stage() as stage, cancelled_by_signals():
            return await all_trials(stage, dataplane)
    except asyncio.CancelledError:
        raise Interrupted("nothing of the cluster is left", "tabard demo") from None


def _show(report: Report) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_MIN
    for table in tables(report):
        console.print(table)
        console.print()
    for line in summary(report):
        console.print(line, markup=False, soft_wrap=True)
