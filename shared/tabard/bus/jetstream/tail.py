"""A gap-checked tail without a consumer on the server.

Streams republish what they store on `tabard.live.…`. A tail subscribes there and takes a message
only if its sequence is the next; everything else (what was before it came, what was lost, what it
had no room for) it reads by Direct Get. It asks at its start, after each reconnection, and when
`ASK_INTERVAL_S` have passed without news: a lost last message has no successor that shows it.
Any replica may answer. One that lacks the message that was given out last is behind, and its
silence says nothing. One that holds more than the stream's leader has, since that was elected with
less, is found out by the next live message.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator

import structlog

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.read import BEHIND_RETRY_S, BEHIND_S_MAX, after, bounds, direct
from tabard.bus.jetstream.wire import is_live_copy, stored_message, stored_sequence
from tabard.bus.port import READ_MESSAGES_MAX, BusUnavailable, Stored, Stream
from tabard.bus.subjects import live_subject

log = structlog.get_logger(__name__)

ASK_INTERVAL_S = 1.8
"""So that, with the time that asking takes, a lost message is noticed within two seconds."""
BEHIND_PAUSE_S_MAX = 0.5
LIVE_MESSAGES_MAX = 8192
LIVE_BYTES_MAX = 16 << 20
"""Most live messages, and bytes of them, that wait for a slow reader; more are read again later."""


class Cursor:
    """Where a tail stands: the next sequence to give out, and the live messages that wait."""

    def __init__(self, start: int) -> None:
        self.next = start
        self.held = 0
        """The last message given out; 0 before the first."""
        self.behind_since: float | None = None
        """Since when reads find a replica that has not come as far as `held`."""
        self.pause_s = BEHIND_RETRY_S
        """Until such a one is asked again."""
        self.doubt = False
        """Whether a live message came of a sequence that was given out already: most often it was
        read before, but a stream that has become shorter tells of it so."""
        self.ask = True
        """Whether there may be messages from `next` on that only a read will bring."""
        self.news = asyncio.Event()
        self._live: deque[Stored] = deque()
        """Contiguous: each the successor of the one before it."""
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """How many live messages wait."""
        return len(self._live)

    def on_connect(self) -> None:
        self.ask = True
        self.news.set()

    def on_message(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        if not is_live_copy(subject, headers):
            return  # somebody's answer, sent here; what was stored is read anyway
        sequence = stored_sequence(headers)
        if sequence < self.next or (self._live and sequence <= self._live[-1].sequence):
            self.doubt |= sequence <= self.held
            return
        if len(self._live) >= LIVE_MESSAGES_MAX or self._bytes + len(payload) > LIVE_BYTES_MAX:
            self.ask = True
            return
        if self._live and sequence != self._live[-1].sequence + 1:
            # A message between them was lost: from here on, a read brings both back.
            self._clear()
        self._live.append(stored_message(sequence, headers, payload))
        self._bytes += len(payload)
        self.news.set()

    def take(self) -> list[Stored]:
        """The next live messages, [] if there are none or a read must come first."""
        while self._live and self._live[0].sequence < self.next:
            self._bytes -= len(self._live.popleft().payload)
        if not self._live:
            return []
        if self._live[0].sequence > self.next:
            self.ask = True
            return []
        count = min(len(self._live), READ_MESSAGES_MAX)
        batch = [self._live.popleft() for _ in range(count)]
        self._bytes -= sum(len(stored.payload) for stored in batch)
        self.give(batch)
        return batch

    def give(self, batch: list[Stored]) -> None:
        """`batch` is given out."""
        self.held = batch[-1].sequence
        self.next = self.held + 1

    def _clear(self) -> None:
        self._live.clear()
        self._bytes = 0
        self.ask = True


async def tail(
    connection: Connection, stream: Stream, start: int
) -> AsyncGenerator[list[Stored], None]:
    """All messages of `stream` from `start` on, in order, each once, for ever.

    While there is more than a read brings, the next one is asked for before a batch is given out:
    the server reads while the caller works.
    """
    cursor = Cursor(start)
    ahead: asyncio.Task[list[Stored]] | None = None
    listener = connection.listen(live_subject(stream), cursor.on_message, cursor.on_connect)
    try:
        while True:
            # Before looking, so that news that comes while a read is under way is not missed.
            cursor.news.clear()
            batch = await ahead if ahead is not None else []
            ahead = None
            if not batch:
                batch = cursor.take()
                if batch:
                    connection.learn(stream, cursor.held)
            if not batch and cursor.ask:
                batch = await _read(connection, stream, cursor)
            if batch:
                if cursor.ask and len(batch) == READ_MESSAGES_MAX:
                    read = _read(connection, stream, cursor)
                    ahead = asyncio.create_task(read, name=f"bus.read_ahead.{stream}")
                yield batch
            elif not cursor.ask:
                await _wait(cursor)
    finally:
        connection.silence(listener)
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def _read(connection: Connection, stream: Stream, cursor: Cursor) -> list[Stored]:
    cursor.ask = False
    try:
        if cursor.doubt:
            await bounds(connection, stream)
            cursor.doubt = False
        if cursor.held:
            found = await after(connection, stream, cursor.held, READ_MESSAGES_MAX)
        else:
            found = await direct(connection, stream, cursor.next, READ_MESSAGES_MAX)
    except BusUnavailable as error:
        if connection.closed:
            raise
        log.info("bus.tail_waits", stream=stream.value, sequence=cursor.next, reason=str(error))
        await _wait(cursor)
        cursor.ask = True
        return []
    if found is None:
        await _bear(connection, stream, cursor)
        return []
    cursor.behind_since, cursor.pause_s = None, BEHIND_RETRY_S
    if found:
        cursor.give(found)
        # There may be more than a batch holds.
        cursor.ask = True
    elif cursor.waiting:
        # The replica that answered is behind the one that sent the live messages.
        await asyncio.sleep(BEHIND_RETRY_S)
    return found


async def _bear(connection: Connection, stream: Stream, cursor: Cursor) -> None:
    """A replica that is behind comes up soon, or another server's is asked."""
    now = asyncio.get_running_loop().time()
    if cursor.behind_since is None:
        cursor.behind_since = now
    elif now - cursor.behind_since > BEHIND_S_MAX:
        connection.leave(f"its replica of {stream} is behind")
        cursor.behind_since = None
    # Thousands of tails may be at one replica.
    await asyncio.sleep(cursor.pause_s * random.uniform(0.5, 1.0))
    cursor.pause_s = min(2 * cursor.pause_s, BEHIND_PAUSE_S_MAX)
    cursor.ask = True


async def _wait(cursor: Cursor) -> None:
    """Wait for news; if none comes, ask."""
    try:
        async with asyncio.timeout(ASK_INTERVAL_S):
            await cursor.news.wait()
    except TimeoutError:
        cursor.ask = True
