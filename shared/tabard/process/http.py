"""/metrics, /healthz and /readyz of a service: wsgiref's server on a thread, state from the loop.

The server's threads only wait, write and format. What they say is collected by the service's own
event loop, between its steps and without locks, so a loop that stands still fails every probe. A
connection gets one answer.
"""

import asyncio
import re
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Annotated, Any, Protocol, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, make_wsgi_app
from prometheus_client.registry import Collector
from pydantic import AfterValidator

log = structlog.get_logger(__name__)

LOOP_S_MAX = 4.0
"""Longest wait for the event loop; then the answer is 503."""
REQUEST_S_MAX = 5.0
"""From the connection to the last byte of its answer."""
CONNECTIONS_MAX = 32
"""Most connections at a time; one more is hung up on."""
_POLL_S = 0.1
"""Between two looks for connections that took too long, and for the end."""

T = TypeVar("T")
_Answer = tuple[str, list[tuple[str, str]], bytes]
"""Status line, headers, body."""

_ADDRESS = re.compile(r"fd:(?P<fd>\d{1,6})|(\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]/]+)):(?P<port>\d+)")


def _checked(value: str) -> str:
    if value:
        _read(value)
    return value


HttpAddress = Annotated[str, AfterValidator(_checked)]
"""`host:port` (`[::1]:9100`; port 0 takes a free one), `fd:N` for a listening socket that the
process inherited, or empty: nothing is served."""


class ListenError(Exception):
    """Nothing can be served at the address; says which, why, and what to do."""


class Page(Protocol):
    """What a service shows of itself. Both are called on its event loop."""

    def unready(self) -> str:
        """Why it is not ready, in one line; empty if it is."""
        ...

    async def families(self) -> Iterable[Metric]:
        """Its metrics now. Bounded in time: a scraper waits."""
        ...


@asynccontextmanager
async def serving(address: HttpAddress, page: Page) -> AsyncIterator[str]:
    """Serve `page` at `address` inside the block, which is given the URL (empty: not served).

    ListenError if the address cannot be had.
    """
    if not address:
        yield ""
        return
    server = _Server(_listener(address), _Site(page, asyncio.get_running_loop()))
    threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="http", daemon=True).start()
    log.info("http.serving", url=server.url)
    try:
        yield server.url
    finally:
        # On another thread: those that are waited for may be waiting for the loop.
        await asyncio.to_thread(server.end)


def _read(address: str) -> tuple[str, int] | int:
    """Host and port, or a descriptor; ValueError if it is neither."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is neither host:port nor fd:N")
    if match["fd"]:
        return int(match["fd"])
    if (port := int(match["port"])) > 65535:
        raise ValueError(f"{address!r} has a port above 65535")
    return match["v6"] or match["host"], port


def _listener(address: str) -> socket.socket:
    where = _read(address)
    try:
        if isinstance(where, int):
            listener = socket.socket(fileno=where)
            listener.listen()
        else:
            found = socket.getaddrinfo(*where, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            listener = socket.create_server(found[0][4], family=found[0][0])
    except OSError as error:
        raise ListenError(
            f"TABARD_HTTP={address} cannot be served: {error.strerror or error}; "
            "choose another address, or none to serve nothing"
        ) from error
    listener.setblocking(False)  # another process may have taken the connection meanwhile
    return listener


class _Site(Collector):
    """The three paths, as a WSGI application; and the page, as a collector of metrics."""

    def __init__(self, page: Page, loop: asyncio.AbstractEventLoop) -> None:
        self._page = page
        self._loop = loop
        registry = CollectorRegistry(support_collectors_without_names=True)
        registry.register(self)
        ProcessCollector(registry=registry)
        self._exposition = make_wsgi_app(registry)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        try:
            status, headers, body = self._answer(environ)
        except TimeoutError:
            why = f"the event loop did not answer within {LOOP_S_MAX} s\n"
            status, headers, body = _plain(HTTPStatus.SERVICE_UNAVAILABLE, why)
        except Exception:  # a fault of ours, which must not end the connection unsaid
            log.exception("http.failed", path=environ["PATH_INFO"])
            why = "see the service's log\n"
            status, headers, body = _plain(HTTPStatus.INTERNAL_SERVER_ERROR, why)
        headers += [("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def collect(self) -> Iterable[Metric]:
        return self._on_loop(self._page.families())

    def _answer(self, environ: WSGIEnvironment) -> _Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD only\n")
        match environ["PATH_INFO"]:
            case "/healthz":
                self._on_loop(asyncio.sleep(0))
                return _plain(HTTPStatus.OK, "ok\n")
            case "/readyz":
                if reason := self._on_loop(self._unready()):
                    return _plain(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
                return _plain(HTTPStatus.OK, "ok\n")
            case "/metrics":
                return self._exposed(environ)
            case _:
                return _plain(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz\n")

    def _exposed(self, environ: WSGIEnvironment) -> _Answer:
        """In the format that the scraper accepts; the library's application knows no HEAD."""
        said: list[tuple[str, list[tuple[str, str]]]] = []
        body = self._exposition(
            {**environ, "REQUEST_METHOD": "GET"}, lambda *begun: said.append(begun)
        )
        return *said[0], b"".join(body)

    async def _unready(self) -> str:
        return self._page.unready()

    def _on_loop(self, step: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(step, self._loop)
        try:
            return future.result(LOOP_S_MAX)
        finally:
            future.cancel()


def _plain(status: HTTPStatus, body: str) -> _Answer:
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    return f"{status.value} {status.phrase}", headers, body.encode()


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes are many; none is news."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, of which the number and the time are bounded."""

    def __init__(self, listener: socket.socket, site: _Site) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.set_app(site)
        self._lock = threading.Lock()
        self._begun: dict[Any, float] = {}
        """Connections, and since when."""

    @property
    def url(self) -> str:
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}"

    def end(self) -> None:
        """Hang up on all, and wait for their threads."""
        self.shutdown()
        self._hang_up(0.0)
        self.server_close()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._begun) >= CONNECTIONS_MAX:
                return False
            self._begun[request] = time.monotonic()
            return True

    def service_actions(self) -> None:
        self._hang_up(REQUEST_S_MAX)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._begun.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # who hangs up gets no answer, needs none
            log.exception("http.failed")

    def _hang_up(self, after_s: float) -> None:
        """On connections that are so old: their threads then read or write no more, and end."""
        with self._lock:  # so that none is closed, and its descriptor another's, meanwhile
            for request, begun in self._begun.items():
                if time.monotonic() - begun >= after_s:
                    with suppress(OSError):  # the other end was quicker
                        request.shutdown(socket.SHUT_RDWR)
