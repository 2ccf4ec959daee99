"""`tabard events tail | show | quarantine | verify`: the streams themselves, readable or not."""

from collections.abc import Callable, Sequence
from contextlib import aclosing

from tabard.bus.port import Bus, SequenceGap, Stored, Stream
from tabard.cli import flows
from tabard.cli.advice import following
from tabard.cli.failing import Exit, Failure
from tabard.cli.moments import At
from tabard.cli.past import begin_whole, start_at, stored_by
from tabard.cli.printing import (
    Output,
    as_yaml,
    cell,
    show_line,
    show_next,
    show_value,
    tell,
    tell_next,
    visible,
)
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row, brief, cells, cut, date, row
from tabard.cluster.publish import publish
from tabard.events import chain
from tabard.events.errors import ChainError, EventError
from tabard.events.observed import QuarantineRequested
from tabard.events.status import FlowsSeen
from tabard.ledger.follow import catch_up, take_or_ask
from tabard.ledger.messages import recorded
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State
from tabard.ledger.trimming import lost_beginning

TAIL_EVENTS = 20
"""How many past events a tail shows first."""
PROGRESS_EVENTS = 20_000
TITLES = ["SEQUENCE", "TIME", "TYPE", "CAUSE", "DATA"]
WIDTHS = (9, 13, 24, 16)
"""Of a tail's columns: its rows come one by one, so they cannot be measured first."""


def tail(
    stream: Stream,
    start: At | None,
    follow: bool,
    everything: bool,
    output: Output,
    cluster: str,
    nats: str,
) -> None:
    """`everything`: of the flows those too that `tabard.cli.flows` leaves out of a table."""
    wide = output is Output.WIDE
    everything = everything or wide

    def show(message: Stored) -> None:
        if output in (Output.JSON, Output.YAML):
            show_next(row(stream, message), output)
        elif output is Output.NAME:
            print(f"{stream}/{message.sequence}", flush=True)
        elif stream is Stream.FLOWS:
            _print_flows(message, everything)
        else:
            _print_line(cells(row(stream, message), whole=wide), WIDTHS)

    async def work(bus: Bus, target: Target) -> None:
        head = await bus.last_sequence(stream)
        first = await bus.first_sequence(stream)
        begin = max(first, head - TAIL_EVENTS + 1)
        if start is not None:
            begin = await start_at(bus, stream, start)
            if stream is Stream.LEDGER and begin < first:
                tell(f"LEDGER begins at {first}: what was before is in the archives of trims")
                begin = first
        if output in (Output.TABLE, Output.WIDE):
            titled = (flows.TITLES, flows.WIDTHS) if stream is Stream.FLOWS else (TITLES, WIDTHS)
            if stream is Stream.FLOWS and not everything:
                tell("link-local and multicast flows are left out; --all shows them too")
            _print_line(*titled)
        if not follow:
            await _until(bus, stream, begin, head, show)
            return
        async with aclosing(bus.tail(stream, begin)) as batches:
            async for messages in batches:
                for message in messages:
                    show(message)

    with_bus(f"tail {stream}", cluster, nats, work)


async def _until(
    bus: Bus, stream: Stream, begin: int, head: int, show: Callable[[Stored], None]
) -> None:
    while begin <= head:
        messages = await bus.read(stream, begin)
        if not messages:
            return
        for message in messages:
            if message.sequence <= head:
                show(message)
        begin = messages[-1].sequence + 1


def _print_flows(message: Stored, everything: bool) -> None:
    try:
        event = recorded(Stream.FLOWS, message).event
    except EventError as error:
        tell(f"FLOWS/{message.sequence} is unreadable: {error}")
        return
    seen = event.each() if isinstance(event, FlowsSeen) else (event,)
    for line in flows.lines(seen, everything=everything):
        _print_line(line, flows.WIDTHS)


def _print_line(line: Sequence[str], widths: Sequence[int]) -> None:
    shown = [visible(text) for text in line]
    padded = [text.ljust(width) for text, width in zip(shown, widths, strict=False)]
    print(" ".join([*padded, shown[-1]]).rstrip(), flush=True)


def show(at: At, stream: Stream, output: Output, cluster: str, nats: str) -> None:
    """The event at a sequence, or the last one stored by a time."""

    async def work(bus: Bus, target: Target) -> Row:
        message = await _stored(bus, stream, await _last(bus, stream, at))
        chained = await _chain(bus, message) if stream is Stream.LEDGER else None
        return row(stream, message) | {"chain": chained}

    what = f"{stream}/{at.sequence}" if at.time is None else f"{stream} as of {date(at.time)}"
    found = with_bus(f"show {what}", cluster, nats, work)
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
        case Output.NAME:
            print(f"{stream}/{found['sequence']}")
        case _:
            _print_event(found, wide=output is Output.WIDE)
    if "error" in found:
        tell(f"unreadable: {found['error']['reason']}")
        if found["chain"]:
            tell(f"{found['chain']}. Another replica of the bus may hold what was written:")
            tell(f"  {following('tabard bus check')}")
        tell("Whoever reads the stream stops before it and changes nothing. To go on past it:")
        place = f"{found['sequence']} --stream {stream}"
        command = f"tabard events quarantine {place} --reason WHY"
        tell(f"  {following(command)}")
        raise SystemExit(Exit.FAILED)
    if found["chain"]:
        tell(found["chain"])
        tell_next("tabard bus check")
        raise SystemExit(Exit.FAILED)


def _print_event(found: Row, *, wide: bool) -> None:
    """A key and its value a line; what the event says below, by `wide` whole."""
    show_line(f"{found['stream']}/{found['sequence']}", "bold")
    rest = {key: value for key, value in found.items() if key not in _SHOWN_ELSEWHERE}
    width = max(map(len, rest))
    for key, value in rest.items():
        show_line(f"  {key:<{width}}   {cell(value)}")
    if not (data := found.get("data")):
        return
    show_line("  data")
    if wide:
        for line in as_yaml(data).splitlines():
            show_line(f"    {line}")
        return
    width = max(map(len, data))
    for key, value in data.items():
        show_line(f"    {key:<{width}}   {cell(cut(brief(key, value)))}")


_SHOWN_ELSEWHERE = ("stream", "sequence", "stored_at", "occurred_at", "data")
"""In a table's head or below it, or as a date."""


async def _last(bus: Bus, stream: Stream, at: At) -> int:
    """The last sequence stored by then; Failure if none is, or the time is yet to come."""
    if at.sequence is not None:
        return at.sequence
    assert at.time is not None
    found = await stored_by(bus, stream, at.time, at.span)
    info = await bus.info(stream)
    if found < info.first:
        begins = "is empty" if info.first_at is None else f"begins {date(info.first_at)}"
        raise Failure(
            f"nothing was stored by {date(at.time)} that is kept: {stream} {begins}",
            f"tabard events tail --stream {stream} --no-follow",
        )
    return found


async def _stored(bus: Bus, stream: Stream, sequence: int) -> Stored:
    """The message at exactly `sequence`; Failure if there is none."""
    if stream is Stream.LEDGER and sequence < (first := await bus.first_sequence(stream)):
        raise Failure(
            f"LEDGER begins at {first}: {sequence} was trimmed away, and is in the archive of that "
            "trim",
            f"tabard events show {sequence} --nats file:ARCHIVE",
        )
    try:
        messages = await bus.read(stream, sequence, 1)
    except SequenceGap as error:
        raise Failure(str(error), "tabard bus check") from error
    if not messages or messages[0].sequence != sequence:
        first, last = await bus.first_sequence(stream), await bus.last_sequence(stream)
        raise Failure(
            f"{stream} holds {first} to {last}, and no {sequence}"
            if last
            else f"{stream} is empty",
            f"tabard events tail --stream {stream} --no-follow",
        )
    return messages[0]


async def _chain(bus: Bus, message: Stored) -> str:
    """Why the event does not follow from the stored one before it; empty if it does."""
    previous = chain.GENESIS
    if message.sequence > 1:
        if message.sequence == await bus.first_sequence(Stream.LEDGER):
            return ""  # what it follows was trimmed away; the snapshot here bears the same hash
        before = await _stored(bus, Stream.LEDGER, message.sequence - 1)
        claimed = chain.chain_of(before.payload)
        if claimed is None:
            return f"LEDGER/{before.sequence} carries no chain hash to follow from"
        previous = claimed
    try:
        chain.follow(previous, message.payload, f"LEDGER/{message.sequence}")
    except ChainError as error:
        return str(error)
    return ""


async def _needless(bus: Bus, stream: Stream, message: Stored) -> str:
    """Why nobody must be let past the event; empty if it is what readers are stopped before."""
    sequence = message.sequence
    state = State()
    try:
        await catch_up(bus, state, sequence if stream is Stream.LEDGER else None)
    except Stopped as error:
        if (stream, sequence) == (Stream.LEDGER, error.sequence):
            return ""
    if (stream, sequence) in state.quarantined:
        return "is quarantined already"
    if stream is Stream.OBSERVED and sequence == state.cursors.get(stream, 0) + 1:
        # Readable, it may still be one that the allocator cannot decide.
        return ""
    try:
        recorded(stream, message)
    except EventError:
        return ""
    return "can be read"


def quarantine(sequence: int, stream: Stream, reason: str, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> int:
        if stream not in (Stream.OBSERVED, Stream.LEDGER):
            raise Failure(f"nobody stops before an event on {stream}: nothing is decided from it")
        message = await _stored(bus, stream, sequence)
        if needless := await _needless(bus, stream, message):
            raise Failure(f"{stream}/{sequence} {needless}; nothing to quarantine", "tabard status")
        published = await publish(bus, [QuarantineRequested(stream, sequence, reason)])
        return published.sequences[0]

    at = with_bus(f"quarantine {stream}/{sequence}", cluster, nats, work)
    tell(f"OBSERVED/{at}  quarantine.requested  {stream}/{sequence}: {reason}")
    status = following("tabard status")
    tell(f"readers go on past it as soon as the allocator has recorded it: {status}")


def verify(output: Output, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> Row:
        state = State()
        info = await bus.info(Stream.LEDGER)
        first, head = info.first, info.last
        found: Row = {"first": first, "head": head, "verified": 0, "bad": None, "reason": ""}
        told = 0
        if head:
            await begin_whole(bus, state)
        try:
            while state.sequence < head:
                messages = await bus.read(Stream.LEDGER, state.sequence + 1)
                if not messages:
                    raise SequenceGap(f"LEDGER ends at {state.sequence}, its head is {head}")
                await take_or_ask(bus, state, messages)
                if state.sequence - told >= PROGRESS_EVENTS:
                    told = state.sequence
                    tell(f"{told} of {head} events verified")
        except Stopped as error:
            found |= {"bad": error.sequence, "reason": error.reason}
        except SequenceGap as error:
            found |= {"bad": state.sequence + 1, "reason": str(error)}
        if lost := await lost_beginning(bus, first):
            found |= {"bad": first, "reason": lost}
        quarantined = sorted(n for name, n in state.quarantined if name == Stream.LEDGER)
        return found | {
            "verified": state.sequence,
            "chain": state.chain.hex(),
            "quarantined": quarantined,
        }

    found = with_bus("verify the ledger", cluster, nats, work)
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
        case Output.NAME:
            print(f"{Stream.LEDGER}/{found['head']}")
    if found["bad"] is None:
        skipped = f", {len(found['quarantined'])} quarantined" if found["quarantined"] else ""
        events = found["verified"] - found["first"] + 1
        begins = f" from {found['first']} on" if found["first"] > 1 else ""
        tell(f"LEDGER is whole{begins}: {events} events, contiguous and chained{skipped}")
        return
    tell(f"LEDGER/{found['bad']} is the first bad event: {found['reason']}")
    tell_next(f"tabard events show {found['bad']}")
    raise SystemExit(Exit.FAILED)
