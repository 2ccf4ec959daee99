"""/metrics, /healthz and /readyz of a service, answered by its own event loop.

So what answers is what works: a loop that stands still answers no probe, and state is read between
its steps, without locks. A connection gets one answer.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Protocol

import structlog
from pydantic import AfterValidator

from tabard.process.metrics import CONTENT_TYPE, Family, own_process, text

log = structlog.get_logger(__name__)

REQUEST_BYTES_MAX = 8 << 10
REQUEST_S_MAX = 5.0
"""From the connection to the last byte of its answer."""
CONNECTIONS_MAX = 32
"""Most connections at a time; one more is hung up on."""

_PLAIN = "text/plain; charset=utf-8"
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
    """What a service shows of itself."""

    def unready(self) -> str:
        """Why it is not ready, in one line; empty if it is."""
        ...

    async def families(self) -> Iterable[Family]:
        """Its metrics now. Bounded in time: a scraper waits."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: str
    content_type: str = _PLAIN


@asynccontextmanager
async def serving(address: HttpAddress, page: Page) -> AsyncIterator[str]:
    """Serve `page` at `address` inside the block, which is given the URL (empty: not served).

    ListenError if the address cannot be had.
    """
    if not address:
        yield ""
        return
    listener = _listener(address)
    server = await asyncio.start_server(
        _Visitors(page).welcome, sock=listener, limit=REQUEST_BYTES_MAX
    )
    url = _url(listener)
    log.info("http.serving", url=url)
    try:
        yield url
    finally:
        server.close()


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
            return socket.socket(fileno=where)
        found = socket.getaddrinfo(*where, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4], family=found[0][0])
    except OSError as error:
        raise ListenError(
            f"TABARD_HTTP={address} cannot be served: {error.strerror or error}; "
            "choose another address, or none to serve nothing"
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Visitors:
    """The connections of one server."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._count = 0

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        try:
            if self._count <= CONNECTIONS_MAX:
                # Who hangs up, is too slow or sends too much gets no answer, and needs none.
                with contextlib.suppress(
                    TimeoutError, ConnectionError, asyncio.IncompleteReadError
                ):
                    async with asyncio.timeout(REQUEST_S_MAX):
                        await self._converse(reader, writer)
        finally:
            self._count -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            answer, method = _Answer(status, f"more than {REQUEST_BYTES_MAX} bytes\n"), "GET"
        else:
            method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
            answer = await self._answer(method, rest.partition(" ")[0].partition("?")[0])
        body = answer.body.encode()
        lines = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
            "\r\n",
        )
        writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))
        await writer.drain()

    async def _answer(self, method: str, path: str) -> _Answer:
        if method not in ("GET", "HEAD"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD only\n")
        match path:
            case "/healthz":
                return _Answer(HTTPStatus.OK, "ok\n")
            case "/readyz":
                if reason := self._page.unready():
                    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
                return _Answer(HTTPStatus.OK, "ok\n")
            case "/metrics":
                try:
                    families = [*await self._page.families(), *own_process()]
                except Exception:  # a fault of ours, which must not end the connection unsaid
                    log.exception("http.metrics_failed")
                    return _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "see the service's log\n")
                return _Answer(HTTPStatus.OK, text(families), CONTENT_TYPE)
            case _:
                return _Answer(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz\n")
