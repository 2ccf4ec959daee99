"""Leading: OBSERVED in, LEDGER out.

The state runs ahead of the ledger by at most the one batch that is being appended, and each
batch carries the cursor through which OBSERVED has had its effect.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from tabard.allocator.allowance import EVENTS_PER_S, REFUSAL_COST, Allowance
from tabard.allocator.batch import Batch
from tabard.allocator.commands import Reject, Tick
from tabard.allocator.decide import ahead, answer, decide
from tabard.allocator.figures import Figures
from tabard.allocator.inbox import Arrival, Inbox
from tabard.allocator.pace import Pace
from tabard.allocator.patience import Patience
from tabard.allocator.plan import Indexes
from tabard.allocator.quarantine import operators_word
from tabard.allocator.saving import Saver
from tabard.allocator.snapshots import Snapshots
from tabard.allocator.superseding import is_pair, is_undone, never_ran
from tabard.allocator.words import Words, unattended
from tabard.allocator.writer import FencedError, append
from tabard.bus.port import Bus, BusError, BusUnavailable, Stream
from tabard.events.errors import EventError
from tabard.events.ledger import EventQuarantined, LedgerEvent
from tabard.events.observed import PodStarted
from tabard.ledger.messages import holds_up, speaker
from tabard.ledger.state import State
from tabard.process.failures import tasks_as_one

_log = structlog.get_logger()

OBSERVED_PER_BATCH_MAX = 1_000
LISTENING_GAP_S = 5.0
"""Longest time between two ticks in which nodes are taken to have been heard."""


@dataclass(frozen=True, slots=True)
class _Poison:
    """An observed event that cannot be taken."""

    sequence: int
    reason: str


class Leader:
    """Decides on `state`, which is through the ledger's end and this process's alone to change."""

    def __init__(
        self,
        bus: Bus,
        state: State,
        words: Words,
        saver: Saver,
        snapshots: Snapshots,
        figures: Figures,
        patience: Patience,
        clock: Callable[[], int],
        pace: Pace,
    ) -> None:
        self._bus = bus
        self._state = state
        self._words = words
        self._saver = saver
        self._snapshots = snapshots
        self._figures = figures
        self._patience = patience
        self._clock = clock
        self._pace = pace
        self._indexes = Indexes(state, pace.node_ranges)
        self._cursor = state.cursors.get(Stream.OBSERVED, 0)
        self._inbox = Inbox()
        self._allowance = Allowance()
        self._tick_at = 0.0
        self._ticked_at = 0.0
        self._passed = 0
        self._foreseen: list[LedgerEvent] | None = None
        """The answer to the head, where it was looked for already and nothing has changed since."""

    @property
    def cursor(self) -> int:
        """Through which OBSERVED is decided."""
        return self._cursor

    @property
    def waiting(self) -> int:
        """Observed messages that have come and are not decided."""
        return len(self._inbox)

    async def run(self) -> None:
        """Lead until patience ends and what is being appended is in the ledger.

        Raises FencedError when another allocator took the lead: then the state is nobody's.
        """
        self._hear(self._words.watermarks)
        self._words.attend = self._hear
        try:
            async with tasks_as_one() as tasks:
                readers = (
                    tasks.create_task(self._collect(), name="allocator.collect"),
                    tasks.create_task(self._keep_flows(), name="allocator.keep_flows"),
                    tasks.create_task(self._wake_at_end(), name="allocator.end"),
                )
                while not self._patience.ended:
                    await self._step(tasks)
                for reader in readers:
                    reader.cancel()
        finally:
            self._words.attend = unattended
        _log.info("allocator.drained", sequence=self._state.sequence, cursor=self._cursor)

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
        self._saver.save_if_due(self._state, tasks)
        self._snapshots.offer(self._state)

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
        self._foreseen = None
        for _ in range(OBSERVED_PER_BATCH_MAX):
            arrived = self._inbox.head
            if arrived is None:
                break
            sequence = arrived.message.sequence
            if sequence > self._cursor:
                events = self._decided(arrived, batch.at)
                if isinstance(events, _Poison):
                    return events
                if len(events) > batch.room:
                    if not batch.messages:
                        # Too long for any batch: what may go ahead does, and the rest is decided
                        # again. An even number keeps the two events of a refused pod together.
                        most = batch.room - batch.room % 2
                        batch.add(events[: min(ahead(events), most)], arrived.record)
                        assert batch.messages, "a decision's core fits into one batch"
                    break
                if self._affords(arrived, events, batch.at):
                    batch.add(events, arrived.record)
                if sequence > self._cursor + 1:
                    _log.error("allocator.missed", first=self._cursor + 1, through=sequence - 1)
                self._cursor = sequence
            self._inbox.pop()
        return None

    def _affords(self, arrived: Arrival, events: list[LedgerEvent], now: int) -> bool:
        """Whether a node that said this may still cause these events; else it is passed over."""
        node, said = speaker(arrived.message), arrived.said
        if node and events:
            told = node in self._allowance.spent
            refused = isinstance(events[0], EventQuarantined)
            if not self._allowance.take(node, REFUSAL_COST if refused else len(events), now):
                self._figures.unheeded += 1
                if not told:
                    _log.error("allocator.node_unheeded", node=node, events_per_s=EVENTS_PER_S)
                return False
        if isinstance(said, EventError):
            subject = arrived.message.subject
            _log.warning("allocator.refused", subject=subject, reason=str(said))
        return True

    def _decided(self, arrived: Arrival, now: int) -> list[LedgerEvent] | _Poison:
        """The answer to an event, or none where what comes later undoes it."""
        if self._never_ran(arrived):
            self._figures.superseded += 1
            return []
        foreseen, self._foreseen = self._foreseen, None
        events = self._answer(arrived, now) if foreseen is None else foreseen
        if not isinstance(events, _Poison) and self._is_undone(arrived, events, now):
            self._figures.superseded += 1
            return []
        return events

    def _answer(self, arrived: Arrival, now: int) -> list[LedgerEvent] | _Poison:
        message, said = arrived.message, arrived.said
        if isinstance(said, EventError):
            if holds_up(message, said):
                return _Poison(message.sequence, str(said))
            reject = Reject(Stream.OBSERVED.value, message.sequence, str(said))
            return decide(self._state, self._indexes, reject)
        try:
            return answer(self._state, self._indexes, said, now)
        except Exception as fault:  # of ours; deciding again would only repeat it
            _log.exception("allocator.undecidable", sequence=message.sequence)
            return _Poison(message.sequence, f"it cannot be decided: {fault!r}")

    def _never_ran(self, arrived: Arrival) -> bool:
        """Whether a pod started that is known to have stopped, and may be left out."""
        pod = arrived.event
        if not isinstance(pod, PodStarted) or not self._inbox.stops(pod.uid):
            return False
        return self._inbox.told_once(pod.addresses) and never_ran(self._state, pod)

    def _is_undone(self, arrived: Arrival, events: list[LedgerEvent], now: int) -> bool:
        """Whether what comes next undoes these effects, so that they may be left out."""
        first, later = arrived.event, self._inbox.next
        if not events or first is None or later is None or later.event is None:
            return False
        if not is_pair(self._state, first, later.event):
            return False
        after = self._answer(later, now)
        if isinstance(after, _Poison) or not is_undone(self._state, first, events, after):
            return False
        self._foreseen = after
        return True

    async def _append(self, batch: Batch) -> None:
        batch.close(self._cursor)
        began = time.perf_counter()
        await append(self._bus, batch.messages, batch.expected_last, self._patience.back_off)
        self._figures.appended(batch.messages, time.perf_counter() - began)
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

    # What runs beside

    async def _collect(self) -> None:
        async with aclosing(self._bus.tail(Stream.OBSERVED, self._cursor + 1)) as batches:
            async for messages in batches:
                await self._inbox.put(messages)

    def _hear(self, watermarks: Mapping[str, int]) -> None:
        """Nodes said how far they are. A relabelled pod waits for them, not for the clock."""
        for node, sequence in watermarks.items():
            self._indexes.watermarks.say(node, sequence, self._state.sequence)
        passed = 0
        if self._state.relabels:
            passed = self._indexes.watermarks.passed(self._state)
            if passed > self._passed:
                self._tick_at = 0.0
                self._inbox.wake()
        self._passed = passed

    async def _keep_flows(self) -> None:
        """FLOWS ends with its server; on a guarded bus no agent may make it anew."""
        while True:
            try:
                await self._bus.keep_flows()
            except BusError as error:
                _log.warning("allocator.flows_not_kept", reason=str(error))
            await asyncio.sleep(self._pace.flows_s)

    async def _wake_at_end(self) -> None:
        await self._patience.wait()
        self._inbox.wake()
