"""Publishes that come while one is under way gather, and go together when it is done.

Each message on its own costs an fsync; many together go in batches, with one each (`publish`).
Nobody waits longer for it: what gathers would stand in the server's queue meanwhile.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.publish import WINDOW_MESSAGES_MAX, Publication
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stream


@dataclass(eq=False, slots=True)
class _Share:
    """One caller's messages, and what became of them: sequences, an error, or nothing."""

    messages: Sequence[Outgoing]
    taken: bool = False
    sequences: list[int] | None = None
    error: BusUnavailable | None = None


class Gathering:
    """The publishes on one stream."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._turn = asyncio.Lock()
        self._waiting: list[_Share] = []

    async def publish(self, messages: Sequence[Outgoing]) -> list[int]:
        """Their sequences, once all are durable; errors as of `Publication.run`."""
        if not all(message.id for message in messages):
            return await self._publish(messages)  # only by its id can a message be tried again
        share = _Share(messages)
        self._waiting.append(share)
        try:
            async with self._turn:
                if not share.taken:
                    await self._publish_from(share)
        finally:
            if not share.taken:
                self._waiting.remove(share)
        if share.error is not None:
            raise share.error
        if share.sequences is not None:
            return share.sequences
        # It went with others and something was wrong: by itself it learns whether that was with it.
        return await self._publish(messages)

    async def _publish_from(self, first: _Share) -> None:
        """Publish the share whose turn it is, with those that wait as far as they fit."""
        shares = [first, *(share for share in self._waiting if share is not first)]
        count = 0
        for at, share in enumerate(shares):
            count += len(share.messages)
            if at and count > WINDOW_MESSAGES_MAX:
                del shares[at:]
                break
        for share in shares:
            self._waiting.remove(share)
            share.taken = True
        try:
            every = [message for share in shares for message in share.messages]
            sequences = iter(await self._publish(every))
        except BusUnavailable as error:
            for share in shares:
                share.error = error
        except BusError:
            if len(shares) == 1:
                raise
        else:
            for share in shares:
                share.sequences = [next(sequences) for _ in share.messages]

    async def _publish(self, messages: Sequence[Outgoing]) -> list[int]:
        return await Publication(self._connection, self._stream, messages).run()
