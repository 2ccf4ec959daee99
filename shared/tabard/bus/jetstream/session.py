"""One client while it lives: what was asked on it, and what is heard."""

import asyncio
from collections.abc import Callable
from secrets import token_hex

from tabard.bus.jetstream.client import Client, OnMessage
from tabard.bus.jetstream.wire import Reply, encode_publish
from tabard.bus.port import BusError, BusUnavailable
from tabard.bus.subjects import API, GUARDED_API

OnReply = Callable[[Reply | None], None]
"""Called with each answer, or once with None when the connection is lost before `forget`."""
PROBE_TIMEOUT_S = 2.0

DENIAL = Reply(b"NATS/1.0 403 Permissions Violation\r\n\r\n", b"")
"""What stands for the server's word, on no reply subject, that a message was not let through."""


class Session:
    """One client while it lives, and the answers that are awaited on it."""

    def __init__(self, inbox_prefix: str) -> None:
        self.client = Client(on_over=self.lose, on_denied=self.deny)
        self._inbox = f"{inbox_prefix}.{token_hex(12)}."
        self._awaited: dict[int, tuple[str, OnReply]] = {}
        """Token → the subject of what was sent, and who awaits the answers."""
        self._token = 0

    @property
    def inbox(self) -> str:
        """A subject below which nobody else may listen; its own answers are one token further."""
        return f"{self._inbox}own"

    def start(self) -> None:
        """Subscribe to the answers, once the client is connected."""
        self.client.listen(f"{self._inbox}*", self._on_reply)

    def send(
        self, subject: str, headers: bytes, payload: bytes, on_reply: OnReply | None = None
    ) -> int:
        """Send without suspending; the token of the answer, to be given to `forget`."""
        reply = ""
        if on_reply is not None:
            self._token += 1
            reply = f"{self._inbox}{self._token}"
        if len(headers) + len(payload) > self.client.max_payload:
            raise BusError(
                f"a message on {subject!r} has {len(payload)} bytes, and with its headers exceeds "
                f"the server's max_payload of {self.client.max_payload}; raise it to 1 MiB"
            )
        try:
            self.client.send(encode_publish(subject, reply, headers, payload))
        except ConnectionError as error:
            raise BusUnavailable(f"the connection to nats-server is lost: {error}") from error
        if on_reply is not None:
            self._awaited[self._token] = (subject, on_reply)
        return self._token

    def forget(self, token: int) -> None:
        """Expect no more answers to `token`."""
        self._awaited.pop(token, None)

    def deny(self, subject: str) -> None:
        """Answer what was sent to `subject` in the server's stead, which only drops it.

        It names the subject as it was mapped, and nats-py tells it in lower case.
        """
        for asked, on_reply in list(self._awaited.values()):
            if subject.lower() in (asked.lower(), asked.replace(GUARDED_API, API, 1).lower()):
                on_reply(DENIAL)

    def lose(self) -> None:
        """Tell everyone who awaits an answer that none will come."""
        awaited, self._awaited = self._awaited, {}
        for _, on_reply in awaited.values():
            on_reply(None)

    async def probe(self) -> bool:
        """Whether a message to ourselves comes back in time."""
        answered = asyncio.Event()
        token = 0
        try:
            self._token += 1
            token = self._token
            to = f"{self._inbox}{token}"
            self._awaited[token] = (to, lambda reply: answered.set())
            self.client.send(encode_publish(to, "", b"", b""))
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await answered.wait()
        except (TimeoutError, ConnectionError):
            return False
        finally:
            self.forget(token)
        return True

    def _on_reply(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        awaited = self._awaited.get(int(subject[len(self._inbox) :]))
        if awaited is not None:
            awaited[1](Reply(headers, payload))


class Listener:
    """A subscription that is renewed on every new client."""

    def __init__(self, subject: str, on_message: OnMessage, on_connect: Callable[[], None]) -> None:
        self.subject = subject
        self.on_message = on_message
        self.on_connect = on_connect
        self.number = 0

    def start(self, client: Client) -> None:
        self.number = client.listen(self.subject, self.on_message)
        self.on_connect()
