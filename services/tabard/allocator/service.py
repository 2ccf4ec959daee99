"""The allocator at work: it follows the ledger, leads when its turn has come, and follows again.

It may be killed, paused or cancelled anywhere.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable

import structlog

from tabard.allocator.figures import Figures
from tabard.allocator.leadership import name_of, take_lead
from tabard.allocator.leading import Leader
from tabard.allocator.pace import Pace
from tabard.allocator.patience import Patience, StopRequested
from tabard.allocator.saving import Saver
from tabard.allocator.snapshots import Snapshots
from tabard.allocator.standby import Standby
from tabard.allocator.startup import claim, loaded
from tabard.allocator.words import Words
from tabard.allocator.writer import FencedError
from tabard.bus.port import Bus, BusError, Stream
from tabard.events.ledger import Enforcement, EventQuarantined, SettingsAdopted
from tabard.events.status import AllocatorStatus, Role
from tabard.ledger.checkpoint import Checkpoint
from tabard.ledger.messages import first_cause, status
from tabard.ledger.start import TrimmedAway
from tabard.ledger.state import State, enforcement_of
from tabard.process.failures import tasks_as_one

_log = structlog.get_logger()

FAREWELL_S_MAX = 1.0
"""Longest that the last word may take: without it others wait out the silence."""


class Allocator:
    """One allocator process. `holder` is `name/…`, and unique to it; `clock` gives ns since the
    epoch.

    `enforcement`, if given, is adopted where the ledger has another when it takes the lead;
    `configured` says what a new ledger begins with.
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
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._bus = bus
        self._checkpoint = checkpoint
        self._configured = configured
        self._enforcement = enforcement
        self._holder = holder
        self._clock = clock
        self._pace = pace if pace is not None else Pace()
        self._patience = patience if patience is not None else Patience()
        self._draw = draw
        self._saver = Saver(checkpoint, self._pace.checkpoint_s)
        self.words = Words()
        self.snapshots = Snapshots(holder, self.words, self._pace, self._standing)
        self._changed = asyncio.Event()
        self.figures = Figures()
        self.role: Role = "starting"
        self.state = State()
        """The ledger's through its sequence; of a leader, ahead of it by the batch that is being
        appended."""
        self.leader: Leader | None = None
        """While it leads."""
        self.standby: Standby | None = None
        """While it follows."""

    def stop(self) -> None:
        """Finish what is being appended, step down, save a checkpoint, and let `run` return."""
        self._patience.end()

    async def run(self) -> None:
        """Follow and lead until `stop`.

        Raises SettingsMismatch before claiming anything, and BusError or LostError for a bus that
        is not what it must be.
        """
        try:
            await self._live()
        except StopRequested:
            # Whatever was waited for is learnt from the ledger at the next start.
            _log.info("allocator.stopped_waiting")
        except Exception:
            await self._part()
            raise
        await self._part()

    async def _live(self) -> None:
        async with tasks_as_one() as tasks:
            beside = (
                tasks.create_task(self.words.hear(self._bus), name="allocator.hear"),
                tasks.create_task(self._speak(), name="allocator.speak"),
                tasks.create_task(self.snapshots.run(self._bus), name="allocator.snapshots"),
            )
            try:
                await self._take_turns()
            finally:
                for each in beside:
                    each.cancel()

    async def _take_turns(self) -> None:
        fresh = True
        await self._load()
        while not self._patience.ended:
            try:
                vouched = await self._follow(fresh)
                fresh = False
                if await self._claim(vouched):
                    await self._lead()
            except TrimmedAway as error:
                # It was paused, or cut off, for longer than anybody waits for an allocator.
                _log.warning("allocator.behind_trim", reason=str(error))
                await self._load()
            except FencedError as error:
                # What it decided last is in no ledger, and in this state.
                _log.warning("allocator.fenced", epoch=self.state.epoch, reason=str(error))
                self.figures.fenced += 1
                await self._load()

    async def _load(self) -> None:
        """Begin, or begin anew, with what is kept: not with a state that is nobody's."""
        self.state = State()
        self._become("starting")
        self.state = await loaded(self._bus, self._checkpoint, self._patience)

    async def _follow(self, fresh: bool) -> list[EventQuarantined]:
        self.standby = Standby(
            self._bus,
            self.state,
            self._holder,
            self.words,
            self._saver,
            self._patience,
            self._pace,
            self._draw,
            self._check,
            fresh=fresh,
        )
        self._become("following")
        _log.info("allocator.following", epoch=self.state.epoch, sequence=self.state.sequence)
        try:
            await self.standby.run()
            return list(self.standby.vouched.values())
        except StopRequested:
            await self._end()
            raise
        finally:
            self.standby = None

    def _check(self, state: State) -> None:
        """SettingsMismatch if it could never lead."""
        take_lead(state, self._holder, self._configured, self._enforcement)

    async def _claim(self, vouched: list[EventQuarantined]) -> bool:
        return await claim(
            self._bus,
            self.state,
            self._configured,
            self._enforcement,
            self._holder,
            vouched,
            self._patience,
            self._clock,
        )

    async def _lead(self) -> None:
        state = self.state
        _log.info(
            "allocator.leading",
            epoch=state.epoch,
            sequence=state.sequence,
            enforcement=enforcement_of(state),
        )
        self.figures.takeovers += 1
        self.leader = Leader(
            self._bus,
            state,
            self.words,
            self._saver,
            self.snapshots,
            self.figures,
            self._patience,
            self._clock,
            self._pace,
        )
        self._become("leading")
        try:
            await self.leader.run()
            await self._end()
        finally:
            self.leader = None

    async def _end(self) -> None:
        """The state is the ledger's, and nothing will be appended any more."""
        await self._part()
        if self.standby is None or not self.standby.vouched:
            await self._saver.save(self.state)

    def _standing(self) -> tuple[Role, State]:
        """The role and the state, as for a snapshot: with what is only vouched for it has none."""
        vouches = self.standby is not None and bool(self.standby.vouched)
        return ("starting" if vouches else self.role), self.state

    # What it says of itself

    def _become(self, role: Role) -> None:
        self.role = role
        self._changed.set()

    def _word(self) -> AllocatorStatus:
        leader, state = self.leader, self.state
        return AllocatorStatus(
            name=name_of(self._holder),
            holder=self._holder,
            role=self.role,
            epoch=state.epoch,
            sequence=state.sequence,
            cursor=state.cursors.get(Stream.OBSERVED, 0),
            waiting=leader.waiting if leader is not None else 0,
            superseded=self.figures.superseded,
            error=self._patience.stands_before,
        )

    async def _say(self) -> None:
        word = self._word()
        envelope = first_cause(word.name, self._clock(), uuid.uuid4().bytes)
        try:
            await self._bus.publish(Stream.STATUS, [status(word, envelope)])
        except BusError as error:
            # The next word says all that this one would have.
            _log.warning("allocator.word_lost", reason=str(error))

    async def _speak(self) -> None:
        while True:
            self._changed.clear()
            await self._say()
            spacing_s = self._pace.word_s * (1 if self.role == "leading" else 2)
            try:
                async with asyncio.timeout(spacing_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _part(self) -> None:
        """Say that it ends, so that another leads at once."""
        if self.role == "stopped":
            return
        self.role = "stopped"
        try:
            async with asyncio.timeout(FAREWELL_S_MAX):
                await self._say()
        except TimeoutError:
            _log.warning("allocator.word_lost", reason="the bus gave no answer in time")
