"""What a pod's listeners say, on the event loop that the source runs on and on the standard one."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from tabard.events.observed import Ports
from tabard.source.pods import listeners as listening
from tabard.source.pods.listeners import Listeners, Sockets, open_sockets

Test = Callable[[], Awaitable[None]]


@pytest.fixture(params=["uvloop", "asyncio"])
def on_loop(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(test: Test) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(test())  # type: ignore[arg-type]

    return run


def free(*protocols: str) -> Ports:
    """A port of this machine for each protocol, free a moment ago."""
    ports = []
    for protocol in protocols:
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET6, kind) as tried:
            tried.bind(("", 0))
            ports.append(("", tried.getsockname()[1], protocol))
    return tuple(ports)


def test_tcp_says_the_pods_name_and_echoes(on_loop: Callable[[Test], None]) -> None:
    async def test() -> None:
        (port,) = free("TCP")
        listeners = Listeners("shop/web")
        await listeners.open(open_sockets((port,)))
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, port[1])
            writer.write(b"x" * 300_000)
            assert await reader.readline() == b"shop/web\n"
            assert await reader.readexactly(300_000) == b"x" * 300_000
            writer.close()
        listeners.close()
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("127.0.0.1", port[1])

    on_loop(test)


def test_udp_echoes_in_both_families_and_fills_in_its_name(on_loop: Callable[[Test], None]) -> None:
    async def test() -> None:
        (port,) = free("UDP")
        listeners = Listeners("shop/dns")
        await listeners.open(open_sockets((port,)))
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.connect((host, port[1]))
                client.settimeout(2)
                client.send(b"ping")
                assert await asyncio.to_thread(client.recv, 10) == b"ping"
                client.send(b"\nping")
                assert await asyncio.to_thread(client.recv, 30) == b"shop/dns\nping"
        listeners.close()

    on_loop(test)


def test_closing_ends_what_is_open(on_loop: Callable[[Test], None]) -> None:
    async def test() -> None:
        (port,) = free("TCP")
        listeners = Listeners("shop/web")
        await listeners.open(open_sockets((port,)))
        reader, writer = await asyncio.open_connection("127.0.0.1", port[1])
        await reader.readline()
        listeners.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 2)
        writer.close()

    on_loop(test)


def test_at_the_bound_the_oldest_connection_makes_room(
    on_loop: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "CONNECTIONS_MAX", 2)

    async def test() -> None:
        (port,) = free("TCP")
        listeners = Listeners("shop/web")
        await listeners.open(open_sockets((port,)))
        connections = []
        for _ in range(3):
            connections.append(await asyncio.open_connection("127.0.0.1", port[1]))
            assert await connections[-1][0].readline() == b"shop/web\n"
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(connections[0][0].readexactly(1), 2)
        for reader, writer in connections[1:]:
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
        for _, writer in connections:
            writer.close()
        listeners.close()

    on_loop(test)


def test_a_taken_port_opens_none_of_them(on_loop: Callable[[Test], None]) -> None:
    async def test() -> None:
        first, second = free("TCP", "TCP")
        other = Listeners("shop/other")
        await other.open(open_sockets((second,)))
        listeners = Listeners("shop/web")
        sockets = open_sockets((first, second))
        with pytest.raises(OSError, match="in use"):
            await listeners.open(sockets)
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("127.0.0.1", first[1])
        other.close()

    on_loop(test)


def test_a_port_named_twice_is_opened_once() -> None:
    sockets = open_sockets((("a", 80, "TCP"), ("b", 80, "TCP"), ("a", 80, "UDP")))
    assert [number for number, _ in sockets.made] == [80, 80]
    sockets.close()


def test_a_protocol_that_the_kernel_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # 253 is left for experiments (RFC 3692): no kernel has sockets of it.
    monkeypatch.setitem(listening._KINDS, "SCTP", (socket.SOCK_STREAM, 253))
    assert open_sockets((("", 7, "SCTP"),)) == Sockets([], {"SCTP"})
