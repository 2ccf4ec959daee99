"""When pods were bound, as a node learns it: by following LEDGER on the bus."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tabard.bus.port import Bus, Stored, Stream, subject
from tabard.events.codec import TYPES
from tabard.events.ledger import CursorAdvanced, EndpointBound
from tabard.ledger.messages import recorded

BOUND = subject(Stream.LEDGER, TYPES[EndpointBound][0])
CURSOR = subject(Stream.LEDGER, TYPES[CursorAdvanced][0])


class LedgerWatch:
    """Notes for each pod when the batch that binds it is whole, by `time.perf_counter`.

    A batch is whole, and durable, when its last event is there: the cursor.
    """

    def __init__(self) -> None:
        self.bound: dict[str, float] = {}
        """UID → when."""
        self.sequences: dict[str, int] = {}
        """UID → LEDGER sequence of its binding."""
        self.sequence = 0
        """LEDGER's last, as far as it was followed."""
        self._moved = asyncio.Event()

    async def until(self, count: int) -> None:
        """Wait until so many pods are bound."""
        while len(self.bound) < count:
            await self.moved()

    async def moved(self) -> None:
        """Wait for more of them."""
        await self._moved.wait()

    async def _follow(self, bus: Bus, start: int) -> None:
        waiting: list[str] = []
        tail = bus.tail(Stream.LEDGER, start)
        try:
            async for messages in tail:
                whole = self._take(messages, waiting)
                self.sequence = messages[-1].sequence
                if whole:
                    self._moved.set()
                    self._moved = asyncio.Event()
        finally:
            await tail.aclose()

    def _take(self, messages: list[Stored], waiting: list[str]) -> bool:
        """Whether a batch has become whole."""
        now = time.perf_counter()
        whole = False
        for message in messages:
            if message.subject == BOUND:
                uid = recorded(Stream.LEDGER, message).event.uid
                self.sequences[uid] = message.sequence
                waiting.append(uid)
            elif message.subject == CURSOR:
                self.bound.update(dict.fromkeys(waiting, now))
                waiting.clear()
                whole = True
        return whole


@asynccontextmanager
async def watching(bus: Bus) -> AsyncIterator[LedgerWatch]:
    """A watch on LEDGER from its present end on."""
    watch = LedgerWatch()
    start = await bus.last_sequence(Stream.LEDGER) + 1
    follower = asyncio.create_task(watch._follow(bus, start), name="ledger watch")
    try:
        yield watch
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
