"""What the bus holds when a run is over: the ledger, checked by its chain, and what was observed."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tabard.bus.port import Bus, SequenceGap, Stored, Stream
from tabard.events import chain
from tabard.events.errors import ChainError
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import recorded

ASKS_MAX = 24
"""How often a batch of the ledger is asked for again that does not follow from the one before: as
often as readers of Tabard's do, since a damaged replica is no loss while another is whole."""
ASK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Evidence:
    ledger: tuple[LedgerRecord, ...]
    """From its first event on, without a hole."""
    chains: Mapping[int, str]
    """Each event's chain hash, hex, by its sequence."""
    observed: Mapping[int, Stored]
    """By sequence."""


async def gathered(bus: Bus) -> Evidence:
    """Read both streams from their first message to the last of now.

    ChainError or SequenceGap if the ledger does not follow from itself on any replica that
    answers, EventError if an event cannot be read.
    """
    ledger: list[LedgerRecord] = []
    chains: dict[int, str] = {}
    before = chain.GENESIS
    end = await bus.last_sequence(Stream.LEDGER)
    while len(ledger) < end:
        for message, follows in await _next(bus, len(ledger) + 1, before):
            ledger.append(recorded(Stream.LEDGER, message))
            chains[message.sequence] = follows.hex()
            before = follows
    return Evidence(tuple(ledger), chains, await _observed(bus))


async def _next(bus: Bus, start: int, before: bytes) -> Sequence[tuple[Stored, bytes]]:
    asked = 0
    while True:
        try:
            messages = await bus.read(Stream.LEDGER, start)
            if not messages:
                raise SequenceGap(f"LEDGER/{start} is not there, which was; run `tabard bus check`")
            return list(_followed(messages, before))
        except ChainError:
            asked += 1
            if asked >= ASKS_MAX:
                raise
            await asyncio.sleep(ASK_AGAIN_S)


def _followed(messages: Sequence[Stored], before: bytes) -> Iterator[tuple[Stored, bytes]]:
    for message in messages:
        before = chain.follow(before, message.payload, f"LEDGER/{message.sequence}")
        yield message, before


async def _observed(bus: Bus) -> dict[int, Stored]:
    found: dict[int, Stored] = {}
    start, end = 1, await bus.last_sequence(Stream.OBSERVED)
    while start <= end:
        messages = await bus.read(Stream.OBSERVED, start)
        if not messages:
            break
        found |= {message.sequence: message for message in messages}
        start = messages[-1].sequence + 1
    return found
