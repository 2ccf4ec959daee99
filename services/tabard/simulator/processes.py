"""Processes: what runs, what it keeps when it dies, and what the world sees of it.

A life begins with `start` and ends with `kill`, in which all its tasks vanish where they stand; or
by itself, which is noted in `failure`.
"""

import asyncio
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from tabard.agent.gate import Gate
from tabard.agent.reconciler import Standing
from tabard.agent.server import Desk
from tabard.agent.service import Agent
from tabard.agent.settings import Settings
from tabard.allocator.service import Allocator
from tabard.bus.port import Bus
from tabard.dataplane.port import NodeConfig
from tabard.events.status import Holder
from tabard.ledger.state import State
from tabard.process.failures import leaves
from tabard.simulator import world
from tabard.simulator.bus import SimulatedBus, Store
from tabard.simulator.checkpoint import Disk, SimulatedCheckpoint
from tabard.simulator.clocks import believed_time
from tabard.simulator.kernel import SimulatedKernel, SimulatedWorker
from tabard.simulator.loop import Host, VirtualLoop
from tabard.simulator.operations import Line
from tabard.simulator.setup import Setup


class Process:
    """A place where one process at a time runs."""

    def __init__(self, name: str, loop: VirtualLoop, store: Store) -> None:
        self.name = name
        self.disk = Disk()
        self.starts = 0
        self.skew_ns = 0
        self.is_cut = False
        self.is_slow = False
        self.failure: BaseException | None = None
        """Why the last life ended by itself."""
        self.line: Line | None = None
        """Of the present life."""
        self.late: list[Line] = []
        """Of lives that ended, with something on its way."""
        self._loop = loop
        self._store = store
        self._root: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        return self.line is not None

    @property
    def is_paused(self) -> bool:
        return self.line is not None and not self.line.host.is_running

    def start(self) -> None:
        assert self.line is None, f"{self.name} runs already"
        self.starts += 1
        self.failure = None
        host = Host(self.name, self.starts)
        host.skew_ns = self.skew_ns
        self.line = Line(host, self._loop, is_cut=self.is_cut, is_slow=self.is_slow)
        root = host.context.run(self._loop.create_task, self._life(self.line))
        self._root = root
        root.add_done_callback(self._ended)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.line is not None, f"{self.name} does not run"
        self._loop.kill(self.line.host)
        self._over()

    def stop(self) -> None:
        """SIGTERM; `is_alive` until it has ended."""
        raise NotImplementedError

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.line is not None
        self.line.host.is_running = False

    def resume(self) -> None:
        """SIGCONT."""
        assert self.line is not None
        self._loop.resume(self.line.host)

    def cut(self, is_cut: bool) -> None:
        self.is_cut = is_cut
        if self.line is not None:
            self.line.is_cut = is_cut

    def slow(self, is_slow: bool) -> None:
        self.is_slow = is_slow
        if self.line is not None:
            self.line.is_slow = is_slow

    def skew(self, ns: int) -> None:
        """Its machine's clock jumps."""
        self.skew_ns += ns
        if self.line is not None:
            self.line.host.skew_ns = self.skew_ns

    def show(self) -> None:
        """Bring what the world sees of it up to date."""
        raise NotImplementedError

    async def _life(self, line: Line) -> None:
        raise NotImplementedError

    def _ended(self, root: asyncio.Task[None]) -> None:
        if self.line is None or root is not self._root:
            return
        error = None if root.cancelled() else root.exception()
        while isinstance(error, BaseExceptionGroup):
            error = next(leaves(error))
        self.failure = error
        self._loop.kill(self.line.host)
        self._over()

    def _over(self) -> None:
        assert self.line is not None
        self.line.end()
        if self.line.late:
            self.late.append(self.line)
        self.line = None


class AllocatorProcess(Process):
    def __init__(self, name: str, loop: VirtualLoop, store: Store, setup: Setup) -> None:
        super().__init__(name, loop, store)
        self._setup = setup
        self.seen = world.Allocator(name)
        self.allocator: Allocator | None = None

    async def _life(self, line: Line) -> None:
        holder = f"{self.name}/{self.starts}"
        self.seen.holder = holder
        chance = Random(f"{self._setup.seed} {holder}")
        self.allocator = Allocator(
            SimulatedBus(self._store, line),
            SimulatedCheckpoint(self.name, self.disk, line, self._store.world.counts),
            self._setup.settings,
            holder,
            clock=lambda: believed_time(self._loop),
            pace=self._setup.pace,
            draw=chance.random,
        )
        await self.allocator.run()

    def stop(self) -> None:
        assert self.line is not None
        assert self.allocator is not None
        self.line.host.context.run(self.allocator.stop)

    def _over(self) -> None:
        super()._over()
        self.allocator = None

    def show(self) -> None:
        seen, allocator = self.seen, self.allocator
        seen.running, seen.paused, seen.starts = self.is_alive, self.is_paused, self.starts
        seen.failure = repr(self.failure) if self.failure is not None else ""
        if allocator is None:
            seen.role, seen.state = "", _NOTHING
        else:
            seen.role, seen.state = allocator.role, allocator.state


class AgentProcess(Process):
    def __init__(
        self, name: str, number: int, loop: VirtualLoop, store: Store, setup: Setup
    ) -> None:
        super().__init__(name, loop, store)
        self._setup = setup
        self.links: set[str] = set()
        """Interfaces of pods that exist on the node."""
        underlay, cidr = f"192.168.9.{number}", f"10.244.{number}.0/24"
        self.settings = _settings(name, underlay, cidr, setup.mode.name.lower())
        self.kernel = SimulatedKernel(
            NodeConfig(name, setup.mode, (setup.address(underlay),)),
            setup.sizes,
            self.links,
            lambda: int(loop.time() * 1e9),
        )
        self.seen = world.Node(name, underlay, (cidr,), setup.mode, self.kernel.maps)
        self.agent: Agent | None = None
        self.boots = 1
        self.gate: Gate | None = None
        """Of the present life, once it answers."""
        self._is_stopping = False
        """What it was at was broken off anywhere."""
        self._unwaited = 0
        """The present agent's count of it, as of the last look."""
        self.asked: set[asyncio.Task[Any]] = set()
        """Requests to that gate; they end with it."""

    async def _life(self, line: Line) -> None:
        bus = SimulatedBus(self._store, line)

        async def connect() -> Bus:
            await bus.ensure_streams()
            return bus

        async def answer(desk: Desk) -> None:
            self.gate = desk.gate
            await asyncio.Event().wait()

        worker = SimulatedWorker(self.kernel, line, self._store.world.counts)
        self.agent = agent = Agent(self.settings, self.kernel, connect, worker=worker)
        me = Holder(
            self.name,
            f"boot {self.boots} of {self.name}",
            self.starts,
            believed_time(self._loop),
            "/simulated",
            "1:1",
            f"{self.name}/{self.starts}".encode().ljust(16, b".")[:16],
        )
        await agent.run_as(
            me, SimulatedCheckpoint(self.name, self.disk, line, self._store.world.counts), answer
        )

    def stop(self) -> None:
        assert self._root is not None
        self._is_stopping = True
        self._root.cancel()

    def reboot(self) -> None:
        """Its machine loses power, and is up again with nothing but its disk."""
        self.kill()
        self.kernel.remove()
        self.boots += 1

    def _over(self) -> None:
        super()._over()
        self.agent = self.gate = None
        self._unwaited = 0
        self._is_stopping = False
        self.asked.clear()

    def show(self) -> None:
        seen, agent = self.seen, self.agent
        seen.running, seen.paused, seen.starts = self.is_alive, self.is_paused, self.starts
        seen.maps = self.kernel.maps
        is_idle = self._is_idle()
        if is_idle:
            self.kernel.mended()  # also where there was nothing left to write
        seen.is_writing, seen.writes = self.kernel.is_torn, self.kernel.writes
        seen.change, seen.late = self.kernel.change, self.kernel.late
        seen.saved = self.disk.saved
        if agent is None:
            seen.standing, seen.state, seen.read, seen.settled = "", _NOTHING, 0, False
            seen.troubles, seen.attached = {}, {}
            return
        reconciler, report = agent.reconciler, agent.report
        seen.unwaited += reconciler.unwaited - self._unwaited
        self._unwaited = reconciler.unwaited
        seen.standing, seen.state = reconciler.standing.value, reconciler.state
        seen.read, seen.troubles = reconciler.state.sequence, report.troubles
        seen.attached = reconciler.attachments.attached
        seen.reached = max(seen.reached, seen.read)
        if reconciler.standing is Standing.IN_SYNC and report.sequence:
            seen.enforced = report.sequence
        seen.settled = is_idle and not reconciler.refolding and not reconciler.is_woken

    def _is_idle(self) -> bool:
        """Whether the agent takes the kernel for what it should be, and is not about to write."""
        if self.agent is None or self._is_stopping:
            return False
        reconciler = self.agent.reconciler
        return (
            reconciler.standing is Standing.IN_SYNC
            and reconciler.started.is_set()
            and not reconciler.lock.locked()
            and "dataplane" not in self.agent.report.troubles
        )


_NOTHING = State()


@lru_cache(maxsize=64)
def _settings(node: str, underlay: str, cidr: str, mode: str) -> Settings:
    return Settings(
        cluster="simulated",
        data=Path("/simulated"),
        run_dir=Path("/simulated"),
        nats=("nats://127.0.0.1:1",),
        node=node,
        underlay=(underlay,),
        pod_cidrs=(cidr,),
        mode=mode,  # type: ignore[arg-type]
        dataplane="memory",
        tick_spacing_ms=0,
        status_spacing_ms=1,
        checkpoint_spacing_ms=2_000,
        drift_interval_ms=20_000,
        digest_after_ms=500,
        flows_spacing_ms=60_000,
    )
