"""Waiting for what may never come: bounded delays, for ever, but never past a request to stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from tabard.bus.port import BusUnavailable

_log = structlog.get_logger()
_T = TypeVar("_T")

RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX = 0.05, 5.0


class StopRequested(Exception):
    """`Patience.end` was called while something was waited for."""


class Patience:
    """Shared by all that waits in one process, so that one call ends it all."""

    def __init__(self) -> None:
        self.failure = ""
        """Why the bus gave no answer the last time; empty once it did."""
        self.stands_before = ""
        """The event that an operator must let pass, while it is waited for."""
        self._ended = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._ended.set()

    async def wait(self) -> None:
        """Return when this has ended."""
        await self._ended.wait()

    async def pause(self, delay_s: float) -> None:
        """Wait; StopRequested as soon as this has ended."""
        try:
            async with asyncio.timeout(delay_s):
                await self._ended.wait()
        except TimeoutError:
            return
        raise StopRequested

    async def back_off(self, attempt: int) -> None:
        """Wait before the next try after `attempt` (from 1) failed ones."""
        await self.pause(min(RETRY_DELAY_S_MIN * 2 ** min(attempt - 1, 16), RETRY_DELAY_S_MAX))

    async def through(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """What `ask` returns, asked again while the bus gives no answer."""
        attempt = 0
        while True:
            try:
                answer = await ask()
            except BusUnavailable as error:
                attempt += 1
                self.failure = str(error)
                _log.warning("allocator.bus_away", attempt=attempt, reason=str(error))
            else:
                self.failure = ""
                return answer
            await self.back_off(attempt)
