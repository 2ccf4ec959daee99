"""Following what changes: a reading now, and another whenever the ledger or a node said more."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from typing import Any

from tabard.bus.port import Bus, Stream
from tabard.cli.printing import GAP, Output, cell, show_line, show_next
from tabard.cli.records import Row
from tabard.cli.tables import Column
from tabard.cli.views import Reading
from tabard.cluster.watermarks import Watermark, watermark, watermarks
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.follow import follow
from tabard.ledger.state import State

SPACING_S = 0.2
"""Shortest time between two readings: what changes faster is shown as one change."""
LOOK_S = 5.0
"""Longest: a node that falls silent says nothing of it."""

Known = Callable[[Bus, State, dict[str, Watermark]], Awaitable[Reading]]


async def watch(
    bus: Bus,
    state: State,
    known: Known,
    show: Callable[[Reading], None],
    timeout_s: float | None = None,
    observe: Callable[[LedgerRecord], None] = lambda record: None,
) -> None:
    """Go on from `state` and give `show` each reading that `known` makes, for `timeout_s` or ever.

    The bus is asked when its streams had news, and after LOOK_S without. `observe` is shown each
    record after it was folded. Stopped as `follow`.
    """
    changed = asyncio.Event()
    changed.set()
    start = await bus.last_sequence(Stream.STATUS) + 1
    words = await watermarks(bus, state.nodes)

    async def ledger() -> None:
        async with aclosing(follow(bus, state)) as batches:
            async for records in batches:
                for record in records:
                    observe(record)
                changed.set()

    async def status() -> None:
        async with aclosing(bus.tail(Stream.STATUS, start)) as batches:
            async for messages in batches:
                said = filter(None, map(watermark, messages))
                words.update((word.status.node, word) for word in said)
                changed.set()

    async def readings() -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()
            show(await known(bus, state, words))
            await asyncio.sleep(SPACING_S)

    async with lasting(timeout_s), asyncio.TaskGroup() as tasks:
        for work in (ledger, status, readings):
            tasks.create_task(work(), name=f"watch {work.__name__}")


@asynccontextmanager
async def lasting(timeout_s: float | None) -> AsyncIterator[None]:
    """What is in it ends after so long (None: never), and the command goes on behind it."""
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise


def differences(
    before: Mapping[Any, Row], after: Mapping[Any, Row], volatile: frozenset[str]
) -> Iterator[tuple[str, Row]]:
    """(ADDED, MODIFIED or DELETED, the row), but for changes of `volatile` keys alone."""
    for key, row in before.items():
        if key not in after:
            yield "DELETED", row
    for key, row in after.items():
        old = before.get(key)
        if old is None:
            yield "ADDED", row
        elif any(old[name] != value for name, value in row.items() if name not in volatile):
            yield "MODIFIED", row


class Changes:
    """Prints which rows changed from each reading to the next.

    `named` is what a row is called; a change of `volatile` keys alone is no news.
    """

    def __init__(
        self,
        columns: Iterable[Column],
        identity: Callable[[Row], Hashable],
        named: Callable[[Row], str],
        output: Output,
        volatile: frozenset[str] = frozenset(),
    ) -> None:
        self._identity = identity
        self._named = named
        self._output = output
        self._volatile = volatile
        self._before: dict[Any, Row] = {}
        wide = output is Output.WIDE
        self._columns = [each for each in columns if wide or not each.wide]
        self._widths: list[int] = []

    def show(self, sequence: int, rows: Iterable[Row]) -> None:
        """`rows` are all that are at LEDGER/`sequence`."""
        after = {self._identity(row): row for row in rows}
        found = list(differences(self._before, after, self._volatile))
        self._before = after
        match self._output:
            case Output.JSON | Output.YAML:
                for event, row in found:
                    document = {"sequence": sequence, "event": event, "item": row}
                    show_next(document, self._output)
            case Output.NAME:
                for _, row in found:
                    print(self._named(row), flush=True)
            case _:
                self._print(found)

    def _print(self, found: list[tuple[str, Row]]) -> None:
        wide = self._output is Output.WIDE
        lines = [
            [event, *(cell(column.shown(row, wide)) for column in self._columns)]
            for event, row in found
        ]
        if not self._widths and lines:
            titles = ["EVENT", *(column.title for column in self._columns)]
            self._widths = [max(map(len, each)) for each in zip(titles, *lines, strict=True)]
            self._widths[0] = len("MODIFIED")
            show_line(self._padded(titles), "bold")
        for line in lines:
            show_line(self._padded(line))

    def _padded(self, line: list[str]) -> str:
        pairs = zip(line, self._widths, strict=True)
        return GAP.join(text.ljust(width) for text, width in pairs).rstrip()
