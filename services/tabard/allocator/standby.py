"""The hot standby: it follows the ledger and the leader, until the lead is to be taken.

When to take it is a matter of liveness alone. Whoever takes it wrongly costs the other a reload: an
allocator that lost its place cannot append.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing

import structlog

from tabard.allocator.leadership import name_of
from tabard.allocator.pace import Pace
from tabard.allocator.patience import Patience, StopRequested
from tabard.allocator.plan import REASON_MAX
from tabard.allocator.quarantine import operators_word
from tabard.allocator.saving import Saver
from tabard.allocator.vigil import Vigil
from tabard.allocator.words import Words
from tabard.allocator.writer import LostError
from tabard.bus.port import Bus, BusUnavailable, Stream
from tabard.events.ledger import EventQuarantined
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.follow import follow
from tabard.ledger.messages import allocator_subject
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State
from tabard.process.failures import tasks_as_one

_log = structlog.get_logger()

ANSWER_S_MAX = 1.0
"""Longest that a look at the bus may take: after that it counts as not answered."""
NEAR_S = 0.02
"""Between two looks once the leader has stepped down, or this one's turn has come: all that was
written is about to be folded."""
SHORT_LOOKS_MAX = 20
"""After so many looks in a row at a ledger that ends before what was folded, it is lost."""


class Standby:
    """Folds the ledger into `state`, which is nobody else's meanwhile.

    `holder` is this process. It takes the lead at once from an earlier process of its own name
    while it is `fresh`: later, such a one is another that bears the name by mistake. `draw` gives
    numbers in [0, 1), so that not all claim at once. `check` is given the state once it is the
    ledger's, and raises what keeps this one from ever leading.
    """

    def __init__(
        self,
        bus: Bus,
        state: State,
        holder: str,
        words: Words,
        saver: Saver,
        patience: Patience,
        pace: Pace,
        draw: Callable[[], float],
        check: Callable[[State], None],
        *,
        fresh: bool,
    ) -> None:
        self._bus = bus
        self._state = state
        self._holder = holder
        self._words = words
        self._saver = saver
        self._patience = patience
        self._pace = pace
        self._draw = draw
        self._check = check
        self._fresh = fresh
        self._vigil = Vigil(pace.silence_s, pace.silence_s / 2)
        self._head: int | None = None
        self._short_looks = 0
        self._claim_at: float | None = None
        self.synced = False
        """Whether it has once folded all that the ledger held."""
        self.vacancy = ""
        """Why the lead is to be taken, or empty."""
        self.vouched: dict[int, EventQuarantined] = {}
        """Ledger events that an operator let pass, which the ledger must still record. Until then
        the state is not kept: whoever began with it would never record them."""

    @property
    def lag(self) -> int | None:
        """Ledger events that it has not folded, as of the last look; None if that said nothing."""
        return None if self._head is None else max(0, self._head - self._state.sequence)

    async def run(self) -> None:
        """Return when the lead is to be taken, with the state at the ledger's end.

        Raises StopRequested, LostError if the ledger has become shorter, SequenceGap at a hole, and
        what `check` raises.
        """
        async with tasks_as_one() as tasks:
            beside = (
                tasks.create_task(self._fold(tasks), name="allocator.follow"),
                tasks.create_task(self._wake_at_end(), name="allocator.end"),
            )
            try:
                await self._watch()
            finally:
                for each in beside:
                    each.cancel()

    # The ledger

    async def _fold(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                async with aclosing(follow(self._bus, self._state)) as batches:
                    async for records in batches:
                        self._forget_recorded(records)
                        if not self.vouched:
                            self._saver.save_if_due(self._state, tasks)
            except Stopped as stopped:
                await self._stand_before(stopped)
            except BusUnavailable as error:
                _log.warning("allocator.bus_away", reason=str(error))
                await self._patience.back_off(1)

    def _forget_recorded(self, records: Iterable[LedgerRecord]) -> None:
        for record in records:
            event = record.event
            if isinstance(event, EventQuarantined) and event.stream == Stream.LEDGER:
                self.vouched.pop(event.sequence, None)

    async def _stand_before(self, stopped: Stopped) -> None:
        sequence = stopped.sequence
        word = await operators_word(
            self._bus,
            self._patience,
            Stream.LEDGER,
            sequence,
            stopped.reason,
            self._pace.poll_s,
        )
        self._state.quarantined[(Stream.LEDGER.value, sequence)] = word
        vouched = EventQuarantined(Stream.LEDGER.value, sequence, word[:REASON_MAX])
        self.vouched[sequence] = vouched

    # The leader

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._patience.ended:
            self._words.news.clear()
            self._head, words_flow = await self._look()
            place = self._words.place(self._state.holder)
            signs = (self._head, place) if self._head is not None and words_flow else None
            is_silent = self._vigil.look(loop.time(), signs)
            if self._head is not None and self._is_at_head(self._head):
                self.vacancy = self._vacancy(is_silent)
                if not self.vacancy:
                    self._claim_at = None
                elif await self._is_due(loop.time(), is_silent):
                    _log.info("allocator.claiming", sequence=self._head, reason=self.vacancy)
                    return
            await self._pause(loop.time())
        raise StopRequested

    async def _look(self) -> tuple[int | None, bool]:
        """Where the ledger ends (None if the bus does not say), and whether STATUS takes words: of
        several bus servers the one may be lost that leads STATUS alone."""
        ledger, words = await asyncio.gather(self._end(Stream.LEDGER), self._end(Stream.STATUS))
        return ledger, words is not None

    async def _end(self, stream: Stream) -> int | None:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await self._bus.last_sequence(stream)
        except (TimeoutError, BusUnavailable):
            return None

    def _is_at_head(self, head: int) -> bool:
        if head >= self._state.sequence:
            self._short_looks = 0
        else:
            self._short_looks += 1
            if self._short_looks > SHORT_LOOKS_MAX:
                raise LostError(
                    f"LEDGER ends at {head}, but was folded through {self._state.sequence}: events "
                    "are lost or the bus was replaced; restore it before you start an allocator"
                )
        if head != self._state.sequence:
            return False
        if not self.synced:
            self._check(self._state)
            self.synced = True
        return True

    def _vacancy(self, is_silent: bool) -> str:
        """Why the lead is to be taken, or empty."""
        holder = self._state.holder
        if not holder:
            return "nobody leads yet"
        if holder == self._holder:
            return "it has the lead by the ledger"
        if self._fresh and name_of(holder) == name_of(self._holder):
            return "an earlier process of this allocator led"
        if self._words.stopped(holder):
            return f"{holder} stepped down"
        if is_silent:
            return f"{holder} has been silent for {self._pace.silence_s:g} s"
        return ""

    async def _is_due(self, now: float, is_silent: bool) -> bool:
        """Whether this one's turn has come: of several that see the lead free, not all claim it."""
        if self._claim_at is None:
            owned = name_of(self._state.holder) in ("", name_of(self._holder))
            self._claim_at = now if owned else now + self._draw() * self._pace.spread_s
        if now < self._claim_at:
            return False
        # A word on STATUS that was lost on its way here is noticed late.
        return not is_silent or not await self._has_spoken()

    async def _has_spoken(self) -> bool:
        holder = self._state.holder
        subject = allocator_subject(name_of(holder))
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                found = await self._bus.last_on_subject(Stream.STATUS, subject)
        except (TimeoutError, BusUnavailable):
            return True  # nothing is known, so nothing is done
        before = self._words.place(holder)
        if found is not None:
            self._words.take(found)
        return self._words.place(holder) != before

    async def _pause(self, now: float) -> None:
        wait_s = self._pace.look_s
        if self._words.stopped(self._state.holder):
            wait_s = min(wait_s, NEAR_S)
        if self._claim_at is not None:
            # Its turn may have come while it has not folded all: somebody else may have claimed.
            left_s = self._claim_at - now
            wait_s = min(wait_s, left_s if left_s > 0 else NEAR_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._words.news.wait()
        except TimeoutError:
            pass

    async def _wake_at_end(self) -> None:
        await self._patience.wait()
        self._words.news.set()
