"""Pipelined publish: many messages under way at once, each acknowledged when it is durable.

With fsync on every append each message costs one, so many messages on OBSERVED are first tried in
atomic batches, with one fsync each. If one is not taken, for whatever reason (a message in it was
stored before, say), the rest goes message by message, which also tells what is wrong.

A message keeps its id over all tries, so that a lost acknowledgement does not store it twice.
Order is kept: one connection delivers in order, and a new try starts with the first message that
is not acknowledged. Only a change of the stream's leader with messages under way can store one
after a later one; that is logged.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import structlog

from tabard.bus.jetstream import batch
from tabard.bus.jetstream.connection import Connection, waits_s
from tabard.bus.jetstream.question import ANSWER_TIMEOUT_S
from tabard.bus.jetstream.session import Session
from tabard.bus.jetstream.wire import UNAVAILABLE_CODES, Reply, answer, encode_headers
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stream

log = structlog.get_logger(__name__)

WINDOW_MESSAGES_MAX = 256
"""Most messages sent and not yet acknowledged."""
WINDOW_BYTES_MAX = 4 << 20
"""Most payload bytes sent and not yet acknowledged, save for a single larger message."""
BATCH_MESSAGES_MIN = 16
"""Fewer are not worth a batch: a server with one replica makes a log of its own for each."""


class Publication:
    """The messages of one `publish`: which are acknowledged, and which are under way."""

    def __init__(self, connection: Connection, stream: str, messages: Sequence[Outgoing]) -> None:
        self._connection = connection
        self._stream = stream
        self._messages = messages
        self._sequences = [0] * len(messages)
        self._tokens: dict[int, int] = {}
        """Message index → answer token, of the messages under way."""
        self._bytes = 0
        self._progress = asyncio.Event()
        self._trouble = ""
        self._refusal: BusError | None = None
        # A message without an id gets one for the tries of this call.
        self._call = uuid4().hex

    async def run(self, patience_s: float | None = None) -> list[int]:
        """Their sequences, once all are durable.

        Goes on while messages are acknowledged, and without any for `patience_s`; None: for as long
        as a new leader or connection may take.
        """
        if patience_s is None:
            patience_s = self._connection.options.request_timeout_s
        if self._stream is Stream.OBSERVED and len(self._messages) >= BATCH_MESSAGES_MIN:
            await self._store_batches()
        tries, acknowledged = 0, -1
        while self._count() < len(self._messages):
            if self._count() > acknowledged:
                acknowledged = self._count()
                waits = waits_s(patience_s)
            elif (wait := next(waits, None)) is not None:
                await asyncio.sleep(wait)
            else:
                raise BusUnavailable(
                    f"{acknowledged} of {len(self._messages)} messages on {self._stream} are "
                    f"acknowledged by {self._connection}: {self._trouble}; publish again with the "
                    "same ids"
                )
            await self._try()
            tries += 1
            if self._refusal is not None:
                raise self._refusal
        if tries > 1 and self._sequences != sorted(self._sequences):
            log.warning("bus.published_out_of_order", stream=str(self._stream))
        if self._sequences:
            self._connection.hear()
            self._connection.learn(self._stream, max(self._sequences))
        return self._sequences

    async def _store_batches(self) -> None:
        """Store messages in batches, up to the first batch that is not taken."""
        start = 0
        while start < len(self._messages):
            end, size = start, 0
            while end < len(self._messages) and end - start < WINDOW_MESSAGES_MAX:
                size += len(self._messages[end].payload)
                if size > WINDOW_BYTES_MAX:
                    break
                end += 1
            if not await self._store_batch(start, end):
                return
            start = end

    async def _store_batch(self, start: int, end: int) -> bool:
        headers = [{"Nats-Msg-Id": self._id(index)} for index in range(start, end)]
        what = f"publishing on {self._stream}"
        try:
            reply = await batch.store(self._connection, self._messages[start:end], headers, what)
            stored, _, _ = answer(self._connection.present(reply, what))
        except BusError as error:
            stored = {"error": str(error)}
        if (stored.get("stream"), stored.get("count")) != (self._stream, end - start):
            log.debug("bus.batch_not_taken", stream=str(self._stream), answer=stored)
            return False
        self._sequences[start:end] = range(stored["seq"] + 1 - (end - start), stored["seq"] + 1)
        return True

    def _id(self, index: int) -> str:
        return self._messages[index].id or f"{self._call}.{index}"

    def _count(self) -> int:
        return sum(map(bool, self._sequences))

    async def _try(self) -> None:
        session = await self._connection.session_for(f"publishing on {self._stream}")
        self._trouble = ""
        try:
            for index, message in enumerate(self._messages):
                if self._sequences[index]:
                    continue
                while self._is_full(len(message.payload)) and not self._trouble:
                    if not await self._wait():
                        return
                if self._trouble:
                    break
                self._send(session, index)
                if session.client.is_full:
                    async with self._connection.deadline(f"publishing on {self._stream}"):
                        await session.client.drain()
            while self._tokens and await self._wait():
                pass
        except BusUnavailable as error:
            self._trouble = f"lost: {error}"
        finally:
            for token in self._tokens.values():
                session.forget(token)
            self._tokens.clear()
            self._bytes = 0

    def _is_full(self, payload_bytes: int) -> bool:
        over = self._bytes + payload_bytes > WINDOW_BYTES_MAX
        return len(self._tokens) >= WINDOW_MESSAGES_MAX or (over and bool(self._tokens))

    def _send(self, session: Session, index: int) -> None:
        message = self._messages[index]
        headers = encode_headers({"Nats-Msg-Id": self._id(index)})
        on_reply = partial(self._on_reply, session, index)
        self._tokens[index] = session.send(message.subject, headers, message.payload, on_reply)
        self._bytes += len(message.payload)

    async def _wait(self) -> bool:
        """Wait for one more answer; False, and trouble, if none comes in time."""
        timeout_s = min(ANSWER_TIMEOUT_S, self._connection.options.request_timeout_s)
        self._progress.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._progress.wait()
        except TimeoutError:
            self._connection.miss()
            self._trouble = f"no acknowledgement within {timeout_s:g} s"
            return False
        return True

    def _on_reply(self, session: Session, index: int, reply: Reply | None) -> None:
        session.forget(self._tokens.pop(index))
        self._bytes -= len(self._messages[index].payload)
        self._progress.set()
        try:
            reply = self._connection.present(reply, f"publishing on {self._stream}")
            acknowledgement, code, description = answer(reply)
        except BusUnavailable as error:
            self._trouble = f"lost: {error}"
            return
        except BusError as error:
            self._refuse(error)
            return
        if code in UNAVAILABLE_CODES:
            self._trouble = f"lost: {description} (code {code})"
        elif code or acknowledgement["stream"] != self._stream:
            subject = self._messages[index].subject
            why = description or f"its subject belongs to stream {acknowledgement['stream']}"
            self._refuse(BusError(f"nats-server refused {subject!r}: {why} (code {code})"))
        else:
            self._sequences[index] = acknowledgement["seq"]

    def _refuse(self, error: BusError) -> None:
        self._trouble = "refused"
        self._refusal = self._refusal or error
