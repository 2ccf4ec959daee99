"""The one table, from recorded figures: for a terminal, or as markdown. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.figures import number

HEADER = ("benchmark", "what", "median", "spread", "runs", "target", "", "yardstick", "ratio")
RIGHT = frozenset(("median", "runs", "ratio"))


def rows(figures: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each figure, as `HEADER` says."""
    return [_row(figure) for figure in figures]


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = figure["spread"]
    unit, yardstick = figure["unit"], figure["yardstick"]
    return (
        figure["name"].partition(".")[0],
        figure["what"],
        f"{number(figure['median'])} {unit}",
        "" if low == high else f"{number(low)} – {number(high)}",
        str(len(figure["runs"])),
        figure["target"] or "",
        {None: "", True: "✓", False: "✗"}[figure["met"]],
        f"{yardstick['name']}: {number(yardstick['median'])}" if yardstick else "",
        f"{number(figure['ratio'])}×" if figure["ratio"] is not None else "",
    )


def plain(figures: Iterable[Mapping[str, Any]]) -> str:
    """Columns for a terminal; a benchmark's name stands at its first figure only."""
    found = [HEADER, *_named_once(rows(figures))]
    widths = [max(len(row[column]) for row in found) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            text.rjust(width) if title in RIGHT else text.ljust(width)
            for text, width, title in zip(row, widths, HEADER, strict=True)
        ).rstrip()
        for row in found
    ]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def markdown(figures: Sequence[Mapping[str, Any]]) -> str:
    """The table, and below it what its lines mean."""
    titles = tuple(title or "met" for title in HEADER)
    rules = ["--:" if title in RIGHT else "---" for title in titles]
    found = [titles, tuple(rules), *_named_once(rows(figures))]
    lines = [f"| {' | '.join(row)} |" for row in found]
    meanings = dict.fromkeys(
        f"- **{figure['name'].partition('.')[0]}**: {figure['means']}"
        for figure in figures
        if figure["means"]
    )
    return "\n".join([*lines, "", *meanings]).rstrip()


def _named_once(found: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    named: list[tuple[str, ...]] = []
    before = ""
    for row in found:
        named.append(("" if row[0] == before else row[0], *row[1:]))
        before = row[0]
    return named
