import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Outgoing, Stream
from tabard.bus.server import EmbeddedServer, ServerError

pytestmark = pytest.mark.nats


async def store(url: str, count: int) -> int:
    """Publish `count` messages; the stream's last sequence then."""
    bus = await JetStreamBus.connect(url, name="test")
    await bus.ensure_streams()
    await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"")] * count)
    last = await bus.last_sequence(Stream.OBSERVED)
    await bus.close()
    return last


async def test_the_server_runs_as_configured(own_nats_server: EmbeddedServer) -> None:
    url = own_nats_server.monitoring_url + "/varz"
    body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
    varz = json.loads(body)
    assert varz["max_payload"] == 1 << 20
    assert varz["jetstream"]["config"]["sync_always"] is True
    assert varz["host"] == "127.0.0.1"
    assert varz["http_host"] == "127.0.0.1"
    assert f":{varz['port']}" in own_nats_server.url


async def test_a_new_start_finds_what_was_stored_and_keeps_its_port(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    await server.start()
    url = server.url
    assert await store(url, 3) == 3
    await server.stop()
    assert server.pid == 0
    await server.stop()
    await server.start()
    assert server.url == url
    assert await store(url, 2) == 5
    await server.stop()
    other = EmbeddedServer(tmp_path, sync_always=False)
    await other.start()
    assert await store(other.url, 1) == 6
    await other.stop()


async def test_a_killed_server_is_noticed_and_can_be_started_again(
    own_nats_server: EmbeddedServer,
) -> None:
    waiting = asyncio.create_task(own_nats_server.wait())
    os.kill(own_nats_server.pid, signal.SIGKILL)
    assert await asyncio.wait_for(waiting, 5) == -signal.SIGKILL
    assert own_nats_server.pid == 0
    await own_nats_server.start()
    assert await store(own_nats_server.url, 1) == 1


async def test_two_servers_at_once_take_different_ports(tmp_path: Path) -> None:
    servers = [EmbeddedServer(tmp_path / str(n)) for n in range(2)]
    await asyncio.gather(*(server.start() for server in servers))
    assert servers[0].url != servers[1].url
    await asyncio.gather(*(server.stop() for server in servers))


async def test_a_data_directory_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    first = EmbeddedServer(tmp_path)
    await first.start()
    with pytest.raises(ServerError, match=rf"{tmp_path} is in use \(by process {os.getpid()}\)"):
        await EmbeddedServer(tmp_path).start()
    assert await store(first.url, 1) == 1
    await first.stop()


async def test_a_missing_binary_is_named(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, binary=tmp_path / "no-such-server")
    with pytest.raises(ServerError, match=r"no nats-server at .*no-such-server; install"):
        await server.start()


async def test_a_port_in_use_is_an_error_with_the_servers_own_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = EmbeddedServer(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ServerError, match="address already in use"):
            await server.start()


async def test_a_cancelled_start_leaves_no_server(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    starting = asyncio.create_task(server.start())
    while not server.pid:  # noqa: ASYNC110 - then there is a process, not yet ready
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert server.pid == 0
    await server.start()
    await server.stop()


PARENT = """
import asyncio, sys
from tabard.bus.server import EmbeddedServer
async def main():
    server = EmbeddedServer(sys.argv[1])
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_server_dies_with_a_killed_parent_and_frees_its_directory(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = 0
    while not pid:
        line = (await asyncio.wait_for(parent.stdout.readline(), 20)).decode().strip()
        pid = int(line) if line.isdigit() else 0
    descriptor = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    parent.kill()
    await parent.wait()
    await asyncio.wait_for(gone.wait(), 5)
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)
    server = EmbeddedServer(tmp_path)
    await server.start()
    await server.stop()


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"tabard-bus-{os.getpid()}-{os.urandom(2).hex()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.ebpf
async def test_a_server_in_a_network_namespace_is_reachable_only_there(
    tmp_path: Path, netns: str
) -> None:
    server = EmbeddedServer(tmp_path, netns=netns)
    await server.start()
    own, servers = os.stat("/proc/self/ns/net"), os.stat(f"/proc/{server.pid}/ns/net")
    assert servers.st_ino == os.stat(f"/run/netns/{netns}").st_ino != own.st_ino
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=1)
    await server.stop()


@pytest.mark.ebpf
async def test_a_missing_network_namespace_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="/run/netns/tabard-none cannot be opened"):
        await EmbeddedServer(tmp_path, netns="tabard-none").start()
