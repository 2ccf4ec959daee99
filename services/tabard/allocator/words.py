"""What nodes and allocators said last on STATUS, heard for as long as the process lives."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

import structlog

from tabard.allocator.watermarks import WORDS_MAX
from tabard.bus.port import Bus, Stored, Stream
from tabard.events.errors import EventError
from tabard.events.status import AllocatorStatus, NodeStatus
from tabard.ledger.messages import recorded

_log = structlog.get_logger()

ALLOCATORS_MAX = 256
"""Allocators' processes whose last word is kept; the oldest makes room."""

_T = TypeVar("_T")


def unattended(heard: Mapping[str, int]) -> None:
    """What is done with nodes' words while nobody attends to them."""


class Words:
    """`hear` fills it; `news` is set when an allocator says that its role has changed.

    `attend` is given the watermarks that nodes said, as they come.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        """Messages that could not be read, or came on another subject than their own."""
        self.news = asyncio.Event()
        self.attend: Callable[[Mapping[str, int]], None] = unattended
        self._watermarks: dict[str, int] = {}
        self._unreadable: dict[str, None] = {}
        """Subjects whose last message could not be read."""
        self._allocators: dict[str, tuple[int, AllocatorStatus]] = {}

    @property
    def watermarks(self) -> Mapping[str, int]:
        """By node, as it said it last."""
        return self._watermarks

    def place(self, holder: str) -> int:
        """Where on STATUS the last word of an allocator's process stands; 0 if it never spoke."""
        return self._allocators[holder][0] if holder in self._allocators else 0

    def followers(self, holder: str) -> dict[str, int]:
        """The other processes that said that they follow, and where on STATUS they said so last."""
        return {
            name: place
            for name, (place, said) in self._allocators.items()
            if said.role == "following" and name != holder
        }

    def stopped(self, holder: str) -> bool:
        """Whether an allocator's process said that it ends."""
        said = self._allocators.get(holder)
        return said is not None and said[1].role == "stopped"

    async def hear(self, bus: Bus) -> None:
        """Keep the last word of each, for ever."""
        async with aclosing(bus.tail(Stream.STATUS, 1)) as batches:
            async for messages in batches:
                said = [self.take(message) for message in messages]
                nodes = {word.node: word.sequence for word in said if isinstance(word, NodeStatus)}
                if nodes:
                    self.attend(nodes)

    def take(self, message: Stored) -> NodeStatus | AllocatorStatus | None:
        """The word in a message of STATUS; None if there is none that can be read."""
        try:
            said = recorded(Stream.STATUS, message).event
        except EventError as error:
            self.unreadable += 1
            # The node's watermark stays where it was, which holds releases back.
            if message.subject not in self._unreadable:  # whoever says such things says many
                _log.warning("allocator.status_unreadable", reason=str(error))
            _keep(self._unreadable, message.subject, None, WORDS_MAX)
            return None
        self._unreadable.pop(message.subject, None)
        if isinstance(said, NodeStatus):
            _keep(self._watermarks, said.node, said.sequence, WORDS_MAX)
            return said
        if isinstance(said, AllocatorStatus):
            before = self._allocators.get(said.holder)
            _keep(self._allocators, said.holder, (message.sequence, said), ALLOCATORS_MAX)
            if before is None or before[1].role != said.role:
                self.news.set()
            return said
        return None


def _keep(kept: dict[str, _T], key: str, value: _T, most: int) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
