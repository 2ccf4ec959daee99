"""`tabard wait`: until every live node enforces what was published."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tabard.bus.port import Bus, Stream
from tabard.cli.failing import Failure
from tabard.cli.get import named
from tabard.cli.printing import Output, counted, show_table, show_value, tell
from tabard.cli.progress import showing
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row
from tabard.cli.tables import Column, laid_out
from tabard.cluster.errors import NotReached
from tabard.cluster.watermarks import (
    Watermark,
    all_silent,
    enforced,
    lagging,
    speaks,
    taken,
    watermarks,
)
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State, live_nodes

COLUMNS = (
    Column("NODE", "name"),
    Column("WATERMARK", "watermark"),
    Column("LIVE", "live", form=lambda live: "yes" if live else "no"),
)


@dataclass(frozen=True, slots=True)
class Settled:
    """All `nodes` ({name, watermark, live}) enforce LEDGER through `sequence`, but the silent ones
    that were not waited for."""

    sequence: int
    nodes: tuple[Row, ...]
    left_behind: tuple[str, ...]

    def tell(self) -> None:
        """`2 nodes enforce LEDGER/17`"""
        enforcing = len(self.nodes) - len(self.left_behind)
        verb = "enforces" if enforcing == 1 else "enforce"
        tell(f"{counted(enforcing, 'node')} {verb} LEDGER/{self.sequence}")
        for name in self.left_behind:
            tell(
                f"note: node {name} is silent or lost and was not waited for; its kernel enforces "
                "what it had (tabard wait --all-nodes waits for it too)"
            )


async def settled(
    bus: Bus, sequence: int | None, timeout_s: float, *, everyone: bool = False
) -> Settled:
    """Wait until every live node, or `everyone`, enforces LEDGER through `sequence`.

    None stands for everything that was published when the wait began, observed events that the
    allocator has not taken yet included. A node is live unless its agent said nothing for SILENT_S;
    if none is, all are waited for. NotReached if it takes longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    state = State()
    head = await bus.last_sequence(Stream.OBSERVED)
    await catch_up(bus, state)
    if sequence is None:
        try:
            async with asyncio.timeout(timeout_s):
                await taken(bus, state, head)
        except TimeoutError as error:
            cursor = state.cursors.get(Stream.OBSERVED, 0)
            raise NotReached(
                f"the allocator has taken OBSERVED/{cursor}, not OBSERVED/{head}, after "
                f"{timeout_s:g} s",
                "tabard status",
            ) from error
        sequence = state.sequence
    if not state.nodes:
        raise Failure("the ledger has no node that could enforce it", "tabard status")
    nodes = set(state.nodes)
    # The lost ones stay away for long; if all are, they are no others to wait for.
    waited = nodes if everyone else set(live_nodes(state)) or nodes
    # What they said last may be enough, and then no time is needed.
    words, now = await watermarks(bus, nodes), (await bus.info(Stream.STATUS)).now
    behind = frozenset(lagging(words, waited, sequence))
    if behind and (everyone or not all_silent(words, waited, behind, now)):
        with showing(waited, sequence) as show:

            def heard(said: Mapping[str, Watermark]) -> None:
                words.update(said)
                show(words)

            show(words)
            left = max(0.0, deadline - time.monotonic())
            try:
                behind = await enforced(bus, sequence, waited, left, everyone=everyone, heard=heard)
            except NotReached as error:
                where = str(error).partition(": ")[2]
                raise NotReached(
                    f"not enforced through LEDGER/{sequence} within {timeout_s:g} s: {where}",
                    error.next,
                ) from error
    now = (await bus.info(Stream.STATUS)).now
    behind |= lagging(words, nodes - waited, sequence)
    rows = tuple(_row(name, words.get(name), now) for name in sorted(nodes))
    return Settled(sequence, rows, tuple(sorted(behind)))


def _row(name: str, word: Watermark | None, now: int) -> Row:
    watermark = None if word is None else word.status.sequence
    live = word is not None and speaks(word, now)
    return {"name": name, "watermark": watermark, "live": live}


def wait(
    sequence: int | None,
    everyone: bool,
    timeout_s: float,
    output: Output,
    cluster: str,
    nats: str,
) -> None:
    async def work(bus: Bus, target: Target) -> Settled:
        return await settled(bus, sequence, timeout_s, everyone=everyone)

    found = with_bus("see it enforced", cluster, nats, work)
    found.tell()
    match output:
        case Output.JSON | Output.YAML:
            show_value({"sequence": found.sequence, "nodes": list(found.nodes)}, output)
        case Output.NAME:
            for each in found.nodes:
                print(named("nodes", each))
        case _:
            show_table(*laid_out(COLUMNS, found.nodes, wide=output is Output.WIDE))
