"""Snapshots of the folded state into the bus's bucket, by whoever has the time: a follower.

Reading the state stands its owner still for about a second a million pods, and holding a snapshot
against itself takes five more on a thread. So the leader takes one only while no follower speaks.
"""

import asyncio
import time
from collections.abc import Callable
from random import uniform

import structlog

from tabard.allocator.pace import Pace
from tabard.allocator.words import Words
from tabard.bus.port import Bus, BusError, Stream
from tabard.events.status import Role
from tabard.ledger import archive
from tabard.ledger.archive import Frozen
from tabard.ledger.snapshot import SnapshotError
from tabard.ledger.state import State

_log = structlog.get_logger()

SHARE_MAX = 0.05
"""Most of its time that a process may spend on snapshots."""
LOOKS_ALONE = 5
"""A leader that heard no follower for so many looks is alone."""
FIRST_S_MAX = 60.0
"""A ledger without a snapshot gets its first one after so long, or after `Pace.snapshot_s`."""


class Snapshots:
    """`standing` gives the role and the state of now; `by` is this process."""

    def __init__(
        self, by: str, words: Words, pace: Pace, standing: Callable[[], tuple[Role, State]]
    ) -> None:
        self.newest = 0
        """Sequence of the newest snapshot in the bucket, as of the last look."""
        self.taken = 0
        """How many this process put there."""
        self.failure = ""
        """Why the last one did not get there; empty if it did."""
        self._by = by
        self._words = words
        self._pace = pace
        self._standing = standing
        self._wanted: asyncio.Future[Frozen] | None = None

    def offer(self, state: State) -> None:
        """The leader's state, at a moment when it is the ledger's, neither more nor less."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(Frozen.of(state))

    async def run(self, bus: Bus) -> None:
        """Look now and then whether one is due and this process's to take, for ever."""
        loop = asyncio.get_running_loop()
        pause_s, heard, heard_at = 0.0, self._words.followers(self._by), loop.time()
        while True:
            await asyncio.sleep(max(pause_s, self._pace.snapshot_look_s * uniform(0.5, 1.0)))
            pause_s, before, heard = 0.0, heard, self._words.followers(self._by)
            if heard.items() - before.items():
                heard_at = loop.time()
            is_alone = loop.time() - heard_at > LOOKS_ALONE * self._pace.snapshot_look_s
            role, state = self._standing()
            if role != "following" and not (role == "leading" and is_alone):
                continue
            try:
                if await self._is_due(bus, state.sequence):
                    began = time.perf_counter()
                    await self._take(bus, role)
                    pause_s = (time.perf_counter() - began) / SHARE_MAX
            except (BusError, SnapshotError) as error:
                if str(error) != self.failure:
                    _log.warning("snapshot.failed", reason=str(error))
                self.failure = str(error)

    async def _is_due(self, bus: Bus, sequence: int) -> bool:
        entries = await archive.listed(bus)
        self.newest = entries[0].sequence if entries else 0
        if sequence <= self.newest:
            return False
        if sequence - self.newest >= self._pace.snapshot_events:
            return True
        info = await bus.info(Stream.LEDGER)
        since = entries[0].info.stored_at if entries else info.first_at
        longest_s = self._pace.snapshot_s if entries else min(FIRST_S_MAX, self._pace.snapshot_s)
        return since is not None and info.now - since >= longest_s * 1e9

    async def _take(self, bus: Bus, role: Role) -> None:
        began = time.perf_counter()
        if role == "leading":
            # Its state runs ahead of the ledger but for a moment in each of its steps.
            self._wanted = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._pace.snapshot_look_s):
                    frozen = await self._wanted
            except TimeoutError:
                return  # it stands before an event, or has lost the lead
            finally:
                self._wanted = None
        else:
            now, state = self._standing()
            if now != role:
                return  # it was asked for its turn meanwhile: the state is not the ledger's alone
            frozen = Frozen.of(state)
        try:
            entry = await archive.store(bus, frozen, self._by)
        except BusError:
            await archive.prune(bus)  # what others left half-way may be what fills the bucket
            raise
        self.newest, self.failure = entry.sequence, ""
        self.taken += 1
        removed = await archive.prune(bus)
        _log.info(
            "snapshot.stored",
            sequence=entry.sequence,
            role=role,
            bytes=entry.info.size,
            seconds=round(time.perf_counter() - began, 1),
            removed=[each.sequence for each in removed],
        )
