"""`tabard status`: how far ledger, allocator and each node are."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tabard.bus.port import Bus
from tabard.cli import overview
from tabard.cli.digests import fold_comparing
from tabard.cli.failing import Exit
from tabard.cli.get import known, named, past
from tabard.cli.moments import At
from tabard.cli.past import sequence_at
from tabard.cli.printing import (
    Output,
    coloured,
    show_line,
    show_lines,
    show_next,
    show_value,
    styled,
    tell_next,
)
from tabard.cli.reach import Target, target, with_bus
from tabard.cli.records import Row
from tabard.cli.replicas import found_by_allocators, word
from tabard.cli.selector import LabelSelector
from tabard.cli.tables import VIEWS, chosen
from tabard.cli.views import Reading, status
from tabard.cli.watching import differences, watch
from tabard.cluster.allocators import Allocators
from tabard.cluster.errors import ClusterError
from tabard.cluster.watermarks import Watermark
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

LOOK_S = 5.0
"""How often -w asks the bus's servers for what they count."""
RESTLESS = frozenset({"said_at", "age_ms"})
"""Keys of an allocator whose change alone is no news."""


def show_status(
    selector: LabelSelector,
    at: At | None,
    follow: bool,
    timeout_s: float | None,
    output: Output,
    cluster: str,
    nats: str,
) -> None:
    """`follow`: go on with what changes, for `timeout_s` if not None."""

    # Before the loop enters the bus's network namespace: services' pages are the host's.
    read = _found_by_allocators(cluster, nats) if at is None else {}

    async def work(bus: Bus, reached: Target) -> bool:
        state, trouble, roll = State(), "", Allocators()
        replicas = await word(reached, read) if at is None else None
        digests: dict[int, bytes] = {}
        through = await sequence_at(bus, at)
        try:
            if at is None:
                await fold_comparing(bus, state, digests, through)
            else:
                await catch_up(bus, state, through)
        except Stopped as error:
            # What is known up to there is what an operator needs now.
            trouble = str(error)

        def document(reading: Reading) -> Row:
            if reading.state.sequence not in digests:
                digests[reading.state.sequence] = digest(reading.state)
            reading, view = replace(reading, digests=digests), VIEWS["nodes"]
            rows = chosen(view.rows(reading), view, reading.state, "", selector)
            own = {"cluster": _cluster(reached), "bus": replicas, "error": trouble}
            return status(reading, rows) | own

        async def present(
            bus: Bus, state: State, words: dict[str, Watermark] | None = None
        ) -> Reading:
            said = await roll.heard(bus)
            return replace(await known(bus, state, words), allocators=said)

        found = document(await present(bus, state) if at is None else await past(bus, state))
        if not follow or trouble:
            _print(found, output)
            return bool(trouble or found["diverged"])
        with _showing(output) as show:
            show(found)

            def go_on(reading: Reading) -> None:
                nonlocal found
                # A node takes its digest where the ledger rests, and so is one taken here.
                spoken = {word.status.digest_at for word in reading.words.values()}
                for sequence in digests.keys() - spoken - {reading.state.sequence}:
                    del digests[sequence]
                found = document(reading)
                show(found)

            async def look() -> None:
                nonlocal replicas
                while True:
                    await asyncio.sleep(LOOK_S)
                    replicas = await word(reached, read)

            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(look(), name="status.replicas")
                try:
                    await watch(bus, state, present, go_on, timeout_s)
                finally:
                    looking.cancel()
        return bool(found["diverged"])

    if with_bus("read the cluster's status", cluster, nats, work):
        raise SystemExit(Exit.FAILED)


def _found_by_allocators(cluster: str, nats: str) -> dict[tuple[str, str], int]:
    try:
        return found_by_allocators(target(cluster, nats))
    except ClusterError:
        return {}  # told when the command itself looks for the cluster


def _cluster(chosen: Target) -> Row | None:
    if (profile := chosen.profile) is None:
        return None
    return {
        "name": profile.name,
        "mode": profile.mode,
        "dataplane": profile.dataplane,
        "pods": profile.pods,
        "data": profile.data,
        "http": dict(profile.http),
    }


def _print(found: Row, output: Output) -> None:
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
            return
        case Output.NAME:
            _print_names(found["nodes"])
            return
    show_lines(overview.lines(found, output is Output.WIDE))
    observed = found["observed"]
    if observed["error"]:
        tell_next(f"tabard events show {observed['cursor'] + 1} --stream OBSERVED")
    if found["bus"] and found["bus"]["faults"]:
        tell_next("tabard bus check")
    if found["error"]:
        tell_next(f"tabard events show {found['ledger']['sequence'] + 1}")
    if found["diverged"]:
        tell_next("tabard events verify")


@contextmanager
def _showing(output: Output) -> Iterator[Callable[[Row], None]]:
    """What takes each status as it changes: drawn anew at a terminal, else what differs printed."""
    wide = output is Output.WIDE
    if (wide or output is Output.TABLE) and coloured(sys.stdout):
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(), auto_refresh=False) as live:
            lines = Text("\n")
            yield lambda found: live.update(
                lines.join(styled(*each) for each in overview.lines(found, wide)), refresh=True
            )
    else:
        before: list[Row] = []

        def tell(found: Row) -> None:
            old = before[-1] if before else None
            match output:
                case Output.JSON | Output.YAML:
                    if old is None or _news(old, found):
                        show_next(found, output)
                case Output.NAME:
                    _print_names(row for _, row in _changes(old, found))
                case _:
                    _print_changed(old, found, wide)
            before[:] = [found]

        yield tell


def _news(before: Row, after: Row) -> bool:
    """Whether more than the clocks of nodes and allocators went on."""
    rest = any(before[key] != after[key] for key in after if key not in ("nodes", "allocators"))
    return rest or bool(_changes(before, after) or _turns(before, after))


def _turns(before: Row | None, after: Row) -> list[tuple[str, Row]]:
    """Changes of allocators."""
    old = {row["name"]: row for row in before["allocators"]} if before else {}
    return list(differences(old, {row["name"]: row for row in after["allocators"]}, RESTLESS))


def _changes(before: Row | None, after: Row) -> list[tuple[str, Row]]:
    old = {row["name"]: row for row in before["nodes"]} if before else {}
    new = {row["name"]: row for row in after["nodes"]}
    return list(differences(old, new, VIEWS["nodes"].volatile))


def _print_names(rows: Iterable[Row]) -> None:
    for row in rows:
        print(named("nodes", row), flush=True)


def _print_changed(before: Row | None, found: Row, wide: bool) -> None:
    if before is None:
        show_lines(overview.lines(found, wide))
        return
    known = overview.head(before, wide)
    for line in overview.head(found, wide):
        if line not in known:
            show_line(line)
    turned = {row["name"] for event, row in _turns(before, found) if event != "DELETED"}
    _, *rows = overview.allocators(found, wide)
    for row, line in zip(found["allocators"], rows, strict=True):
        if row["name"] in turned:
            show_line(line)
    _, *rows = overview.nodes(found, wide)
    changed = {row["name"] for event, row in _changes(before, found) if event != "DELETED"}
    for row, line in zip(found["nodes"], rows, strict=True):
        if row["name"] in changed:
            show_line(line)
