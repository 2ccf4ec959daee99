import asyncio
import gzip
import os
import re
import socket
import threading
import time
from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from pydantic import TypeAdapter, ValidationError

from scraping import get, read
from tabard.process import http
from tabard.process.http import HttpAddress, ListenError, serving


class Page:
    reason = ""
    broken = False

    def __init__(self) -> None:
        self.threads: set[int] = set()
        """On which it was asked."""

    def unready(self) -> str:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise ZeroDivisionError
        return self.reason

    async def families(self) -> Iterable[Metric]:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise ZeroDivisionError
        return [GaugeMetricFamily("tabard_x_lag_events", "Lag.", 7)]


async def raw(url: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


def header(answer: bytes, name: str) -> str:
    found = re.search(rf"\r\n{name}: ([^\r]*)\r\n", answer.decode("latin-1"), re.IGNORECASE)
    assert found, answer
    return found[1]


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
    assert page.threads == {threading.get_ident()}


async def test_a_scrape_tells_the_memory_of_the_process_in_bytes() -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        found = read((await get(f"{url}/metrics"))[1])
    assert 10 << 20 < found["process_resident_memory_bytes", ()] < 1 << 30
    assert found["process_open_fds", ()] >= 3
    assert found["process_cpu_seconds_total", ()] > 0
    assert time.time() - 86_400 < found["process_start_time_seconds", ()] <= time.time() + 1


async def test_a_scraper_gets_the_format_that_it_accepts() -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        plain = await raw(url, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert header(plain, "Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        accept = b"Accept: application/openmetrics-text;version=1.0.0\r\n"
        new = await raw(url, b"GET /metrics HTTP/1.1\r\n" + accept + b"\r\n")
        assert header(new, "Content-Type").startswith("application/openmetrics-text; version=1.0.0")
        assert new.endswith(b"# EOF\n")
        packed = await raw(url, b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
        assert header(packed, "Content-Encoding") == "gzip"
        assert b"tabard_x_lag_events 7.0\n" in gzip.decompress(packed.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path", ["healthz", "readyz", "metrics"])
async def test_a_loop_that_stands_still_fails_every_probe(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LOOP_S_MAX", 0.05)
    async with serving("127.0.0.1:0", Page()) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30) as probe:
            probe.sendall(f"GET /{path} HTTP/1.1\r\n\r\n".encode())
            answer = probe.recv(65_536)  # blocks the loop
            while more := probe.recv(65_536):
                answer += more
        assert answer.partition(b"\r\n")[0] == b"HTTP/1.0 503 Service Unavailable"
        assert answer.endswith(b"the event loop did not answer within 0.05 s\n")
        monkeypatch.undo()
        assert (await get(f"{url}/{path}"))[0] == 200


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
        for path in ("metrics", "readyz"):
            assert await get(f"{url}/{path}") == (500, "see the service's log\n")
        page.broken = False
        for path in ("metrics", "readyz"):
            assert (await get(f"{url}/{path}"))[0] == 200


async def test_other_methods_and_large_requests_are_refused() -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        assert b" 405 " in (await raw(url, b"POST /metrics HTTP/1.1\r\n\r\n")).splitlines()[0]
        assert b"Error code: 400" in await raw(url, b"nonsense\r\n\r\n")
        large = b"GET / HTTP/1.1\r\n" + b"X: ".ljust(65_537, b"x")
        assert b" 431 " in (await raw(url, large)).splitlines()[0]
        assert await get(f"{url}/healthz") == (200, "ok\n")


@pytest.mark.parametrize("path", [b"/readyz", b"/metrics", b"/nowhere"])
async def test_head_is_answered_as_get_without_the_body(path: bytes) -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        head = await raw(url, b"HEAD " + path + b" HTTP/1.1\r\n\r\n")
        whole = await raw(url, b"GET " + path + b" HTTP/1.1\r\n\r\n")
        body = whole.partition(b"\r\n\r\n")[2]
        assert head.partition(b"\r\n")[0] == whole.partition(b"\r\n")[0]
        assert head.partition(b"\r\n\r\n")[2] == b""
        assert int(header(whole, "Content-Length")) == len(body)
        # What the process says of itself may have become a digit longer meanwhile.
        assert abs(int(header(head, "Content-Length")) - len(body)) < 50


async def test_nothing_is_printed_for_a_request(capfd: pytest.CaptureFixture[str]) -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        capfd.readouterr()
        for path in ("healthz", "metrics", "nowhere"):
            await get(f"{url}/{path}")
        await raw(url, b"nonsense\r\n\r\n")
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as hasty:
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            hasty.sendall(b"GET /metr")
        await get(f"{url}/healthz")
    assert capfd.readouterr() == ("", "")


async def test_the_end_waits_for_no_connection_and_leaves_no_thread() -> None:
    async with serving("127.0.0.1:0", Page()) as url:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz")
        assert await get(f"{url}/healthz") == (200, "ok\n")
    assert await reader.read() == b""
    writer.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name == "http" or "process_request" in name]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


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
