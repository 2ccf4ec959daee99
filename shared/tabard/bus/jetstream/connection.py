"""A connection that comes back, with requests on it.

nats-py's own reconnection is off: after it a client may send what it kept from before, may hang in
closing a dead socket, and may die unnoticed. Here a client is used once. One task opens it, probes
it with a request to ourselves, and replaces it when it has closed or turned out a zombie: still
"connected", but its server stopped or its read loop dead. That task is the connection's own and
ends in `close`.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from tabard.auth.keys import KeyFault, read_key
from tabard.bus.jetstream.client import OnMessage, heed_cancellation
from tabard.bus.jetstream.options import Options
from tabard.bus.jetstream.question import Question
from tabard.bus.jetstream.session import DENIAL, PROBE_TIMEOUT_S, Listener, Session
from tabard.bus.jetstream.wire import Reply
from tabard.bus.port import BusUnavailable, Denied, Link
from tabard.bus.subjects import API, GUARDED_API

log = structlog.get_logger(__name__)

PROBE_INTERVAL_S = 2.0
PROBE_FAILURES_MAX = 2
"""Unanswered probes in a row that make a zombie; so one is found within 8 seconds."""
ATTEMPT_TIMEOUT_S = 2.0
RETRY_DELAY_S_MIN = 0.05
RETRY_DELAY_S_MAX = 2.0
LEADER_DELAY_S_MIN = 0.05
LEADER_DELAY_S_MAX = 0.5
"""Waits for a leader, which is elected within 4 to 9 s if the one before is killed, and at once if
it was asked to end."""
MISSED_S_MAX = 30.0
"""After so long without a question nothing is known of leaders, bad or good."""
CUT_OFF_S = 12.0
"""With several servers to choose from, how long one is believed through which no stream's leader is
heard: longer than JetStream takes to elect one."""
UNKNOWN_ISSUER = "unable to get local issuer certificate"
"""OpenSSL's words for it; nats-py hands on no more than the text."""
UNVOUCHED = "; does TABARD_NATS_CA (--ca) name the ca.pem that vouches for it?"
MAKE_STREAMS = "python -m tabard.server.streams makes them, and so does tabard up"


def waits_s(total_s: float) -> Iterator[float]:
    """Waits between tries of what one leader lost and another will take, `total_s` together."""
    delay, end = LEADER_DELAY_S_MIN, asyncio.get_running_loop().time() + total_s
    while asyncio.get_running_loop().time() + delay < end:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(1.5 * delay, LEADER_DELAY_S_MAX)


class Connection:
    """Keeps one session open to one of `urls`, for ever, until `close`."""

    def __init__(self, urls: Sequence[str], name: str, options: Options) -> None:
        self.options = options
        self.name = name
        # Thousands of clients must not all try the same server first.
        self._urls = random.sample(list(urls), len(urls))
        self._session: Session | None = None
        self._changed = asyncio.Event()
        self._end = ""
        self._failure = ""
        self._connects = 0
        self._listeners: set[Listener] = set()
        self._unheard_since: float | None = None
        """When this server's was missed first; another server begins anew."""
        self._missed: tuple[float, float] | None = None
        """Since when no leader was heard, whatever the server, and when one was missed last."""
        self._heard_at = 0.0
        # When a stream has no leader all clients miss it at once, and need not all move at once.
        self._spread = random.uniform(1.0, 1.5)
        self.known: dict[str, int] = {}
        """Stream → the highest sequence that this process was told of: it ends there, or later."""
        self._task = asyncio.create_task(self._keep_open(), name=f"bus.connection.{name}")
        self._task.add_done_callback(self._on_task_done)

    @property
    def closed(self) -> bool:
        return bool(self._end)

    @property
    def api(self) -> str:
        """The prefix of JetStream's API."""
        return self.options.api_prefix or (GUARDED_API if self.options.nkey else API)

    @property
    def link(self) -> Link:
        session = self._session
        connected = session is not None and session.client.is_open
        failure = self._failure if session is None else session.client.failure
        why = "" if connected else f"{self}: {failure or 'lost'}"
        return Link(connected, self._connects, why, self._unheard_s())

    def _unheard_s(self) -> float:
        if self._missed is None:
            return 0.0
        first, last = self._missed
        return last - first if asyncio.get_running_loop().time() - last < MISSED_S_MAX else 0.0

    def __str__(self) -> str:
        # Without user:password@, which does not belong in logs and messages.
        return ", ".join((urlsplit(url).netloc or url).rpartition("@")[2] for url in self._urls)

    async def session(self) -> Session:
        """The open session, as soon as there is one; wait within `deadline`."""
        while True:
            self._check_open()
            # It may be over before `_watch` has noticed.
            if self._session is not None and self._session.client.is_open:
                return self._session
            await self._changed.wait()

    async def session_for(self, what: str) -> Session:
        """As `session`; BusUnavailable, naming `what`, if none opens within the request timeout."""
        if self._session is not None and self._session.client.is_open and not self._end:
            return self._session  # most often: then a timer would cost more than the publish
        async with self.deadline(what):
            return await self.session()

    @asynccontextmanager
    async def deadline(self, what: str, seconds: float | None = None) -> AsyncIterator[None]:
        """BusUnavailable if the body takes longer than the request timeout."""
        seconds = self.options.request_timeout_s if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            self.miss(seconds)
            state = "connected" if self._session is not None else "not connected"
            raise BusUnavailable(
                f"no answer from nats-server at {self} to {what} within {seconds:g} s ({state}"
                f"{': ' + self._failure if self._failure else ''}); is it up, and does JetStream "
                "have a leader?"
            ) from error

    async def request(
        self,
        subject: str,
        payload: bytes,
        what: str,
        take: Callable[[Reply], bool] = lambda reply: True,
        restart: Callable[[], object] = lambda: None,
        headers: bytes = b"",
    ) -> Reply:
        """One request and its answers, up to the one of which `take` says that it is the last.

        For questions, and what may be done twice: if the connection is lost or nobody answers, it
        is asked again, after `restart`. `what` names it in errors.
        """
        async with self.deadline(what):
            reply = None
            while reply is None:
                session = await self.session()
                question = Question(take)
                try:
                    token = session.send(subject, headers, payload, question.on_reply)
                    try:
                        reply = await question.last
                    finally:
                        session.forget(token)
                finally:
                    question.close()
                if reply is None:
                    restart()
        return self.present(reply, what)

    def present(self, reply: Reply | None, what: str) -> Reply:
        """`reply`, unless it says that nobody is there to answer, or that asking is denied."""
        if reply is None:
            self._check_open()
            raise BusUnavailable(f"the connection to {self} was lost during {what}")
        if reply is DENIAL:
            raise Denied(
                f"nats-server at {self} does not let {self.name!r} do this: {what}; come with the "
                "key of a role that may"
            )
        if reply.status == 503:
            self.miss()
            raise BusUnavailable(
                f"nobody answers {what} at {self}: JetStream is off or has no leader, or the "
                f"stream does not exist; {MAKE_STREAMS}{self._accounts_hint}"
            )
        return reply

    @property
    def _accounts_hint(self) -> str:
        if self.api != GUARDED_API:
            return ""
        return (
            f". With a key it is asked on {GUARDED_API}, as the accounts of `tabard auth` have it"
        )

    def learn(self, stream: str, sequence: int) -> None:
        """A message of this sequence is stored, as the stream's leader or a copy of it says."""
        if sequence > self.known.get(stream, 0):
            self.known[stream] = sequence

    def hear(self) -> None:
        """A stream's leader answered."""
        self._unheard_since = self._missed = None
        self._heard_at = asyncio.get_running_loop().time()

    def miss(self, waited_s: float = 0.0) -> None:
        """No leader answered, for `waited_s`. Where none is heard for long, the server may be cut
        off from the others; they may be better off."""
        now = asyncio.get_running_loop().time()
        since = max(now - waited_s, self._heard_at) if self._missed is None else self._missed[0]
        self._missed = since, now
        if self._unheard_since is None:
            self._unheard_since = now
        elif now - self._unheard_since > CUT_OFF_S * self._spread:
            self.leave(f"no leader was heard through it for {now - self._unheard_since:.0f} s")

    def leave(self, reason: str) -> None:
        """Go to the next server, if there is another."""
        if len(self._urls) > 1 and self._session is not None:
            self._unheard_since = None
            self._session.client.end(reason)

    def listen(
        self, subject: str, on_message: OnMessage, on_connect: Callable[[], None]
    ) -> Listener:
        """Subscribe now and after every reconnection; `on_connect` is called each time."""
        listener = Listener(subject, on_message, on_connect)
        self._listeners.add(listener)
        if self._session is not None:
            listener.start(self._session.client)
        return listener

    def silence(self, listener: Listener) -> None:
        """End what `listen` began."""
        self._listeners.discard(listener)
        if self._session is not None:
            self._session.client.silence(listener.number)

    async def close(self) -> None:
        self._end = "was closed"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _check_open(self) -> None:
        if self._end:
            raise BusUnavailable(f"the bus connection {self.name!r} {self._end}")

    async def _keep_open(self) -> None:
        delay = RETRY_DELAY_S_MIN
        attempt = 0
        while True:
            url = self._urls[attempt % len(self._urls)]
            attempt += 1
            session = await self._open(url)
            if session is None:
                delay = min(2 * delay, RETRY_DELAY_S_MAX)
            else:
                delay = RETRY_DELAY_S_MIN
                try:
                    self._enter(session)
                    self._failure = await self._watch(session)
                    log.warning("bus.disconnected", name=self.name, reason=self._failure)
                finally:
                    self._session = None
                    session.lose()
                    await session.client.abandon()
            # Spread, for all clients of a lost server come at once.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _open(self, url: str) -> Session | None:
        options = self.options
        try:
            key = read_key(options.nkey) if options.nkey else None
            tls = _trusting(options.ca) if options.ca else None
        except (KeyFault, OSError) as error:
            self._note_failure(str(error))
            return None
        inbox = key.inbox if key else options.inbox_prefix
        session = Session(inbox)
        client = session.client
        client.tls_only = bool(tls) or urlsplit(url).scheme == "tls"
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                await client.connect(
                    [url],
                    name=self.name,
                    error_cb=client.note_error,
                    allow_reconnect=False,
                    # Two tries in this attempt; the attempts themselves never end.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    user=options.user,
                    password=options.password,
                    user_credentials=options.user_credentials,
                    nkeys_seed_str=key.seed if key else None,
                    inbox_prefix=inbox,
                    tls=tls,
                )
            heed_cancellation()
            session.start()
            return session
        except Exception as error:
            # Whatever it is (refused, TLS, authentication, a half-started server): try again.
            failure = client.failure or str(error) or type(error).__name__
            self._note_failure(failure + (UNVOUCHED if UNKNOWN_ISSUER in failure else ""))
            await client.abandon()
            return None
        except asyncio.CancelledError:
            await client.abandon()
            raise

    def _note_failure(self, reason: str) -> None:
        self._failure = reason
        log.warning("bus.connect_failed", name=self.name, reason=reason)

    def _enter(self, session: Session) -> None:
        self._session = session
        self._connects += 1
        for listener in self._listeners:
            listener.start(session.client)
        self._announce()

    async def _watch(self, session: Session) -> str:
        """Return why `session` is over, once it is."""
        failures = 0
        while failures < PROBE_FAILURES_MAX:
            if not failures:
                try:
                    async with asyncio.timeout(PROBE_INTERVAL_S):
                        await session.client.over.wait()
                except TimeoutError:
                    pass
            if session.client.over.is_set():
                return session.client.failure or "closed by the server"
            failures = 0 if await session.probe() else failures + 1
        return f"zombie: {failures} probes of {PROBE_TIMEOUT_S:g} s went unanswered"

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        # Cancelled by `close` or with the loop; anything else is a defect. Nobody may go on waiting
        # for a session that will not come.
        self._end = "was closed"
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end = f"failed: {error!r}"
            log.error("bus.connection_failed", name=self.name, exc_info=error)
        self._announce()
        for listener in self._listeners:
            listener.on_connect()


def _trusting(ca: Path) -> ssl.SSLContext:
    """For servers that `ca` vouches for, and no others; OSError if it cannot be read."""
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise OSError(f"CA file {ca} holds no certificate in PEM: {error.reason}") from error
    except OSError as error:
        raise OSError(f"CA file {ca} cannot be read: {error.strerror}") from error
