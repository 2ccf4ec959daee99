"""How far nodes are while a command waits for them: a bar at a terminal, else lines; on stderr."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from tabard.cli.printing import coloured, counted, tell
from tabard.cluster.watermarks import Watermark, lagging

Heard = Callable[[Mapping[str, Watermark]], None]


@contextmanager
def showing(nodes: Collection[str], sequence: int) -> Iterator[Heard]:
    """Takes what `nodes` said last, each time that more is known, and shows how many of them
    enforce LEDGER through `sequence`, and by how much the last one lags."""
    yield from _bar(nodes, sequence) if coloured(sys.stderr) else _lines(nodes, sequence)


def _bar(nodes: Collection[str], sequence: int) -> Iterator[Heard]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(f"LEDGER/{sequence}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("nodes enforce it{task.fields[behind]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(nodes), behind="")

        def heard(words: Mapping[str, Watermark]) -> None:
            done, behind = standing(words, nodes, sequence)
            progress.update(task, completed=done, behind=behind)

        yield heard


def _lines(nodes: Collection[str], sequence: int) -> Iterator[Heard]:
    told: list[int] = []

    def heard(words: Mapping[str, Watermark]) -> None:
        done, behind = standing(words, nodes, sequence)
        if [done] != told and behind:
            told[:] = [done]
            tell(f"{done} of {len(nodes)} nodes enforce LEDGER/{sequence}{behind}")

    yield heard


def standing(
    words: Mapping[str, Watermark], nodes: Collection[str], sequence: int
) -> tuple[int, str]:
    """How many of `nodes` enforce it, and of the last one: `; n2 lags by 3 events`."""
    behind = lagging(words, nodes, sequence)
    marks = {name: words[name].status.sequence if name in words else 0 for name in behind}
    if not marks:
        return len(nodes), ""
    last = min(sorted(marks), key=marks.__getitem__)
    lag = counted(sequence - marks[last], "event")
    return len(nodes) - len(behind), f"; {last} lags by {lag}"
