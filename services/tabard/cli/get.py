"""`tabard get`: what the ledger says of one kind of object, at any point of its history."""

import asyncio
from collections.abc import Iterable
from functools import partial

from tabard.bus.port import Bus, Stored, Stream
from tabard.cli.kinds import SHOWN
from tabard.cli.moments import At
from tabard.cli.past import as_of, sequence_at, stored_at
from tabard.cli.printing import Output, room, show_table, show_value, tell
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row
from tabard.cli.selector import LabelSelector
from tabard.cli.tables import VIEWS, View, chosen, laid_out
from tabard.cli.views import Reading
from tabard.cli.watching import Changes, watch
from tabard.cluster.watermarks import Watermark, watermarks
from tabard.events.errors import EventError
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import holds_up, recorded
from tabard.ledger.state import State


async def read(bus: Bus, state: State, at: At | None = None) -> Reading:
    """Fold the ledger into `state` through `at`; of the present, hear the nodes too.

    Stopped as `catch_up`, Failure as `sequence_at`.
    """
    await catch_up(bus, state, await sequence_at(bus, at))
    return await known(bus, state) if at is None else await past(bus, state)


async def past(bus: Bus, state: State) -> Reading:
    """`state` as it is. What nodes and sources said by then is not kept."""
    info = await bus.info(Stream.LEDGER)
    stored = await _stored(bus, {state.sequence} - {0})
    return Reading(state, ledger_head=info.last, now=info.now, stored=stored)


async def known(bus: Bus, state: State, words: dict[str, Watermark] | None = None) -> Reading:
    """`state` as it is, the heads of the streams, and what the nodes and the next event say.

    `words` saves asking the nodes.
    """
    if words is None:
        words = await watermarks(bus, state.nodes)
    words = {name: words[name] for name in state.nodes if name in words}
    ledger, observed = await bus.info(Stream.LEDGER), await bus.info(Stream.OBSERVED)
    messages = await bus.read(Stream.OBSERVED, state.cursors.get(Stream.OBSERVED, 0) + 1, 1)
    lacking = {word.status.sequence + 1 for word in words.values()}
    wanted = {state.sequence, *(first for first in lacking if first <= ledger.last)} - {0}
    # What was trimmed away was stored before what is there now.
    trimmed = {each: ledger.first_at or 0 for each in wanted if each < ledger.first}
    return Reading(
        state,
        words,
        observed.last,
        ledger.last,
        _unreadable(messages[0]) if messages else "",
        ledger.now,
        trimmed | await _stored(bus, wanted - trimmed.keys()),
    )


async def _stored(bus: Bus, sequences: Iterable[int]) -> dict[int, int]:
    """When each of some LEDGER sequences was stored."""
    found = await asyncio.gather(*(bus.read(Stream.LEDGER, each, 1) for each in sequences))
    return {message.sequence: message.stored_at for messages in found for message in messages}


def _unreadable(message: Stored) -> str:
    try:
        recorded(Stream.OBSERVED, message)
    except EventError as error:
        return str(error) if holds_up(message, error) else ""
    return ""


def get(
    kind: str,
    namespace: str,
    selector: LabelSelector,
    at: At | None,
    follow: bool,
    timeout_s: float | None,
    output: Output,
    cluster: str,
    nats: str,
) -> None:
    """`follow`: go on with what changes, for `timeout_s` if not None."""
    view = VIEWS[kind]

    def rows(reading: Reading) -> list[Row]:
        return chosen(view.rows(reading), view, reading.state, namespace, selector)

    async def work(bus: Bus, target: Target) -> None:
        if follow:
            name = partial(named, kind)
            changes = Changes(view.columns, view.identity, name, output, view.volatile)

            def show(reading: Reading) -> None:
                changes.show(reading.state.sequence, rows(reading))

            state = State()
            show(await read(bus, state))
            await watch(bus, state, known, show, timeout_s)
            return
        if kind == "streams":
            reading = Reading(State(), streams=tuple([await bus.info(each) for each in Stream]))
            sequence = next(each.last for each in reading.streams if each.stream is Stream.LEDGER)
        else:
            reading = await read(bus, State(), at)
            sequence = reading.state.sequence
        if at is not None and output in (Output.TABLE, Output.WIDE):
            tell(await as_of(bus, sequence))
        stored = await stored_at(bus, sequence)
        found = rows(reading)
        if not found and output in (Output.TABLE, Output.WIDE):
            everyone = LabelSelector()
            there = len(chosen(view.rows(reading), view, reading.state, namespace, everyone))
            tell(none(kind, namespace, there))
        _print(kind, view, found, sequence, stored, output)

    with_bus(f"get {kind}", cluster, nats, work)


def none(kind: str, namespace: str, there: int) -> str:
    """Why there is no row, where `there` rows are without a selector."""
    inside = f" in namespace {namespace}" if namespace else ""
    if not there:
        return f"no {kind}{inside}"
    return f"no {kind}{inside} of these labels: the selector matches none of {there}"


def _print(
    kind: str, view: View, rows: list[Row], sequence: int, stored: int | None, output: Output
) -> None:
    match output:
        case Output.JSON | Output.YAML:
            show_value({"sequence": sequence, "stored_at": stored, "items": rows}, output)
        case Output.NAME:
            for row in rows:
                print(named(kind, row))
        case _ if rows:
            wide = output is Output.WIDE
            show_table(*laid_out(view.columns, rows, wide=wide), room(wide=wide))


def named(kind: str, row: Row) -> str:
    """`pod/shop/web-0`"""
    return "/".join([SHOWN[kind][0], *filter(None, (str(row[key]) for key in VIEWS[kind].name))])
