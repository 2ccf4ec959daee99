"""A nats-py client for one connection: the only place that touches nats-py's insides (2.16.0).

nats-py does the handshake, TLS, authentication, parsing and keep-alive. Two paths are ours:

- a message goes to a plain function in the read loop: no queue, no task and no header parsing per
  message, and nothing is dropped on the way (nats-py's own pending limit drops). That is one
  override; replacing the parser as well would save a further third, and mean owning it;
- `send` writes without suspending. nats-py's `publish` swallows cancellation when its flush queue
  is full, and while disconnected it keeps what it cannot send and sends it minutes later.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any

import structlog
from nats.aio.client import Client as NatsClient
from nats.aio.subscription import Subscription

log = structlog.get_logger(__name__)

OnMessage = Callable[[bytes, bytes, bytes], None]
"""Called with (subject, raw headers or b"", payload) for each message of a subscription."""
_DENIED = re.compile(
    r"permissions violation for (?P<what>publish|subscription) to \"(?P<subject>[^\"]*)\"", re.I
)
WRITE_BYTES_MAX = 1 << 20
"""Bytes waiting to be written above which a client is full."""
CLOSE_TIMEOUT_S = 1.0


def heed_cancellation() -> None:
    """To be called after nats-py's connect and close: they swallow a cancellation in places."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Client(NatsClient):
    """One connection, used once: it never reconnects, `over` is set when it has ended."""

    def __init__(self, on_over: Callable[[], None], on_denied: Callable[[str], None]) -> None:
        super().__init__()
        self._on_denied = on_denied
        self.over = asyncio.Event()
        self._on_over = on_over
        self.failure = ""
        """The last error that nats-py reported, for messages to people."""
        self.tls_only = False
        """Whether to say nothing to a server that does not ask for TLS."""
        self.reply = b""
        """Where the message wants its answer that is being handled: for handlers that ask."""
        self._handlers: dict[int, OnMessage] = {}
        self._denied: set[tuple[str | Any, ...]] = set()

    @property
    def is_open(self) -> bool:
        """Whether something may be sent; once false, for ever."""
        return bool(self.is_connected) and not self.over.is_set()

    async def note_error(self, error: Exception) -> None:
        """nats-py's error callback. An exception in here would kill its read loop."""
        self.failure = str(error) or type(error).__name__
        denied = _DENIED.search(self.failure)
        if denied is None:
            log.debug("bus.client_error", error=self.failure)
            return
        if denied.groups() not in self._denied:  # told once: a batch is as many of them
            self._denied.add(denied.groups())
            log.warning("bus.denied", what=denied["what"], subject=denied["subject"])
        if denied["what"] == "publish":
            self._on_denied(denied["subject"])

    def listen(self, subject: str, on_message: OnMessage) -> int:
        """Subscribe; the subscription's number, for `silence`."""
        self._sid += 1
        # nats-py keeps subscriptions in `_subs`; one without a started task costs nothing.
        self._subs[self._sid] = Subscription(self, self._sid, subject)
        self._handlers[self._sid] = on_message
        self._write(f"SUB {subject} {self._sid}\r\n".encode())
        return self._sid

    def silence(self, number: int) -> None:
        """Unsubscribe."""
        self._subs.pop(number, None)
        if self._handlers.pop(number, None) is not None and self.is_connected:
            self._write(f"UNSUB {number}\r\n".encode())

    def send(self, message: bytes) -> None:
        """Queue protocol bytes for the socket; ConnectionError if there is none."""
        if not self.is_open:
            raise ConnectionError(self.failure or "the connection is closed")
        self._write(message)

    def end(self, reason: str) -> None:
        """Be over: for a server that is there, but of no use."""
        self.failure = reason
        self.over.set()

    @property
    def is_full(self) -> bool:
        """Whether so much is queued that one should `drain` before sending more."""
        return self._pending_data_size > WRITE_BYTES_MAX

    async def drain(self) -> None:
        """Wait until the socket has taken what is queued; to be bounded by a timeout."""
        assert self._flush_queue is not None
        written = asyncio.get_running_loop().create_future()
        self._flush_queue.put_nowait(written)
        await written

    async def abandon(self) -> None:
        """Close without a word to the server: a zombie would never let it finish."""
        # Whatever goes wrong with a socket that is thrown away: it is gone.
        with contextlib.suppress(Exception):
            writer = getattr(self._transport, "_io_writer", None)
            if writer is not None:
                writer.transport.abort()  # of TLS that the server has closed it is an error
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.close()
        heed_cancellation()

    def _write(self, message: bytes) -> None:
        self._pending.append(message)
        self._pending_data_size += len(message)
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    def _connect_command(self) -> Any:
        # nats-py goes on in plain text where the server asks for no TLS: so would whoever sits
        # between us and a server that does.
        if self.tls_only and not self._server_info.get("tls_required"):
            raise ConnectionError(
                "the server does not speak TLS, and only a server that does is trusted here"
            )
        # nats-py puts TLS under the stream without telling it; then asyncio complains at its end,
        # in plain text between the lines of a log.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.get_extra_info("ssl_object") is not None:
            writer.transport.get_protocol()._over_ssl = True
        return super()._connect_command()

    async def _read_loop(self) -> None:
        # However it ends (end of file, protocol error, an exception that nats-py only logs), no
        # answer will come any more; nats-py's closed callback is not called in every case.
        try:
            await super()._read_loop()
        finally:
            self.over.set()
            self._on_over()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            return
        self.reply = reply
        try:
            handler(subject, headers or b"", data)
        except Exception:
            # A handler's defect must not end the read loop, on which every other one depends.
            log.exception("bus.handler_failed", subject=subject.decode(errors="replace"))
