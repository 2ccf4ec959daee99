"""Running an allocator in a test: its bus, its checkpoint, and what its ledger says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from deciding import SETTINGS
from tabard.allocator.pace import Pace
from tabard.allocator.service import Allocator
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Bus, Stream
from tabard.events.ledger import (
    CursorAdvanced,
    Enforcement,
    EpochClaimed,
    LedgerEvent,
    SettingsAdopted,
)
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import first_cause, observed, recorded
from tabard.ledger.snapshot import freeze, thaw
from tabard.ledger.state import State

FAST = Pace(tick_s=0.01, poll_s=0.005, checkpoint_s=0.0, look_s=0.001, silence_s=0.0, spread_s=0.0)
"""A follower takes the lead at once: for allocators of which one runs at a time."""


class MemoryCheckpoint:
    """A checkpoint that outlives its allocator, as a file does."""

    path = "memory"

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.saves = 0

    async def load(self) -> State | None:
        await asyncio.sleep(0)
        return thaw(self.chunks) if self.chunks else None

    def save(self, state: State, extra: bytes = b"") -> "MemorySave":
        return MemorySave(self, freeze(state))


@dataclass
class MemorySave:
    checkpoint: MemoryCheckpoint
    chunks: list[bytes]

    def __await__(self) -> Generator[None, None, None]:
        yield
        self.checkpoint.chunks = self.chunks
        self.checkpoint.saves += 1


def allocator(
    bus: Bus,
    checkpoint: Any = None,
    *,
    settings: SettingsAdopted = SETTINGS,
    holder: str = "one",
    enforcement: Enforcement | None = None,
    clock: Callable[[], int] = lambda: 0,
    pace: Pace = FAST,
) -> Allocator:
    checkpoint = MemoryCheckpoint() if checkpoint is None else checkpoint
    return Allocator(
        bus, checkpoint, settings, holder, enforcement=enforcement, clock=clock, pace=pace
    )


@contextlib.asynccontextmanager
async def running(bus: Bus, *args: Any, **more: Any) -> AsyncIterator[asyncio.Task[None]]:
    """An allocator at work; stopped, and waited for, at the end."""
    one = allocator(bus, *args, **more)
    task = asyncio.create_task(one.run(), name="allocator")
    try:
        yield task
    finally:
        one.stop()
        await task


async def publish(bus: Bus, *events: Any) -> list[int]:
    messages = [observed(event, first_cause("", number)) for number, event in enumerate(events)]
    return await bus.publish(Stream.OBSERVED, messages)


async def cursor(bus: Bus) -> int:
    """How far the ledger has taken OBSERVED."""
    last = await bus.last_sequence(Stream.LEDGER)
    if last == 0:
        return 0
    event = recorded(Stream.LEDGER, (await bus.read(Stream.LEDGER, last, 1))[0]).event
    # Every batch ends with the cursor, but on a real bus readers see its beginning first.
    return event.sequence if isinstance(event, CursorAdvanced) else -1


async def caught_up(bus: Bus, task: asyncio.Task[None] | None = None) -> None:
    """Return when all that was published has had its effect; fail with `task` if that ends."""
    through = await bus.last_sequence(Stream.OBSERVED)
    async with asyncio.timeout(60):
        while await cursor(bus) < through:
            if task is not None and task.done():
                await task
                raise AssertionError("the allocator ended")
            await asyncio.sleep(0 if isinstance(bus, MemoryBus) else 0.02)


async def until(holds: Callable[[], Awaitable[bool]], look_s: float = 0.0) -> None:
    """Return when `holds` says so, asked every `look_s`."""
    async with asyncio.timeout(60):
        while True:
            if await holds():
                return
            await asyncio.sleep(look_s)


async def for_a_while(seconds: float) -> None:
    """Let others run: for what must not happen meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def over() -> bool:
        return loop.time() >= end

    await until(over, 0.01)


async def ledger(bus: Bus) -> list[LedgerEvent]:
    """Every event on the ledger."""
    events: list[LedgerEvent] = []
    while messages := await bus.read(Stream.LEDGER, len(events) + 1):
        events += [recorded(Stream.LEDGER, message).event for message in messages]
    return events


async def effects(bus: Bus) -> list[LedgerEvent]:
    """The ledger without what only says who wrote it and how far that one was."""
    said = await ledger(bus)
    return [event for event in said if not isinstance(event, EpochClaimed | CursorAdvanced)]


async def folded(bus: Bus) -> State:
    return await catch_up(bus, State())
