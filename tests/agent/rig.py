"""An agent on a bus and a dataplane in memory, and a ledger to feed it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tabard.agent.follower import Follower
from tabard.agent.gate import Gate
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.agent.service import Agent
from tabard.agent.settings import Settings
from tabard.agent.worker import Worker
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import BATCH_MESSAGES_MAX, Bus, Stream
from tabard.dataplane.maps import Maps, Mode
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import Change, MapSizes, NodeConfig
from tabard.events import ledger as events
from tabard.events.chain import GENESIS
from tabard.events.envelope import Envelope
from tabard.events.observed import PodStarted
from tabard.events.status import Holder, NodeStatus
from tabard.ledger.messages import recorded, sealed
from tabard.policy.compile import Attachment, Compiler
from world import World

NODE = "n1"
WAIT_S = 10.0


class Ledger(World):
    """What an allocator would have written; `write` appends what a bus does not have yet."""

    def __init__(self, nodes: int = 2) -> None:
        self.events: list[tuple[events.LedgerEvent, Envelope]] = []
        self.written = 0
        self.chain = GENESIS
        super().__init__(nodes)
        self.emit(events.SettingsAdopted("default", 0, 8, (), (), (), 1000))

    def emit(self, event: events.LedgerEvent, at: int = 0) -> None:
        super().emit(event, at)
        self.events.append((event, Envelope(b"i" * 16, "", at)))

    async def write(self, bus: Bus) -> int:
        """The sequence of the last event."""
        while self.written < len(self.events):
            batch = self.events[self.written : self.written + BATCH_MESSAGES_MAX]
            messages, self.chain = sealed(self.chain, batch)
            self.written = await bus.append(messages, self.written)
        return self.written

    def retire(self, identity: int) -> None:
        self.emit(events.IdentityRetired(identity))


class Recorder(MemoryDataplane):
    """Remembers what it was asked to do, in order; `fail` is raised by the next writes."""

    def __init__(
        self, mode: Mode = Mode.OVERLAY, sizes: MapSizes | None = None, links: Any = None
    ) -> None:
        super().__init__(NodeConfig(NODE, mode, ()), sizes=sizes, links=links)
        self.calls: list[str] = []
        self.changes: list[Change] = []
        self.fail: Exception | None = None
        self.before_write: Callable[[], object] = lambda: None

    def write(self, change: Change) -> None:
        self.before_write()
        if self.fail is not None:
            raise self.fail
        self.calls.append("write")
        self.changes.append(change)
        super().write(change)

    def attach(self, uid: str, interface: str) -> tuple[int, bytes]:
        self.calls.append(f"attach {uid}")
        return super().attach(uid, interface)

    def detach(self, uid: str) -> None:
        self.calls.append(f"detach {uid}")
        super().detach(uid)


class Bench:
    """A reconciler, a follower and a gate, not running: tests make them tick."""

    def __init__(self, dataplane: Recorder | None = None, mode: Mode = Mode.OVERLAY) -> None:
        self.dataplane = dataplane or Recorder(mode)
        self.report = Report(NODE, "memory")
        self.worker = Worker()
        self.reconciler = Reconciler(
            node=NODE,
            mode=mode,
            dataplane=self.dataplane,
            worker=self.worker,
            report=self.report,
            spacing_s=0,
        )
        self.follower = Follower(self.reconciler, self.report, recheck_s=0.01)
        self.gate = Gate(self.reconciler, self.follower)


@asynccontextmanager
async def at_work(bench: Bench, *more: Awaitable[Any], bus: MemoryBus) -> AsyncIterator[None]:
    """Tick and follow `bus`, and whatever else is to run."""
    work = [bench.reconciler.run(), bench.follower.run(bus), *more]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def writing(bench: Bench, turns: int = 100) -> AsyncIterator[None]:
    """Inside, the bench's next write has begun, others have had `turns`, and it does not end."""
    begun, end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        loop.call_soon_threadsafe(begun.set)
        end.wait()

    bench.dataplane.before_write = wait
    try:
        await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        yield
    finally:
        bench.dataplane.before_write = lambda: None
        end.set()


def holder(name: str, since: int = 1) -> Holder:
    """A process on the machine `name`."""
    return Holder(name, f"boot of {name}", 7, since, f"/{name}", "1:2", name.encode() * 16)


def settings(data: Path, **values: Any) -> Settings:
    given: dict[str, Any] = {
        "node": NODE,
        "underlay": ("192.168.9.1",),
        "pod_cidrs": ("10.244.1.0/24",),
        "status_spacing_ms": 1,
        "checkpoint_spacing_ms": 20,
        "digest_after_ms": 5,
        "drift_interval_ms": 60_000,
        "flows_spacing_ms": 1,
        "offline_after_ms": 50,
        "run_dir": data / "run",
    }
    return Settings(
        nats=("nats://nowhere",),
        cluster="test",
        data=data,
        dataplane="memory",
        **(given | values),
    )


@asynccontextmanager
async def running(
    data: Path,
    bus: MemoryBus | None = None,
    dataplane: Recorder | None = None,
    **values: Any,
) -> AsyncIterator["Client"]:
    """An agent at work on `bus` (None: no bus answers), asked through its socket."""

    async def connect() -> Bus:
        if bus is None:
            await asyncio.Event().wait()
        assert bus is not None
        buses.append(MemoryBus(bus.store))
        return buses[-1]

    buses: list[MemoryBus] = []
    dataplane = dataplane or Recorder(Mode[values.get("mode", "overlay").upper()])
    agent = Agent(settings(data, **values), dataplane, connect)
    work = asyncio.ensure_future(agent.run())
    try:
        await until(lambda: work.done() or (data / "agent.sock").exists())
        if work.done():
            await work
        yield Client(agent, dataplane, data / "agent.sock", buses)
        assert not work.done(), work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        (data / "agent.sock").unlink(missing_ok=True)


class Client:
    """Asks an agent through its socket."""

    def __init__(
        self, agent: Agent, dataplane: Recorder, socket: Path, buses: list[MemoryBus]
    ) -> None:
        self.agent = agent
        self.dataplane = dataplane
        self.socket = socket
        self._buses = buses

    @property
    def maps(self) -> Maps:
        return self.dataplane.read()

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return await ask(self.socket, op, **fields)

    async def attach(self, pod: PodStarted, timeout_ms: int = 5_000) -> dict[str, Any]:
        return await self.ask("attach", **attaching(pod), timeout_ms=timeout_ms)

    async def lose_bus(self) -> None:
        for bus in self._buses:
            await bus.close()
        await until(lambda: self.agent.report.error)

    async def enforces(self, sequence: int) -> None:
        await until(lambda: self.agent.report.sequence >= sequence)


async def ask(socket: Path, op: str, **fields: Any) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(socket, limit=64 << 20)
    try:
        writer.write(json.dumps({"id": 7, "op": op, **fields}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
    finally:
        writer.close()
    assert answer.pop("id") == 7
    return answer


def pod(uid: str, ip: str = "10.244.1.5", namespace: str = "default", **labels: str) -> PodStarted:
    return PodStarted(
        uid=uid,
        namespace=namespace,
        name=uid,
        node=NODE,
        addresses=(ip,),
        labels=tuple(sorted(labels.items())),
        started_at=1,
    )


def attaching(pod: PodStarted) -> dict[str, Any]:
    fields = {name: getattr(pod, name) for name in pod.__slots__}
    return {"pod": fields, "interface": f"tb{pod.uid}"[:15], "mac": "02:00:00:00:00:01"}


def bound(ledger: Ledger, pod: PodStarted) -> None:
    """The ledger takes the pod up."""
    ledger.pod(
        f"{pod.namespace}/{pod.name}",
        dict(pod.labels),
        node=pod.node,
        ip=pod.addresses,
        uid=pod.uid,
    )


def compiled(ledger: Ledger, attachments: dict[str, Attachment], mode: Mode = Mode.OVERLAY) -> Maps:
    return Compiler().compile(ledger.state, NODE, mode, attachments)


async def until(true: Callable[[], object]) -> None:
    """Give everyone else their turn until `true()`."""
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - what is waited for need not know of it
            await asyncio.sleep(0.001)


def statuses(store: MemoryStore) -> list[NodeStatus]:
    """The last word of each node."""
    messages = store.logs[Stream.STATUS].messages
    return [recorded(Stream.STATUS, message).event for message in messages]
