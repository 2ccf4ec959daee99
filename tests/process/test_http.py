import asyncio
import os
import socket
from collections.abc import Iterable

import pytest
from pydantic import TypeAdapter, ValidationError

from scraping import get, read
from tabard.process import http
from tabard.process.http import HttpAddress, ListenError, serving
from tabard.process.metrics import Family, gauge


class Page:
    reason = ""
    broken = False

    def unready(self) -> str:
        return self.reason

    async def families(self) -> Iterable[Family]:
        if self.broken:
            raise ZeroDivisionError
        return [gauge("tabard_x_lag_events", "Lag.", 7)]


async def raw(url: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


async def test_health_readiness_and_metrics_are_served_from_the_loop() -> None:
    page = Page()
    async with serving("127.0.0.1:0", page) as url:
        assert await get(f"{url}/healthz") == (200, "ok\n")
        assert await get(f"{url}/readyz") == (200, "ok\n")
        page.reason = "not in sync"
        assert await get(f"{url}/readyz") == (503, "not in sync\n")
        status, body = await get(f"{url}/metrics?from=prometheus")
        assert status == 200
        assert read(body)["tabard_x_lag_events", ()] == 7
        assert await get(f"{url}/healthz") == (200, "ok\n")
        status, body = await get(f"{url}/")
        assert (status, "/metrics" in body) == (404, True)


async def test_nothing_is_served_without_an_address() -> None:
    async with serving("", Page()) as url:
        assert url == ""


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=rf"TABARD_HTTP={address}.*in use"):
            async with serving(address, Page()):
                pass


async def test_an_inherited_socket_is_served_and_another_descriptor_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        given = listener.dup().detach()
        async with serving(f"fd:{given}", Page()) as url:
            assert url == f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert await get(f"{url}/healthz") == (200, "ok\n")
    other = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(ListenError, match=f"fd:{other}"):
            async with serving(f"fd:{other}", Page()):
                pass
    finally:
        os.close(other)


async def test_a_broken_page_is_an_error_of_the_server_and_ends_nothing() -> None:
    page = Page()
    page.broken = True
    async with serving("127.0.0.1:0", page) as url:
        assert (await get(f"{url}/metrics"))[0] == 500
        page.broken = False
        assert (await get(f"{url}/metrics"))[0] == 200


async def test_other_methods_and_large_requests_are_refused() -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        assert (await raw(url, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        head = await raw(url, b"HEAD /readyz HTTP/1.1\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 3\r\n" in head
        assert head.endswith(b"\r\n\r\n")
        large = b"GET / HTTP/1.1\r\nX: " + b"x" * http.REQUEST_BYTES_MAX
        assert (await raw(url, large)).startswith(b"HTTP/1.1 431 ")
        assert await raw(url, b"\r\n\r\n") != b""
        assert await get(f"{url}/healthz") == (200, "ok\n")


async def test_one_connection_too_many_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    async with serving("127.0.0.1:0", Page()) as url:
        port = int(url.rpartition(":")[2])
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        for _, each in (*idle, (reader, writer)):
            each.close()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await get(f"{url}/healthz") == (200, "ok\n")
                    break
                except OSError:
                    continue


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S_MAX", 0.05)
    async with serving("127.0.0.1:0", Page()) as url:
        assert await raw(url, b"GET /healthz") == b""


@pytest.mark.parametrize("good", ["", "127.0.0.1:9100", "[::1]:9100", "localhost:0", "fd:3"])
def test_an_address_is_host_and_port(good: str) -> None:
    assert TypeAdapter(HttpAddress).validate_python(good) == good


@pytest.mark.parametrize(
    "bad", ["9100", ":9100", "127.0.0.1", "::1:9100", "a:65536", "fd:x", "a/b:1"]
)
def test_any_other_address_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError, match=r"host:port|65535"):
        TypeAdapter(HttpAddress).validate_python(bad)
