"""Where in a stream a point of its history is, and the ledger folded through there."""

from collections.abc import AsyncIterator

from tabard.bus.port import Bus, Stored, Stream
from tabard.cli.failing import Failure
from tabard.cli.moments import At
from tabard.cli.printing import tell
from tabard.cli.records import date
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.follow import take_or_ask
from tabard.ledger.start import begin
from tabard.ledger.state import State


async def sequence_at(bus: Bus, at: At | None) -> int:
    """The last LEDGER sequence stored by then: 0 before the first, the head for None.

    Failure if the ledger has no such sequence yet.
    """
    if at is None:
        return await bus.last_sequence(Stream.LEDGER)
    if at.sequence is not None:
        head = await bus.last_sequence(Stream.LEDGER)
        if at.sequence > head:
            raise Failure(f"LEDGER ends at {head}, before {at.sequence}", "tabard status")
        return at.sequence
    assert at.time is not None
    return await stored_by(bus, Stream.LEDGER, at.time, at.span)


async def start_at(bus: Bus, stream: Stream, at: At) -> int:
    """The sequence of the first message of then or later; beyond the end if there is none yet."""
    if at.sequence is not None:
        return max(1, at.sequence)
    assert at.time is not None
    return await stored_by(bus, stream, at.time - 1) + 1


async def stored_by(bus: Bus, stream: Stream, time: int, span: int = 1) -> int:
    """The last sequence stored in the `span` ns from `time` (ns since the Unix epoch) or before.

    One less than the first that is kept if all came later; Failure if the time is yet to come. The
    bus stamps in order, so it is found by halving: a question for each doubling of the stream.
    """
    info = await bus.info(stream)
    if time > info.now:
        raise Failure(
            f"{date(time)} is yet to come: the bus's clock says {date(info.now)}", "tabard status"
        )
    low, high = info.first - 1, info.last
    while low < high:
        middle = (low + high + 1) // 2
        # Where messages expired or were replaced, the next one stands for those before it.
        stored = await bus.read(stream, middle, 1)
        if stored and stored[0].stored_at < time + span:
            low = stored[0].sequence
        else:
            high = middle - 1
    return low


async def stored_at(bus: Bus, sequence: int) -> int | None:
    """When LEDGER/`sequence` was stored; None for 0, which stands before the first."""
    if sequence == 0:
        return None
    stored = await bus.read(Stream.LEDGER, sequence, 1)
    return stored[0].stored_at if stored else None


async def begin_whole(bus: Bus, state: State, through: int | None = None) -> None:
    """Begin at the first event that is kept; tell if that is not the ledger's first."""
    if (entry := await begin(bus, state, through, whole=True)) is not None:
        tell(f"what led to LEDGER/{entry.sequence} was trimmed away; its archive has it")


async def replayed(
    bus: Bus, state: State, through: int
) -> AsyncIterator[tuple[Stored, LedgerRecord]]:
    """Fold the ledger into `state` through `through`, giving each event after it was folded.

    Raises Stopped as `catch_up`.
    """
    if state.sequence == 0 and through:
        await begin_whole(bus, state, through)
    while state.sequence < through:
        messages = await bus.read(Stream.LEDGER, state.sequence + 1)
        if not messages:
            return
        for message in messages:
            if message.sequence > through:
                return
            for record in await take_or_ask(bus, state, [message]):
                yield message, record


async def as_of(bus: Bus, sequence: int) -> str:
    """What a table of the past says of its time: `as of LEDGER/881, stored 2026-11-27T03:12Z`."""
    stored = await stored_at(bus, sequence)
    if stored is not None:
        return f"as of LEDGER/{sequence}, stored {date(stored)}"
    first = (await bus.info(Stream.LEDGER)).first_at
    begins = "LEDGER is empty" if first is None else f"LEDGER begins {date(first)}"
    return f"as of before the first event: {begins}"
