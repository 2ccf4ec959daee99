"""Following the ledger on a bus: catching up, and staying with it."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import structlog

from tabard.bus.port import Bus, SequenceGap, Stored, Stream
from tabard.events.errors import EventError
from tabard.events.ledger import EventQuarantined
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import quarantine_subject, recorded
from tabard.ledger.reader import Stopped, follows, take
from tabard.ledger.start import begin, refuse_trimmed
from tabard.ledger.state import State

log = structlog.get_logger(__name__)

ASKS_MAX = 24
"""How often an event is asked for again that does not follow from the one before it."""
RECORDS_MAX = 128
"""Most records that `follow` yields at once unless told otherwise: each takes ten times its bytes
while it is held."""


async def catch_up(
    bus: Bus,
    state: State,
    through: int | None = None,
    observe: Callable[[LedgerRecord], None] | None = None,
) -> State:
    """Fold the ledger into `state` through sequence `through` (the present end if None), and show
    `observe` each record after it was folded.

    An empty `state` begins at the newest snapshot by then; with `observe`, at the ledger's first
    event, or if that was trimmed away at the oldest snapshot. Raises Stopped before an event that
    cannot be taken and is not quarantined, TrimmedAway if what comes next is not kept.
    """
    end = await bus.last_sequence(Stream.LEDGER) if through is None else through
    if state.sequence == 0 and end:
        await begin(bus, state, end, whole=observe is not None)
    try:
        while state.sequence < end:
            messages = await bus.read(Stream.LEDGER, state.sequence + 1)
            if not messages:
                break
            wanted = [message for message in messages if message.sequence <= end]
            for record in await take_or_ask(bus, state, wanted):
                if observe is not None:
                    observe(record)
    except SequenceGap:
        await refuse_trimmed(bus, state)
        raise
    return state


async def follow(
    bus: Bus, state: State, records_max: int = RECORDS_MAX
) -> AsyncGenerator[list[LedgerRecord], None]:
    """Fold the ledger into `state` for ever; yields each batch of records after it was folded.

    A batch has at most `records_max`: with 1 each step of the state is seen. Between two yields
    `state` is through the last record given. Raises Stopped and TrimmedAway as `catch_up`; it does
    not begin at a snapshot: who follows from nothing catches up first, or calls `begin`.
    """
    tail = bus.tail(Stream.LEDGER, state.sequence + 1)
    try:
        async for messages in tail:
            for start in range(0, len(messages), records_max):
                some = messages[start : start + records_max]
                records: list[LedgerRecord] = []
                try:
                    await _take_or_ask(bus, state, some, records)
                except Stopped:
                    if records:
                        yield records  # they are folded: who follows must hear of them
                    raise
                yield records
                await asyncio.sleep(0)  # in a long catch-up others have a turn, and what comes next
    except SequenceGap:
        await refuse_trimmed(bus, state)
        raise
    finally:
        await tail.aclose()


async def take_or_ask(bus: Bus, state: State, messages: list[Stored]) -> list[LedgerRecord]:
    """Fold messages; before one that cannot be taken, ask the bus whether it was quarantined, and
    whether another replica has one that follows."""
    records: list[LedgerRecord] = []
    await _take_or_ask(bus, state, messages, records)
    return records


async def _take_or_ask(
    bus: Bus, state: State, messages: list[Stored], records: list[LedgerRecord]
) -> None:
    """As `take_or_ask`; into `records`, which holds what was folded also when this raises."""
    messages, at = list(messages), 0
    while at < len(messages):
        try:
            for message in messages[at:]:
                if (record := take(state, message)) is not None:
                    records.append(record)
                at += 1
        except Stopped as error:
            if await _quarantined(bus, state, error.sequence):
                continue
            others = await _others(bus, state, len(messages) - at) if error.unchained else []
            if not others:
                raise
            messages[at : at + len(others)] = others


async def _others(bus: Bus, state: State, limit: int) -> list[Stored]:
    """The next messages, as a replica has them whose first one follows; [] if none has.

    Any replica answers a read, and one may be damaged: so the bus is asked several times.
    """
    for asked in range(1, ASKS_MAX + 1):
        found = await bus.read(Stream.LEDGER, state.sequence + 1, limit)
        if found and follows(state, found[0]):
            log.warning("ledger.replica_differs", sequence=found[0].sequence, asked=asked)
            return found
    return []


async def _quarantined(bus: Bus, state: State, sequence: int) -> bool:
    """Whether the ledger itself says, further on, that `sequence` is to be skipped; notes it."""
    found = await bus.last_on_subject(
        Stream.LEDGER, quarantine_subject(Stream.LEDGER, Stream.LEDGER, sequence)
    )
    if found is None or found.sequence <= sequence:
        return False
    try:
        event = recorded(Stream.LEDGER, found).event
    except EventError:
        return False
    if not isinstance(event, EventQuarantined) or event.sequence != sequence:
        return False
    state.quarantined[(Stream.LEDGER, sequence)] = event.reason
    return True
