"""Observed messages that have come and are not decided yet."""

import asyncio
from collections import deque

from tabard.bus.port import READ_MESSAGES_MAX, Stored

INBOX_MESSAGES_MAX = 4 * READ_MESSAGES_MAX
"""A full inbox takes no further messages: what is behind them waits on the bus."""


class Inbox:
    """A bounded queue whose head can be looked at before it is taken."""

    def __init__(self) -> None:
        self._messages: deque[Stored] = deque()
        self._changed = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def head(self) -> Stored | None:
        return self._messages[0] if self._messages else None

    def pop(self) -> None:
        """Take the head away."""
        self._messages.popleft()
        if len(self._messages) + READ_MESSAGES_MAX <= INBOX_MESSAGES_MAX:
            self._roomy.set()

    async def put(self, messages: list[Stored]) -> None:
        """Add messages; returns when there is room for as many as one read gives."""
        self._messages.extend(messages)
        self._changed.set()
        if len(self._messages) + READ_MESSAGES_MAX > INBOX_MESSAGES_MAX:
            self._roomy.clear()
        await self._roomy.wait()

    def wake(self) -> None:
        """Let `wait` return, whatever there is."""
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when there is a message, after `wake`, or after `timeout_s`."""
        if not self._messages:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
