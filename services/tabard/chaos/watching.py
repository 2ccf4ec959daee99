"""Watching a run: who says what on STATUS, and which ledger a reader is shown."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from tabard.bus.port import Bus, BusError, Stored, Stream
from tabard.chaos.record import Record, Seen, Word
from tabard.events.errors import EventError
from tabard.events.status import AllocatorStatus, NodeStatus
from tabard.ledger.follow import follow
from tabard.ledger.messages import recorded
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State


class Watch:
    """Writes down each word and each ledger event as it comes, while `run` runs."""

    def __init__(self, bus: Bus, record: Record) -> None:
        self._bus = bus
        self._record = record

    async def run(self) -> None:
        """For ever. A reader who is stopped for good is told as a failure of the run."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(), name="watch.status")
            tasks.create_task(self._read(), name="watch.ledger")

    async def _hear(self) -> None:
        with self._telling("who hears what nodes and allocators say"):
            async with aclosing(self._bus.tail(Stream.STATUS, 1)) as batches:
                async for messages in batches:
                    heard_at = time.time_ns()
                    said = (word(message, heard_at) for message in messages)
                    self._record.words += filter(None, said)

    async def _read(self) -> None:
        state = State()
        with self._telling("a reader of the ledger"):
            async with aclosing(follow(self._bus, state, records_max=1)) as batches:
                async for _ in batches:
                    seen = Seen(state.sequence, state.chain.hex(), time.time_ns())
                    self._record.seen.append(seen)

    @contextmanager
    def _telling(self, who: str) -> Iterator[None]:
        try:
            yield
        except (Stopped, BusError) as error:
            self._record.failures.append(f"{who} was stopped: {error}")


def word(message: Stored, heard_at: int) -> Word | None:
    """None for a message that is no readable word of a node or an allocator."""
    try:
        event = recorded(Stream.STATUS, message).event
    except EventError:
        return None
    match event:
        case NodeStatus() as said:
            who = said.holder
            return Word(
                said.node,
                "node",
                said.sequence,
                message.stored_at,
                heard_at,
                role="stopped" if said.stopped else "",
                holder=f"{who.pid}/{who.token.hex()}" if who else "",
                place=message.sequence,
                digest=said.digest.hex(),
                digest_at=said.digest_at,
            )
        case AllocatorStatus() as said:
            return Word(
                said.name,
                "allocator",
                said.sequence,
                message.stored_at,
                heard_at,
                role=said.role,
                epoch=said.epoch,
                holder=said.holder,
                place=message.sequence,
            )
        case _:
            return None
