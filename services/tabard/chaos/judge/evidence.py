"""What the bus holds when a run is over: the ledger, checked by its chain, and OBSERVED."""

import asyncio
from dataclasses import dataclass

from tabard.bus.port import Bus, BusError, SequenceGap, Stored, Stream
from tabard.events import chain
from tabard.events.errors import ChainError, EventError
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.follow import ASKS_MAX
from tabard.ledger.messages import recorded

ASK_AGAIN_S = 0.1
"""Before a batch of the ledger that does not follow from the one before is asked for again: a
damaged replica is no loss while another is whole."""


@dataclass(frozen=True, slots=True)
class Evidence:
    ledger: tuple[LedgerRecord, ...]
    """From its first event on, without a hole."""
    stored: tuple[Stored, ...]
    """The same, as the bus holds it."""
    observed: tuple[Stored, ...]
    broken: str = ""
    """Why not all of it could be read, or empty: then it ends before what could not."""


async def gathered(bus: Bus) -> Evidence:
    """Read both streams from their first message to the last of now."""
    stored: list[Stored] = []
    ledger: list[LedgerRecord] = []
    observed: list[Stored] = []
    broken = ""
    try:
        observed += await _observed(bus)
        before = chain.GENESIS
        end = await bus.last_sequence(Stream.LEDGER)
        while len(stored) < end:
            messages, before = await _next(bus, len(stored) + 1, before)
            for message in messages:
                ledger.append(recorded(Stream.LEDGER, message))
                stored.append(message)
    except (BusError, EventError) as error:
        broken = f"what the bus holds cannot be read whole: {error}"
    return Evidence(tuple(ledger), tuple(stored), tuple(observed), broken)


async def _next(bus: Bus, start: int, before: bytes) -> tuple[list[Stored], bytes]:
    """The next messages, and the chain hash of the last one."""
    asked = 0
    while True:
        try:
            messages = await bus.read(Stream.LEDGER, start)
            if not messages:
                raise SequenceGap(f"LEDGER/{start} is not there, which was; run `tabard bus check`")
            follows = before
            for message in messages:
                follows = chain.follow(follows, message.payload, f"LEDGER/{message.sequence}")
            return messages, follows
        except ChainError:
            asked += 1
            if asked >= ASKS_MAX:
                raise
            await asyncio.sleep(ASK_AGAIN_S)


async def _observed(bus: Bus) -> list[Stored]:
    found: list[Stored] = []
    start, end = 1, await bus.last_sequence(Stream.OBSERVED)
    while start <= end:
        messages = await bus.read(Stream.OBSERVED, start)
        if not messages:
            break
        found += messages
        start = messages[-1].sequence + 1
    return found
