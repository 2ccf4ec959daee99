"""One question on one session: its answers, and the silence after which it is asked again."""

import asyncio
from collections.abc import Callable

from tabard.bus.jetstream.wire import Reply
from tabard.bus.port import BusError

ANSWER_TIMEOUT_S = 2.0
"""Longest silence. Who asks a stream that has no leader, or a server that stands still, hears
nothing, not even that; asked again later there may be another who answers."""


class Question:
    """`last` becomes the answer of which `take` says that it is the last, or None when the session
    was lost or is silent."""

    def __init__(self, take: Callable[[Reply], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self.last: asyncio.Future[Reply | None] = self._loop.create_future()
        self._take = take
        self._heard = False
        self._timer = self._loop.call_later(ANSWER_TIMEOUT_S, self._on_silence)

    def on_reply(self, reply: Reply | None) -> None:
        """None: the session was lost."""
        self._heard = True
        if self.last.done():
            return
        try:
            if reply is None or self._take(reply):
                self.last.set_result(reply)
        except (BusError, ValueError) as error:
            self.last.set_exception(BusError(f"unreadable answer of nats-server: {error}"))

    def _on_silence(self) -> None:
        if self._heard:  # of several answers some came: it is only slow
            self._heard = False
            self._timer = self._loop.call_later(ANSWER_TIMEOUT_S, self._on_silence)
        elif not self.last.done():
            self.last.set_result(None)

    def close(self) -> None:
        """Wait no more."""
        self._timer.cancel()
