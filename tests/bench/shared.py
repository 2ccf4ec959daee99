"""One connection and one tail of the ledger for many agents in this process: a message that comes
is received and parsed once. What each agent makes of it stays its own."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

from tabard.bus.port import READ_MESSAGES_MAX, Bus, Stored, Stream


class Feed:
    """The whole ledger as it comes. A benchmark's is short, and is kept."""

    def __init__(self) -> None:
        self.messages: list[Stored] = []
        """By sequence from 1 on: the ledger has no holes."""
        self.news = asyncio.Event()

    async def run(self, bus: Bus) -> None:
        """Take in what comes, for ever."""
        async with aclosing(bus.tail(Stream.LEDGER, 1)) as tail:
            async for messages in tail:
                self.messages += messages
                self.news.set()
                self.news = asyncio.Event()

    async def tail(self, start: int) -> AsyncGenerator[list[Stored], None]:
        """As of the port."""
        while True:
            news = self.news
            if found := self.messages[start - 1 : start - 1 + READ_MESSAGES_MAX]:
                start = found[-1].sequence + 1
                yield found
            else:
                await news.wait()


class Share:
    """One agent's share of a bus: a `Bus`, of which only the ledger's tail and the end differ."""

    def __init__(self, bus: Bus, feed: Feed) -> None:
        self._bus = bus
        self._feed = feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def tail(self, stream: Stream, start: int) -> AsyncGenerator[list[Stored], None]:
        if stream is Stream.LEDGER:
            return self._feed.tail(start)
        return self._bus.tail(stream, start)

    async def close(self) -> None:
        """The bus is the others' too."""


@asynccontextmanager
async def shared(bus: Bus) -> AsyncIterator[Callable[[], Awaitable[Bus]]]:
    """Makes shares of `bus`, each as if it were a new connection."""
    async with asyncio.TaskGroup() as group:
        feed = Feed()
        running = group.create_task(feed.run(bus), name="feed")

        async def connect() -> Bus:
            return cast(Bus, Share(bus, feed))

        try:
            yield connect
        finally:
            running.cancel()
