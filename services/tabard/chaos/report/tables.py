"""A judged run as tables of text: for a terminal, and to be pasted into documents. Pure."""

from collections.abc import Iterable, Sequence

from tabard.chaos.report.outcome import BEFORE, Outcome, Row

COLUMNS = (
    "scenario",
    "faults injected",
    "events acknowledged",
    "packets judged",
    "violations",
    "time to converge",
)


def scenarios(outcome: Outcome) -> list[list[str]]:
    """A line of cells for each scenario, under COLUMNS, and their sum."""
    rows = [row for row in outcome.rows() if row.scenario != BEFORE]
    record = outcome.record
    times = [row.converge_s for row in rows if row.converge_s is not None]
    lasting = max(times) if len(times) == len(rows) and times else None
    total = Row(
        "all",
        len(record.phases),
        len(record.injected),
        len(record.acknowledged),
        len(record.packets),
        outcome.violations,
        lasting,
    )
    return [_cells(row) for row in (*rows, total)]


def checkers(outcome: Outcome) -> list[list[str]]:
    """A line of cells for each checker: mark, invariant, judged with its unit, violations."""
    return [
        [
            "✓" if verdict.held else "✗",
            verdict.invariant,
            f"{verdict.judged:,} {verdict.unit}",
            f"{verdict.violations:,}",
        ]
        for verdict in outcome.verdicts
    ]


def markdown(outcome: Outcome) -> str:
    """The scenarios as a table of Markdown; ends with a newline."""
    lines = [_line(COLUMNS), "|---|--:|--:|--:|--:|--:|", *map(_line, scenarios(outcome))]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    return [
        row.scenario,
        f"{row.faults:,}",
        f"{row.acknowledged:,}",
        f"{row.packets:,}",
        f"{row.violations:,}",
        "–" if row.converge_s is None else f"{row.converge_s:.1f} s",
    ]


def _line(cells: Sequence[str] | Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
