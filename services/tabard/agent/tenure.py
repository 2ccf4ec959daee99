"""Whose a node is on the bus, where two machines (or two that share no lock) may speak for it.

Before its first word an agent reads the node's last one. If that is another's who is not known for
dead or stopped, and it is fresh, the agent listens for longer than the other's heartbeat, and goes
on only if nothing more comes. Two that began at once, or were cut off from each other, each find
the other's word where its own stood: both say so, and the one that started later stands down.
"""

import asyncio
from dataclasses import dataclass

import structlog

from tabard.agent.errors import AlreadyRunning
from tabard.agent.holding import told
from tabard.agent.report import Report
from tabard.bus.port import Bus, Stream
from tabard.events.errors import EventError
from tabard.events.status import Holder, NodeStatus
from tabard.ledger.messages import recorded, status_subject

log = structlog.get_logger(__name__)

SILENT_BEATS = 3
"""Heartbeats without a word after which a holder counts as gone."""
LISTENED_BEATS = 1.5
HEARTBEAT_S_MAX = 60.0
"""Longest heartbeat of another's that is believed."""
LOOKS = 15
"""How often one looks for a further word while one listens."""

MEND = "stop that one, or give this one a node of its own (TABARD_NODE)"


@dataclass(frozen=True, slots=True)
class _Word:
    holder: Holder
    sequence: int
    """On STATUS."""
    stored_at: int
    heartbeat_s: float


class Tenure:
    """`me` holds the node on this machine."""

    def __init__(self, me: Holder, report: Report, heartbeat_s: float) -> None:
        self.me = me
        self.claimed = False
        """Whether this process may speak for the node."""
        self._report = report
        self._heartbeat_s = heartbeat_s
        self._past = 0
        """Words on STATUS through this sequence are of the past."""
        self._looked_at = 0.0
        self._quiet_at = 0.0
        """When another that was heard counts as gone."""

    async def claim(self, bus: Bus) -> None:
        """Return once nobody else speaks for the node. AlreadyRunning if somebody does, BusError
        if the bus does not say."""
        word = await self._other(bus)
        if word is not None and await self._is_fresh(bus, word):
            log.warning(
                "agent.node_held",
                holder=told(word.holder),
                listens_s=word.heartbeat_s * LISTENED_BEATS,
            )
            for _ in range(LOOKS):
                await asyncio.sleep(word.heartbeat_s * LISTENED_BEATS / LOOKS)
                further = await self._other(bus)
                if further is None:  # it has stopped
                    break
                if further.sequence > word.sequence:
                    raise AlreadyRunning(f"{self._held_by(further)}; {MEND}")
        self._past = word.sequence if word is not None else 0
        self.claimed = True

    async def look(self, bus: Bus) -> None:
        """Once a heartbeat, before a word: has another spoken where this process's word stood?

        Then that is a trouble; AlreadyRunning if it is this process's to stand down.
        """
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < self._heartbeat_s:
            return
        self._looked_at = now
        word = await self._other(bus)
        if word is None or word.sequence <= self._past:
            if now >= self._quiet_at and self._report.clear("holder"):
                log.info("agent.node_held_alone")
            return
        self._past = word.sequence
        self._quiet_at = now + SILENT_BEATS * word.heartbeat_s
        if (self.me.since, self.me.token) > (word.holder.since, word.holder.token):
            self.claimed = False
            raise AlreadyRunning(f"{self._held_by(word)}, which started before this one; {MEND}")
        trouble = f"{self._held_by(word)}, which started after this one and is to stand down"
        if self._report.fail("holder", trouble):
            log.error("agent.node_shared", error=trouble)

    def _held_by(self, word: _Word) -> str:
        return f"another agent speaks for node {self._report.node}: {told(word.holder)}"

    async def _other(self, bus: Bus) -> _Word | None:
        """The node's last word, if another process said it that may be alive."""
        where = status_subject(self._report.node)
        message = await bus.last_on_subject(Stream.STATUS, where)
        try:
            said = None if message is None else recorded(Stream.STATUS, message).event
        except EventError:
            return None
        if message is None or not isinstance(said, NodeStatus) or said.stopped:
            return None
        holder = said.holder
        # An agent of before there were holders cannot be told from the one that it became.
        if holder is None or holder.token == self.me.token or self._is_dead(holder):
            return None
        heartbeat_s = min(said.heartbeat_ms / 1000, HEARTBEAT_S_MAX)
        return _Word(holder, message.sequence, message.stored_at, heartbeat_s)

    def _is_dead(self, holder: Holder) -> bool:
        """Its lock is this process's now."""
        return (holder.boot, holder.lock) == (self.me.boot, self.me.lock)

    async def _is_fresh(self, bus: Bus, word: _Word) -> bool:
        """By the bus's clock."""
        age_s = ((await bus.info(Stream.STATUS)).now - word.stored_at) / 1e9
        return age_s <= SILENT_BEATS * word.heartbeat_s
