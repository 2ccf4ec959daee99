"""Real agent processes on a real bus; with the memory dataplane, and in a node's namespace with the
kernel's."""

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import scraping
from agent.rig import Ledger, ask, attaching, bound, pod
from kernel import SHOT
from packets import SYN, TCP, packet
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.syscalls import program_test_run
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Stream
from tabard.dataplane.maps import Direction, Mode, Reason, address
from tabard.dataplane.port import NodeConfig
from tabard.ledger.messages import recorded, status_subject
from tabard.netns import enter
from topology import ip

WEB = pod("web", "10.244.1.5", app="web")
START_S = 30.0
RSS_MIB_MAX = 80
"""An agent without LLVM; importing bcc alone makes it 72 MiB more."""


@dataclass
class Process:
    process: asyncio.subprocess.Process
    socket: Path

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return await ask(self.socket, op, **fields)

    async def attach(self, interface: str) -> dict[str, Any]:
        fields = {name: getattr(WEB, name) for name in WEB.__slots__}
        return await self.ask(
            "attach", pod=fields, interface=interface, mac="02:00:00:00:00:01", timeout_ms=10_000
        )

    async def enforces(self, sequence: int) -> dict[str, Any]:
        async with asyncio.timeout(START_S):
            while True:
                with contextlib.suppress(OSError, ValueError):
                    status = await self.ask("status")
                    if status["sequence"] >= sequence:
                        return status
                assert self.process.returncode is None, "the agent ended"
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_S):
            return await self.process.wait()

    def rss_mib(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024

    def has_loaded(self, name: str) -> bool:
        return name in Path(f"/proc/{self.process.pid}/maps").read_text()


@contextlib.asynccontextmanager
async def agent(
    data: Path, url: str, output: int | None = None, **settings: str
) -> AsyncIterator[Process]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TABARD_")},
        "TABARD_NATS": url,
        "TABARD_CLUSTER": "test",
        "TABARD_DATA": str(data),
        "TABARD_RUN_DIR": str(data / "run"),
        "TABARD_NODE": "n1",
        "TABARD_UNDERLAY": "192.168.9.1",
        "TABARD_POD_CIDRS": "10.244.1.0/24",
        "TABARD_DATAPLANE": "memory",
        "TABARD_OFFLINE_AFTER_MS": "300",
        "TABARD_CHECKPOINT_SPACING_MS": "50",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tabard.agent", env=environment, stderr=output
    )
    try:
        yield Process(process, data / "agent.sock")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.nats
async def test_an_agent_killed_and_started_again_reads_the_tail_only(
    tmp_path: Path, nats_url: str, nats_bus: JetStreamBus
) -> None:
    ledger = Ledger()
    bound(ledger, WEB)
    end = await ledger.write(nats_bus)
    async with agent(tmp_path, nats_url) as first:
        assert (await first.enforces(end))["events"] == end
        assert (await first.attach("tbweb"))["ok"]
        async with asyncio.timeout(START_S):
            found = None
            while found is None:
                found = await nats_bus.last_on_subject(Stream.STATUS, status_subject("n1"))
        word = recorded(Stream.STATUS, found).event
        assert (word.node, word.sequence, word.dataplane) == ("n1", end, "memory")
        await asyncio.sleep(0.3)  # a checkpoint is made meanwhile
        await first.kill()
    ledger.pod("default/far", {"app": "web"}, node="n2", ip="10.244.2.5")
    ledger.pod("default/farther", {"app": "web"}, node="n2", ip="10.244.2.6")
    end = await ledger.write(nats_bus)
    async with agent(tmp_path, nats_url) as second:
        status = await second.enforces(end)
        assert status["events"] == 2
        assert status["attached"] == ["web"]
        sent = {"source": "10.244.1.5", "destination": "10.244.2.5", "protocol": 6}
        outcome = await second.ask(
            "packet", hook="from_pod", uid="web", destination_port=80, **sent
        )
        assert (outcome["action"], outcome["node"]) == ("tunnel", "192.168.9.2")
        assert not second.has_loaded("libbcc")
        print(f"agent with the memory dataplane: {second.rss_mib()} MiB")
        assert await second.stop() == 0


@pytest.mark.nats
async def test_a_wrong_variable_ends_the_agent_with_its_name(tmp_path: Path) -> None:
    async with agent(tmp_path, "nats://127.0.0.1:1", TABARD_MODE="tunnel") as process:
        assert await process.process.wait() == 2


@pytest.mark.nats
async def test_an_agent_that_is_stopped_leaves_nothing_open_and_nothing_behind(
    tmp_path: Path, nats_url: str, nats_bus: JetStreamBus
) -> None:
    """What waits is refused, all that was folded is kept, and the last word says that it ended."""
    ledger = Ledger()
    bound(ledger, WEB)
    end = await ledger.write(nats_bus)
    settings = {"TABARD_CHECKPOINT_SPACING_MS": "600000", "TABARD_STATUS_HEARTBEAT_MS": "600000"}
    async with agent(tmp_path, nats_url, **settings) as first:
        await first.enforces(end)
        stranger = pod("stranger", "10.244.1.9", app="never seen")  # and nobody allocates
        asked = asyncio.ensure_future(first.ask("attach", **attaching(stranger), timeout_ms=60_000))
        await scraping.until(lambda: is_guarded(first, "stranger"))
        assert await first.stop() == 0
        refused = await asked
        assert (refused["ok"], refused["code"]) == (False, "stopping")
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await first.ask("status")
    found = await nats_bus.last_on_subject(Stream.STATUS, status_subject("n1"))
    assert found is not None
    word = recorded(Stream.STATUS, found).event
    assert (word.stopped, word.sequence) == (True, end)
    async with agent(tmp_path, nats_url, **settings) as second:
        status = await second.enforces(end)
        assert (status["events"], status["attached"]) == (0, []), "nothing is read again"


async def is_guarded(process: Process, uid: str) -> bool:
    """Whether the pod's interface is, be the pod up or not."""
    ends = {"source": "10.244.2.5", "destination": "10.244.1.9", "protocol": 6}
    return bool((await process.ask("packet", hook="to_pod", uid=uid, **ends))["ok"])


@pytest.fixture
def node_namespace() -> Any:
    """A node's namespace with the host side of a pod's veth."""
    name = f"tb-t{os.getpid()}-{secrets.token_hex(2)}"
    enter.create(name, lambda: None)
    try:
        ip(name, "link set lo up", "link add tbweb type veth peer name pod", "link set tbweb up")
        yield name
    finally:
        enter.delete(name)


@pytest.mark.ebpf
@pytest.mark.nats
async def test_enforcement_in_the_kernel_outlives_a_killed_agent(
    tmp_path: Path, nats_url: str, nats_bus: JetStreamBus, node_namespace: str
) -> None:
    ledger = Ledger()
    bound(ledger, WEB)
    end = await ledger.write(nats_bus)
    cluster = f"t{secrets.token_hex(4)}"
    settings = {
        "TABARD_DATAPLANE": "ebpf",
        "TABARD_CLUSTER": cluster,
        "TABARD_NETNS": node_namespace,
    }
    config = NodeConfig("n1", Mode.OVERLAY, (address("192.168.9.1"),))
    kernel = EbpfDataplane(config, cluster=cluster, netns=node_namespace)
    try:
        async with agent(tmp_path, nats_url, **settings) as first:
            await first.enforces(end)
            answer = await first.attach("tbweb")
            assert answer["ok"], answer
            print(f"attach: {answer}")
            await asyncio.sleep(0.3)
            await first.kill()
        # Nobody is there, and what the agent made still stands.
        kernel.open()
        assert kernel.attached().keys() == {"web"}
        maps = kernel.read()
        assert maps.endpoints.keys() == {address("10.244.1.5")}
        async with agent(tmp_path, nats_url, **settings) as second:
            status = await second.enforces(end)
            assert status["attached"] == ["web"]
            assert sum(status["map_writes"].values()) == 0
            assert (await second.ask("drift"))["count"] == 0
            assert kernel.read() == maps
            ledger.stop("web")
            await second.enforces(await ledger.write(nats_bus))
            assert kernel.read().endpoints == {}
            assert (await second.ask("detach", uid="web"))["ok"]
            assert kernel.attached() == {}
            assert not second.has_loaded("libbcc")
            print(f"agent with the kernel's dataplane: {second.rss_mib()} MiB")
            assert second.rss_mib() < RSS_MIB_MAX
            assert await second.stop() == 0
    finally:
        kernel.remove()


@pytest.mark.ebpf
@pytest.mark.nats
async def test_the_kernel_denies_new_flows_by_itself_once_its_agent_is_gone_for_too_long(
    tmp_path: Path, nats_url: str, nats_bus: JetStreamBus, node_namespace: str
) -> None:
    ledger = Ledger()
    bound(ledger, WEB)
    end = await ledger.write(nats_bus)
    cluster = f"t{secrets.token_hex(4)}"
    settings = {
        "TABARD_DATAPLANE": "ebpf",
        "TABARD_CLUSTER": cluster,
        "TABARD_NETNS": node_namespace,
        "TABARD_STALENESS_AFTER_MS": "1000",
        "TABARD_STALENESS_THEN": "deny-new",
    }
    config = NodeConfig("n1", Mode.OVERLAY, (address("192.168.9.1"),), stale_after_s=1)
    kernel = EbpfDataplane(config, cluster=cluster, netns=node_namespace)
    ports = itertools.count(20_000)

    async def opens() -> bool:
        """Whether the pod may open a connection to the world."""
        syn = packet("10.244.1.5", "203.0.113.9", TCP, next(ports), 80, flags=SYN)
        ifindex = kernel.attached()["web"]
        run = partial(program_test_run, kernel.programs["from_pod"], syn, ifindex=ifindex)
        return enter.call(node_namespace, run).returned != SHOT

    async def closed() -> bool:
        return not await opens()

    try:
        async with agent(tmp_path, nats_url, **settings) as first:
            await first.enforces(end)
            assert (await first.attach("tbweb"))["ok"]
            kernel.open()
            await scraping.until(opens)
            await first.kill()
        await scraping.until(closed)
        assert kernel.counters()[Direction.EGRESS, Reason.DENIED_STALE]
        async with agent(tmp_path, nats_url, **settings) as second:
            await second.enforces(end)
            await scraping.until(opens)
    finally:
        kernel.close()
        kernel.remove()
