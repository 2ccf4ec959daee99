"""Pods in the real kernel: a node's namespace, pods in it, and an agent that says yes or no."""

import asyncio
import contextlib
import os
import secrets
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gates import OK, StubGate
from tabard.events.observed import PodStarted, Ports
from tabard.netns import enter, names
from tabard.source.errors import PodFailed
from tabard.source.pods import netlink, wiring
from tabard.source.pods.gate import Gate
from tabard.source.pods.kernel import KernelRuntime
from tabard.source.pods.netlink import Channel
from tabard.source.pods.runtime import Attached, Wanted

pytestmark = pytest.mark.ebpf

NODE = "n1"
NODE_ADDRESSES = ("192.0.2.1", "fd00:ff::1")
PORTS: Ports = (("http", 8080, "TCP"), ("dns", 53, "UDP"), ("", 53, "TCP"))


@pytest.fixture
def run() -> Iterator[str]:
    """A run with one node: a namespace with an address of each family."""
    run = f"t{os.getpid()}{secrets.token_hex(2)}"

    def inside() -> None:
        with Channel() as channel:
            lo = channel.link("lo")
            assert lo is not None
            channel.send(
                [netlink.up("lo"), *(netlink.address(lo.index, ip) for ip in NODE_ADDRESSES)]
            )

    enter.create(names.node_namespace(run, NODE), inside)
    yield run
    for name in enter.names(f"tb-{run}-"):
        enter.delete(name)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[StubGate]:
    stub = StubGate()
    async with stub.serve(tmp_path, NODE):
        yield stub


@pytest.fixture
async def runtime(run: str, tmp_path: Path, agent: StubGate) -> AsyncIterator[KernelRuntime]:
    runtime = KernelRuntime(run, Gate(tmp_path))
    yield runtime
    await runtime.let_go()


def pod(number: int = 2, **more: object) -> PodStarted:
    addresses = (f"10.244.1.{number}", f"fd00:1::{number}")
    fields = {"addresses": addresses, "labels": (), "started_at": 1, **more}
    return PodStarted(str(uuid.uuid4()), "shop", f"web-{number}", NODE, **fields)  # type: ignore[arg-type]


async def exchange(namespace: str, address: str, port: int, kind: int, say: bytes) -> list[bytes]:
    """What comes back from the listener, asked from inside `namespace`."""

    def ask() -> list[bytes]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as client:
            client.settimeout(2)
            client.connect((address, port))
            greeting = client.recv(100) if kind == socket.SOCK_STREAM else b""
            client.send(say)
            return [greeting, client.recv(100)]

    return await asyncio.to_thread(enter.call, namespace, ask)


def sees(namespace: str, interface: str) -> bool:
    with enter.call(namespace, Channel) as channel:
        return channel.link(interface) is not None


async def test_a_started_pod_answers_on_every_port_and_family(
    run: str, runtime: KernelRuntime
) -> None:
    started = pod()
    node = names.node_namespace(run, NODE)

    assert await runtime.start(Wanted(started, PORTS)) == Attached(300, 7, True, 0.1, 0.2)

    for address in started.addresses:
        for port in (8080, 53):
            assert await exchange(node, address, port, socket.SOCK_STREAM, b"x") == [
                b"shop/web-2\n",
                b"x",
            ]
        assert await exchange(node, address, 53, socket.SOCK_DGRAM, b"ping") == [b"", b"ping"]


async def test_the_first_packet_to_a_started_pod_is_answered(
    run: str, runtime: KernelRuntime
) -> None:
    node = names.node_namespace(run, NODE)

    async def first(number: int) -> None:
        started = pod(number)
        await runtime.start(Wanted(started, PORTS))
        address = started.addresses[number % 2]
        assert await exchange(node, address, 53, socket.SOCK_DGRAM, b"x") == [b"", b"x"]
        await runtime.stop(started)

    async with asyncio.TaskGroup() as tasks:
        for number in range(2, 18):
            tasks.create_task(first(number))


async def test_a_pod_reaches_its_node_and_its_neighbour_by_its_gateway(
    run: str, runtime: KernelRuntime
) -> None:
    first, second = pod(2), pod(3)
    for started in (first, second):
        await runtime.start(Wanted(started, PORTS))
    _forward(names.node_namespace(run, NODE))
    for address in second.addresses:
        told = await exchange(
            names.pod_namespace(run, first.uid), address, 8080, socket.SOCK_STREAM, b"x"
        )
        assert told == [b"shop/web-3\n", b"x"]


def _forward(node: str) -> None:
    def write() -> None:
        for family in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")

    enter.call(node, write)


async def test_the_pods_link_has_the_contracts_shape(run: str, runtime: KernelRuntime) -> None:
    started = pod()
    await runtime.start(Wanted(started, PORTS))

    def look() -> tuple[str, str, str, str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("198.51.100.1", 9))
            v4 = client.getsockname()[0]
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.connect(("2001:db8::1", 9))
            v6 = client.getsockname()[0]
        arp = Path("/proc/thread-self/net/arp").read_text()
        mtu = Path("/proc/sys/net/ipv6/conf/eth0/mtu").read_text().strip()
        return v4, v6, arp, mtu

    v4, v6, arp, mtu = enter.call(names.pod_namespace(run, started.uid), look)
    assert (v4, v6) == started.addresses
    assert wiring.GATEWAY in arp
    assert names.host_mac(started.uid) in arp
    assert mtu == str(wiring.MTU)


async def test_the_agent_is_asked_before_the_pod_can_send_or_answer(
    run: str, runtime: KernelRuntime, agent: StubGate
) -> None:
    started = pod()
    seen: list[tuple[bool, bool, list[str]]] = []

    def look(request: dict[str, object]) -> dict[str, object]:
        with enter.call(names.node_namespace(run, NODE), Channel) as channel:
            host = channel.link(names.host_interface(started.uid))
        with enter.call(names.pod_namespace(run, started.uid), Channel) as channel:
            inner = channel.link(wiring.DEVICE)
        assert host is not None
        assert inner is not None
        sockets = enter.call(
            names.pod_namespace(run, started.uid),
            lambda: Path("/proc/thread-self/net/tcp6").read_text().splitlines()[1:],
        )
        seen.append((host.up, inner.up, sockets))
        return OK

    agent.answer = look
    await runtime.start(Wanted(started, PORTS))
    assert seen == [(False, False, [])]


async def test_a_pod_that_the_agent_refuses_leaves_nothing(
    run: str, runtime: KernelRuntime, agent: StubGate
) -> None:
    started = pod()
    agent.answer = lambda request: {"ok": False, "code": "refused", "error": "no such identity"}
    with pytest.raises(PodFailed, match="no such identity"):
        await runtime.start(Wanted(started, PORTS))
    assert not enter.exists(names.pod_namespace(run, started.uid))
    assert not sees(names.node_namespace(run, NODE), names.host_interface(started.uid))

    agent.answer = lambda request: OK
    assert await runtime.start(Wanted(started, PORTS))


async def test_a_stopped_pod_leaves_nothing_and_its_address_can_be_used_again(
    run: str, runtime: KernelRuntime, agent: StubGate
) -> None:
    first, second = pod(2), pod(2)
    node = names.node_namespace(run, NODE)
    await runtime.start(Wanted(first, PORTS))
    await runtime.stop(first)

    assert not enter.exists(names.pod_namespace(run, first.uid))
    assert not sees(node, names.host_interface(first.uid))
    assert [request["uid"] for request in agent.asked("detach")] == [first.uid]
    with pytest.raises(OSError, match=r"unreachable|timed out"):
        await exchange(node, first.addresses[0], 8080, socket.SOCK_STREAM, b"x")

    await runtime.start(Wanted(second, PORTS))
    assert await exchange(node, second.addresses[1], 53, socket.SOCK_DGRAM, b"x") == [b"", b"x"]


async def test_stopping_ends_open_connections_and_the_agent_need_not_be_there(
    run: str, runtime: KernelRuntime, agent: StubGate
) -> None:
    started = pod()
    await runtime.start(Wanted(started, PORTS))
    agent.answer = lambda request: {"ok": False, "code": "invalid", "error": "?"}
    await runtime.stop(started)
    await runtime.stop(started)  # again is no error
    assert not sees(names.node_namespace(run, NODE), names.host_interface(started.uid))


async def test_a_new_process_takes_over_what_a_killed_one_left(
    run: str, runtime: KernelRuntime, agent: StubGate, tmp_path: Path
) -> None:
    kept, orphan = pod(2), pod(3)
    for started in (kept, orphan):
        await runtime.start(Wanted(started, PORTS))
    asked = len(agent.asked("attach"))
    await runtime.let_go()  # all that SIGKILL does: the sockets close, the kernel keeps the rest
    node = names.node_namespace(run, NODE)
    with pytest.raises(ConnectionRefusedError):
        await exchange(node, kept.addresses[0], 8080, socket.SOCK_STREAM, b"x")

    again = KernelRuntime(run, Gate(tmp_path))
    try:
        assert await again.sweep({kept.uid}) == 1
        assert not sees(node, names.host_interface(orphan.uid))
        assert await again.start(Wanted(kept, PORTS)) is None  # it was up all along
        assert len(agent.asked("attach")) == asked
        assert await exchange(node, kept.addresses[1], 8080, socket.SOCK_STREAM, b"x") == [
            b"shop/web-2\n",
            b"x",
        ]
    finally:
        await again.let_go()


async def test_a_pod_that_was_half_made_is_made_anew_and_asks_the_agent(
    run: str, runtime: KernelRuntime, agent: StubGate
) -> None:
    started = pod()
    wiring.make(run, started, PORTS).close()  # killed here: everything is still down
    assert await runtime.start(Wanted(started, PORTS))
    assert len(agent.asked("attach")) == 1


async def test_a_pod_in_its_nodes_network_listens_there_and_asks_nobody(
    run: str, runtime: KernelRuntime, agent: StubGate
) -> None:
    started = pod(addresses=(), host_network=True)
    assert await runtime.start(Wanted(started, PORTS)) is None
    node = names.node_namespace(run, NODE)
    assert await exchange(node, NODE_ADDRESSES[0], 8080, socket.SOCK_STREAM, b"x") == [
        b"shop/web-2\n",
        b"x",
    ]
    with pytest.raises(PodFailed, match="Address already in use"):
        await runtime.start(Wanted(pod(addresses=(), host_network=True), PORTS))
    await runtime.stop(started)
    assert agent.requests == []


async def test_without_its_node_a_pod_fails_and_can_still_be_stopped(
    run: str, runtime: KernelRuntime
) -> None:
    lost = PodStarted(str(uuid.uuid4()), "shop", "x", "n9", ("10.0.0.1",), (), 1)
    with pytest.raises(PodFailed, match=f"no network namespace 'tb-{run}-n9'"):
        await runtime.start(Wanted(lost, PORTS))
    await runtime.stop(lost)


async def test_a_protocol_that_the_kernel_lacks_leaves_the_other_ports_open(
    run: str, runtime: KernelRuntime
) -> None:
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 132).close()
        pytest.xfail("this kernel has SCTP")
    started = pod()
    await runtime.start(Wanted(started, (("", 7, "SCTP"), ("", 8080, "TCP"))))
    told = await exchange(
        names.node_namespace(run, NODE), started.addresses[0], 8080, socket.SOCK_STREAM, b"x"
    )
    assert told[1] == b"x"
