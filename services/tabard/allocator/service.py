"""The allocator at work: OBSERVED in, LEDGER out.

It may be killed or cancelled anywhere. Its state runs ahead of the ledger by at most the one batch
that is being appended, and each batch carries the cursor through which OBSERVED has had its effect.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from tabard.allocator.batch import Batch
from tabard.allocator.commands import Limits, Reject, Tick
from tabard.allocator.decide import ahead, answer, decide
from tabard.allocator.figures import Figures
from tabard.allocator.inbox import Inbox
from tabard.allocator.patience import Patience, StopRequested
from tabard.allocator.plan import Indexes
from tabard.allocator.quarantine import operators_word
from tabard.allocator.startup import claim, restored
from tabard.allocator.writer import FencedError, append
from tabard.bus.port import Bus, BusUnavailable, Stream
from tabard.events.errors import EventError
from tabard.events.ledger import Enforcement, SettingsAdopted
from tabard.events.status import NodeStatus
from tabard.ledger.checkpoint import Checkpoint, CheckpointError, pause_s
from tabard.ledger.messages import holds_up, recorded
from tabard.ledger.state import State, enforcement_of

_log = structlog.get_logger()

OBSERVED_PER_BATCH_MAX = 1_000
LISTENING_GAP_S = 5.0
"""Longest time between two ticks in which nodes are taken to have been heard."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done that no event asks for, in seconds."""

    tick_s: float = 1.0
    poll_s: float = 0.5
    """Between two looks for an operator's word while stopped."""
    checkpoint_s: float = 10.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Poison:
    """An observed event that cannot be taken."""

    sequence: int
    reason: str


class Allocator:
    """One allocator process. `holder` must be unique to it; `clock` gives ns since the epoch.

    `enforcement`, if given, is adopted where the ledger has another; `configured` says what a new
    ledger begins with.
    """

    def __init__(
        self,
        bus: Bus,
        checkpoint: Checkpoint,
        configured: SettingsAdopted,
        holder: str,
        *,
        enforcement: Enforcement | None = None,
        clock: Callable[[], int] = time.time_ns,
        pace: Pace | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._bus = bus
        self._checkpoint = checkpoint
        self._configured = configured
        self._enforcement = enforcement
        self._holder = holder
        self._clock = clock
        self._pace = pace if pace is not None else Pace()
        self._patience = patience if patience is not None else Patience()
        self.leader: Leader | None = None
        """From when it leads."""

    def stop(self) -> None:
        """Finish what is being appended, save a checkpoint, and let `run` return."""
        self._patience.end()

    async def run(self) -> None:
        """Take the lead and keep it until `stop`.

        Raises FencedError when another allocator takes it, SettingsMismatch before claiming
        anything, and BusError or LostError for a bus that is not what it must be.
        """
        bus, patience = self._bus, self._patience
        try:
            state, vouched = await restored(bus, self._checkpoint, patience, self._pace.poll_s)
            await claim(
                bus,
                state,
                self._configured,
                self._enforcement,
                self._holder,
                vouched,
                patience,
                self._clock,
            )
            _log.info(
                "allocator.leading",
                epoch=state.epoch,
                sequence=state.sequence,
                enforcement=enforcement_of(state),
            )
            self.leader = Leader(bus, self._checkpoint, state, patience, self._clock, self._pace)
            await self.leader.run()
        except StopRequested:
            # Whatever was waited for is learnt from the ledger at the next start.
            _log.info("allocator.stopped_waiting")
        finally:
            self.leader = None


class Leader:
    """Decides on `state`, which is through the ledger's end and this process's alone to change."""

    def __init__(
        self,
        bus: Bus,
        checkpoint: Checkpoint,
        state: State,
        patience: Patience,
        clock: Callable[[], int],
        pace: Pace,
    ) -> None:
        self._bus = bus
        self._checkpoint = checkpoint
        self._state = state
        self._patience = patience
        self._clock = clock
        self._pace = pace
        self._indexes = Indexes(state)
        self._cursor = state.cursors.get(Stream.OBSERVED, 0)
        self.figures = Figures()
        self._inbox = Inbox()
        self._tick_at = 0.0
        self._ticked_at = 0.0
        self._passed = 0
        self._save_at = 0.0
        self._saved = 0
        self._saving: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def cursor(self) -> int:
        """Through which OBSERVED is decided."""
        return self._cursor

    @property
    def waiting(self) -> int:
        """Observed messages that have come and are not decided."""
        return len(self._inbox)

    async def run(self) -> None:
        """Lead until patience ends; then save a checkpoint."""
        try:
            async with asyncio.TaskGroup() as tasks:
                readers = (
                    tasks.create_task(self._collect(), name="allocator.collect"),
                    tasks.create_task(self._watch(), name="allocator.watch"),
                    tasks.create_task(self._wake_at_end(), name="allocator.end"),
                )
                while not self._patience.ended:
                    await self._step(tasks)
                for reader in readers:
                    reader.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        await self._written(self._checkpoint.save(self._state))
        _log.info("allocator.drained", sequence=self._state.sequence)

    async def _step(self, tasks: asyncio.TaskGroup) -> None:
        """One batch: what is due and what has come, decided in order and appended."""
        loop = asyncio.get_running_loop()
        await self._inbox.wait(max(0.0, self._tick_at - loop.time()))
        batch = Batch(self._state, self._indexes, self._clock())
        ticked = loop.time() >= self._tick_at
        if ticked:
            self._listen(loop.time())
            if self._tick(batch):
                self._tick_at = loop.time() + self._pace.tick_s
        poison = self._fill(batch)
        if batch.messages or self._cursor != self._state.cursors.get(Stream.OBSERVED, 0):
            await self._append(batch)
        elif ticked:
            await self._check_lead()
        if poison is not None:
            await self._go_past(poison)
        self._save_if_due(tasks)

    def _listen(self, now: float) -> None:
        """Let time go by for nodes, if they could be heard since the tick before."""
        elapsed, self._ticked_at = now - self._ticked_at, now
        if elapsed <= max(LISTENING_GAP_S, 2 * self._pace.tick_s):
            self._indexes.watermarks.listen(self._state, round(elapsed * 1e9))
        else:
            self._indexes.watermarks.pause()

    def _tick(self, batch: Batch) -> bool:
        """Add all that is due, or as much as the batch takes; whether that was all."""
        tick = Tick(batch.at, self._pace.limits)
        while events := decide(self._state, self._indexes, tick):
            if len(events) > batch.room:
                return False
            batch.add(events)
        return True

    def _fill(self, batch: Batch) -> _Poison | None:
        """Decide what has come, as far as the batch takes it; the event before which to stop."""
        for _ in range(OBSERVED_PER_BATCH_MAX):
            message = self._inbox.head
            if message is None:
                break
            if message.sequence > self._cursor:
                record = None
                try:
                    record = recorded(Stream.OBSERVED, message)
                    events = answer(self._state, self._indexes, record, batch.at)
                except EventError as error:
                    if holds_up(message, error):
                        return _Poison(message.sequence, str(error))
                    _log.warning("allocator.refused", subject=message.subject, reason=str(error))
                    reject = Reject(Stream.OBSERVED.value, message.sequence, str(error))
                    events = decide(self._state, self._indexes, reject)
                except Exception as error:  # a fault of ours; deciding again would only repeat it
                    _log.exception("allocator.undecidable", sequence=message.sequence)
                    return _Poison(message.sequence, f"it cannot be decided: {error!r}")
                if len(events) > batch.room:
                    if not batch.messages:
                        # Too long for any batch: what may go ahead does, and the rest is decided
                        # again. An even number keeps the two events of a refused pod together.
                        most = batch.room - batch.room % 2
                        batch.add(events[: min(ahead(events), most)], record)
                        assert batch.messages, "a decision's core fits into one batch"
                    break
                batch.add(events, record)
                if message.sequence > self._cursor + 1:
                    _log.error(
                        "allocator.missed", first=self._cursor + 1, through=message.sequence - 1
                    )
                self._cursor = message.sequence
            self._inbox.pop()
        return None

    async def _append(self, batch: Batch) -> None:
        batch.close(self._cursor)
        began = time.perf_counter()
        await append(self._bus, batch.messages, batch.expected_last, self._patience.back_off)
        self.figures.appended(batch.messages, time.perf_counter() - began)
        _log.debug("allocator.appended", sequence=self._state.sequence, cursor=self._cursor)

    async def _check_lead(self) -> None:
        """An allocator with nothing to append must learn of its successor too."""
        try:
            last = await self._bus.last_sequence(Stream.LEDGER)
        except BusUnavailable:
            self._ticked_at = 0.0  # nor was anybody heard
            return
        if last > self._state.sequence:
            raise FencedError(
                f"LEDGER/{self._state.sequence + 1} was written by someone else: another allocator "
                "leads"
            )

    async def _go_past(self, poison: _Poison) -> None:
        """Stand before an event, publishing nothing, until an operator says to go on."""
        reason = await operators_word(
            self._bus,
            self._patience,
            Stream.OBSERVED,
            poison.sequence,
            poison.reason,
            self._pace.poll_s,
        )
        batch = Batch(self._state, self._indexes, self._clock())
        reject = Reject(Stream.OBSERVED.value, poison.sequence, reason)
        batch.add(decide(self._state, self._indexes, reject))
        self._inbox.pop()
        self._cursor = poison.sequence
        await self._append(batch)

    def _save_if_due(self, tasks: asyncio.TaskGroup) -> None:
        """Start a checkpoint; called when the state is the ledger's, neither more nor less."""
        now = asyncio.get_running_loop().time()
        if now < self._save_at or self._saved == self._state.sequence:
            return
        if self._saving is not None and not self._saving.done():
            return
        started = time.perf_counter()
        saving = self._checkpoint.save(self._state)
        took = time.perf_counter() - started
        self._save_at = now + pause_s(self._pace.checkpoint_s, took)
        self._saved = self._state.sequence
        self._saving = tasks.create_task(self._written(saving), name="allocator.save")

    async def _written(self, saving: Awaitable[None]) -> None:
        try:
            await saving
        except CheckpointError as error:
            # It only saves time at the next start.
            _log.error("checkpoint.failed", reason=str(error))

    # What runs beside

    async def _collect(self) -> None:
        tail = self._bus.tail(Stream.OBSERVED, self._cursor + 1)
        try:
            async for messages in tail:
                await self._inbox.put(messages)
        finally:
            await tail.aclose()

    async def _watch(self) -> None:
        """Keep the last word of each node."""
        tail = self._bus.tail(Stream.STATUS, 1)
        try:
            async for messages in tail:
                for message in messages:
                    try:
                        status = recorded(Stream.STATUS, message).event
                    except EventError as error:
                        # The node's watermark stays where it was, which holds releases back.
                        self.figures.unheard += 1
                        _log.warning("allocator.status_unreadable", reason=str(error))
                        continue
                    if isinstance(status, NodeStatus):
                        end = self._state.sequence
                        self._indexes.watermarks.say(status.node, status.sequence, end)
                self._tick_if_ready()
        finally:
            await tail.aclose()

    def _tick_if_ready(self) -> None:
        """A relabelled pod waits for nodes, not for the clock."""
        passed = 0
        if self._state.relabels:
            passed = self._indexes.watermarks.passed(self._state)
            if passed > self._passed:
                self._tick_at = 0.0
                self._inbox.wake()
        self._passed = passed

    async def _wake_at_end(self) -> None:
        await self._patience.wait()
        self._inbox.wake()
