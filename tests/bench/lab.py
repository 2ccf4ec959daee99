"""Where one benchmark works: its directory, its run name, and the parts that it may start.

All that a benchmark makes on the machine bears the run name or lies in the directory, so that
`sweep` can take away what a benchmark that was killed left behind, and two runs never meet.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Bus, Stream
from tabard.bus.server import EmbeddedServer
from tabard.cluster.errors import ClusterError
from tabard.cluster.gate import ask
from tabard.cluster.processes import Launched, Program
from tabard.process.privileges import KERNEL, NAMESPACES

READY_S = 600.0
"""Longest that a process may take to be where a benchmark waits for it."""
STOP_S = 120.0
"""To SIGKILL: an agent that ends saves a checkpoint, and a million pods take their time."""
POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Lab:
    name: str
    """Of the run: cluster, namespaces and pins are named after it."""
    directory: Path
    """Its own, on the disk that the bus is to be measured on; removed afterwards."""
    scale: float
    """1 for a measurement; less for a quick look."""
    real: bool
    """Whether eBPF can be used: root on Linux with bcc."""

    def scaled(self, count: int, least: int = 1) -> int:
        return max(least, round(count * self.scale))

    def tell(self, line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    def runs(self, most: int, budget_s: float = 60.0) -> Iterator[int]:
        """Numbers of runs: one at least, `most` at most, and none begun after the budget."""
        begun = time.monotonic()
        for number in range(most):
            if number and time.monotonic() - begun > budget_s:
                return
            yield number

    @asynccontextmanager
    async def server(self, name: str = "bus") -> AsyncIterator[EmbeddedServer]:
        """A nats-server of its own, with fsync on every append, as `tabard up` runs it."""
        server = EmbeddedServer(self.directory / name, sync_always=True)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    @asynccontextmanager
    async def bus(self, url: str, name: str = "bench") -> AsyncIterator[JetStreamBus]:
        bus = await JetStreamBus.connect(url, name=name)
        try:
            await bus.ensure_streams()
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def allocator(self, url: str, bus: Bus, **settings: str) -> AsyncIterator[Launched]:
        """A real allocator process, which leads by the time this is entered."""
        before = await bus.last_sequence(Stream.LEDGER)
        data = self.directory / "allocator"
        process = self._launched("tabard.allocator", "allocator", data, url, settings)
        await process.start()
        try:
            async with asyncio.timeout(READY_S):
                while await bus.last_sequence(Stream.LEDGER) <= before:
                    self._check(process, "allocator")
                    await asyncio.sleep(POLL_S)
            yield process
        finally:
            await process.stop()

    def agent(self, url: str, node: str = "n1", **settings: str) -> "AgentProcess":
        """A real agent process, to be started and stopped."""
        data = self.directory / node
        own = {"NODE": node, "DATAPLANE": "ebpf" if self.real else "memory"}
        own |= {"RUN_DIR": str(self.directory / "run")}
        own |= {"OFFLINE_AFTER_MS": "600000", **settings}
        process = self._launched("tabard.agent", node, data, url, own)
        return AgentProcess(process, data / "agent.sock", lambda: self._check(process, node))

    def _launched(
        self, module: str, name: str, data: Path, url: str, settings: dict[str, str]
    ) -> Launched:
        given = {"NATS": url, "CLUSTER": self.name, "DATA": str(data), "LOG_LEVEL": "warning"}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TABARD_")}
        environment |= {f"TABARD_{key}": value for key, value in {**given, **settings}.items()}
        log = self.directory / f"{name}.log"
        command = (sys.executable, "-m", module)
        program = Program(command, environment, capabilities=KERNEL | NAMESPACES)
        return Launched(program, log, STOP_S)

    def _check(self, process: Launched, name: str) -> None:
        if not process.pid:
            said = (self.directory / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{name} has ended instead of working:\n{said}")


@dataclass(slots=True)
class AgentProcess:
    """An agent's process and its gate."""

    process: Launched
    socket: Path
    check: Callable[[], None]
    """Raises if it has ended."""

    @property
    def pid(self) -> int:
        return self.process.pid

    async def enforces(self, sequence: int, poll_s: float = POLL_S) -> dict[str, Any]:
        """Wait until it enforces LEDGER through `sequence`; its status then."""
        async with asyncio.timeout(READY_S):
            while True:
                with suppress(ClusterError):
                    status = await ask(self.socket, "status", READY_S)
                    if status["sequence"] >= sequence:
                        return status
                self.check()
                await asyncio.sleep(poll_s)


def cpu_s(pid: int) -> float:
    """Of a process and the children that it waited for (proc_pid_stat, fields 14 to 17)."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, values[11:15])) / os.sysconf("SC_CLK_TCK")
