"""A pod's listeners: sockets made in its namespace, served by this process's event loop.

TCP (and SCTP, where the kernel has it): the pod's name on a line, then everything comes back. UDP:
every datagram comes back; if its first line is empty, with the pod's name in it.
"""

import asyncio
import errno
import socket
from dataclasses import dataclass, field
from typing import cast

from tabard.events.observed import Ports

CONNECTIONS_MAX = 256
"""Most open connections of one pod; then the oldest makes room."""
BACKLOG = 128
KEEPALIVE_S = 30
"""A silent peer is asked after this time, so that connections to pods that are gone do not stay."""

_KINDS = {
    "TCP": (socket.SOCK_STREAM, 0),
    "UDP": (socket.SOCK_DGRAM, 0),
    "SCTP": (socket.SOCK_STREAM, getattr(socket, "IPPROTO_SCTP", 132)),
}


@dataclass(slots=True)
class Sockets:
    """Made in a pod's namespace, not yet bound. `unserved` are protocols that the kernel lacks."""

    made: list[tuple[int, socket.socket]] = field(default_factory=list)
    """(port, socket)"""
    unserved: set[str] = field(default_factory=set)

    def close(self) -> None:
        for _, made in self.made:
            made.close()


def open_sockets(ports: Ports) -> Sockets:
    """A socket for each port, in the calling thread's namespace."""
    sockets = Sockets()
    try:
        for number, protocol in dict.fromkeys((number, protocol) for _, number, protocol in ports):
            try:
                sockets.made.append((number, _socket(*_KINDS[protocol])))
            except OSError as error:
                if error.errno not in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                    raise
                sockets.unserved.add(protocol)
    except BaseException:
        sockets.close()
        raise
    return sockets


def _socket(kind: int, protocol: int) -> socket.socket:
    kind |= socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        made = socket.socket(socket.AF_INET6, kind, protocol)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6
            raise
        return socket.socket(socket.AF_INET, kind, protocol)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made


class Listeners:
    """A pod's open ports. `close` at the end; nothing is left open then."""

    def __init__(self, name: str) -> None:
        """`name` is what TCP listeners say: `namespace/name`."""
        self._banner = f"{name}\n".encode()
        self._servers: list[asyncio.Server] = []
        self._datagrams: list[asyncio.DatagramTransport] = []
        self._connections: dict[asyncio.Transport, None] = {}

    async def open(self, sockets: Sockets) -> None:
        """Bind and serve all of them. OSError if a port is taken; nothing is open then."""
        loop = asyncio.get_running_loop()
        left = list(sockets.made)
        try:
            while left:
                number, made = left[0]
                if made.type == socket.SOCK_STREAM:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("", number))
                if made.type == socket.SOCK_STREAM:
                    server = await loop.create_server(
                        lambda: _Conversation(self._banner, self._connections),
                        sock=made,
                        backlog=BACKLOG,
                    )
                    self._servers.append(server)
                else:
                    transport, _ = await loop.create_datagram_endpoint(
                        lambda: _Echo(self._banner.strip()), sock=made
                    )
                    self._datagrams.append(transport)
                left.pop(0)
        except BaseException:
            self.close()
            Sockets(left).close()
            raise

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for datagram in self._datagrams:
            datagram.abort()
        for connection in list(self._connections):
            connection.abort()


class _Conversation(asyncio.Protocol):
    def __init__(self, banner: bytes, connections: dict[asyncio.Transport, None]) -> None:
        self._banner = banner
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, made)  # uvloop's is one in all but name
        if len(self._connections) >= CONNECTIONS_MAX:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.abort()
        self._transport = transport
        self._connections[transport] = None
        connection = transport.get_extra_info("socket")
        if connection.proto in (0, socket.IPPROTO_TCP):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        transport.write(self._banner)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.pop(self._transport, None)


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._name + data if data.startswith(b"\n") else data, addr)
