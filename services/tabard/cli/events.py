"""`tabard events tail | show | quarantine | verify`: the streams themselves, readable or not."""

import asyncio
from contextlib import aclosing

from tabard.bus.port import Bus, SequenceGap, Stored, Stream
from tabard.cli.failing import Exit, Failure
from tabard.cli.printing import Output, as_json, json_line, tell
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row, cells, row
from tabard.cluster.publish import publish
from tabard.events import chain
from tabard.events.errors import ChainError
from tabard.events.observed import QuarantineRequested
from tabard.ledger.follow import take_or_ask
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

TAIL_EVENTS = 20
"""How many past events a tail shows first."""
PROGRESS_EVENTS = 20_000
WIDTHS = (9, 13, 21, 16)
"""Of a tail's columns: its rows come one by one, so they cannot be measured first."""


def tail(
    stream: Stream, start: int | None, follow: bool, output: Output, cluster: str, nats: str
) -> None:
    async def work(bus: Bus, target: Target) -> None:
        head = await bus.last_sequence(stream)
        begin = start if start is not None else max(1, head - TAIL_EVENTS + 1)
        if output is not Output.JSON:
            _print_line(["SEQUENCE", "TIME", "TYPE", "CAUSE", "DATA"])
        if not follow:
            await _print_until(bus, stream, begin, head, output)
            return
        try:
            async with aclosing(bus.tail(stream, begin)) as batches:
                async for messages in batches:
                    for message in messages:
                        _print(stream, message, output)
        except asyncio.CancelledError:
            pass  # Ctrl-C is how one leaves a tail

    with_bus(f"tail {stream}", cluster, nats, work)


async def _print_until(bus: Bus, stream: Stream, begin: int, head: int, output: Output) -> None:
    while begin <= head:
        messages = await bus.read(stream, begin)
        if not messages:
            return
        for message in messages:
            if message.sequence <= head:
                _print(stream, message, output)
        begin = messages[-1].sequence + 1


def _print(stream: Stream, message: Stored, output: Output) -> None:
    found = row(stream, message)
    if output is Output.JSON:
        print(json_line(found), flush=True)
    else:
        _print_line(cells(found))


def _print_line(line: list[str]) -> None:
    padded = [text.ljust(width) for text, width in zip(line, WIDTHS, strict=False)]
    print(" ".join([*padded, line[-1]]).rstrip(), flush=True)


def show(sequence: int, stream: Stream, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> Row:
        message = await _stored(bus, stream, sequence)
        found = row(stream, message)
        if stream is Stream.LEDGER:
            found["chain"] = await _chain(bus, message)
        return found

    found = with_bus(f"show {stream}/{sequence}", cluster, nats, work)
    print(as_json(found))
    if "error" in found:
        tell(f"unreadable: {found['error']['reason']}")
        tell("Whoever reads the stream stops before it and changes nothing. To go on past it:")
        tell(f"  tabard events quarantine {sequence} --stream {stream} --reason WHY")
        raise SystemExit(Exit.FAILED)
    if found.get("chain"):
        tell(found["chain"])
        tell("next: tabard events verify")
        raise SystemExit(Exit.FAILED)


async def _stored(bus: Bus, stream: Stream, sequence: int) -> Stored:
    """The message at exactly `sequence`; Failure if there is none."""
    try:
        messages = await bus.read(stream, sequence, 1)
    except SequenceGap as error:
        raise Failure(str(error), "tabard events verify") from error
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


def quarantine(sequence: int, stream: Stream, reason: str, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> int:
        if stream not in (Stream.OBSERVED, Stream.LEDGER):
            raise Failure(f"nobody stops before an event on {stream}: nothing is decided from it")
        await _stored(bus, stream, sequence)
        published = await publish(bus, [QuarantineRequested(stream, sequence, reason)])
        return published.sequences[0]

    at = with_bus(f"quarantine {stream}/{sequence}", cluster, nats, work)
    tell(f"OBSERVED/{at}  quarantine.requested  {stream}/{sequence}: {reason}")
    tell("readers go on past it as soon as the allocator has recorded it: tabard status")


def verify(output: Output, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> Row:
        state = State()
        head = await bus.last_sequence(Stream.LEDGER)
        found: Row = {"head": head, "verified": 0, "bad": None, "reason": ""}
        told = 0
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
        quarantined = sorted(n for name, n in state.quarantined if name == Stream.LEDGER)
        return found | {
            "verified": state.sequence,
            "chain": state.chain.hex(),
            "quarantined": quarantined,
        }

    found = with_bus("verify the ledger", cluster, nats, work)
    if output is Output.JSON:
        print(as_json(found))
    if found["bad"] is None:
        skipped = f", {len(found['quarantined'])} quarantined" if found["quarantined"] else ""
        tell(f"LEDGER is whole: {found['verified']} events, contiguous and chained{skipped}")
        return
    tell(f"LEDGER/{found['bad']} is the first bad event: {found['reason']}")
    tell(f"next: tabard events show {found['bad']}")
    raise SystemExit(Exit.FAILED)
