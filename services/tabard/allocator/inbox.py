"""Observed messages that have come and are not decided yet."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tabard.bus.port import READ_MESSAGES_MAX, Stored, Stream
from tabard.events.envelope import Recorded
from tabard.events.errors import EventError
from tabard.events.observed import NameAnswered, ObservedEvent, PodStarted, PodStopped
from tabard.ledger.messages import recorded

INBOX_MESSAGES_MAX = 4 * READ_MESSAGES_MAX
"""A full inbox takes no further messages: what is behind them waits on the bus."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message, and the event in it or why there is none."""

    message: Stored
    said: Recorded[ObservedEvent] | EventError

    @property
    def record(self) -> Recorded[ObservedEvent] | None:
        return None if isinstance(self.said, EventError) else self.said

    @property
    def event(self) -> ObservedEvent | None:
        return None if isinstance(self.said, EventError) else self.said.event


def arrival(message: Stored) -> Arrival:
    try:
        return Arrival(message, recorded(Stream.OBSERVED, message))
    except EventError as error:
        return Arrival(message, error)


class Inbox:
    """A bounded queue whose head, and what follows it, can be looked at before it is taken."""

    def __init__(self) -> None:
        self._arrivals: deque[Arrival] = deque()
        self._starts: Counter[str] = Counter()
        self._stops: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def head(self) -> Arrival | None:
        return self._arrivals[0] if self._arrivals else None

    @property
    def next(self) -> Arrival | None:
        """What comes right after the head."""
        return self._arrivals[1] if len(self._arrivals) > 1 else None

    def stops(self, uid: str) -> bool:
        """Whether the stop of a pod waits, and not several starts, which may differ."""
        return uid in self._stops and self._starts[uid] < 2

    def told_once(self, addresses: Iterable[str]) -> bool:
        """Whether no more than one of the events that wait speaks of each of `addresses`."""
        return all(self._addresses[address] < 2 for address in addresses)

    def pop(self) -> None:
        """Take the head away."""
        self._count(self._arrivals.popleft().event, -1)
        if len(self._arrivals) + READ_MESSAGES_MAX <= INBOX_MESSAGES_MAX:
            self._roomy.set()

    async def put(self, messages: list[Stored]) -> None:
        """Add messages; returns when there is room for as many as one read gives."""
        for message in messages:
            arrived = arrival(message)
            self._arrivals.append(arrived)
            self._count(arrived.event, +1)
        self._changed.set()
        if len(self._arrivals) + READ_MESSAGES_MAX > INBOX_MESSAGES_MAX:
            self._roomy.clear()
        await self._roomy.wait()

    def _count(self, event: ObservedEvent | None, by: int) -> None:
        match event:
            case PodStarted():
                _add(self._starts, event.uid, by)
            case PodStopped():
                _add(self._stops, event.uid, by)
        if isinstance(event, PodStarted | NameAnswered):
            for address in event.addresses:
                _add(self._addresses, address, by)

    def wake(self) -> None:
        """Let `wait` return, whatever there is."""
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is a message, after `wake`, or after `timeout_s`."""
        if not self._arrivals:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                pass


def _add(counts: Counter[Any], key: str, by: int) -> None:
    counts[key] += by
    if not counts[key]:
        del counts[key]
