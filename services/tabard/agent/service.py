"""The agent wired together: what gets which part, and what is started and closed in which order."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from tabard.agent.checkpoints import Checkpoints
from tabard.agent.digests import keep_digest
from tabard.agent.dns.proxy import DnsProxy
from tabard.agent.drift import DriftCheck
from tabard.agent.flows import Flows
from tabard.agent.follower import Follower, stand_offline
from tabard.agent.freshness import Freshness
from tabard.agent.gate import Gate
from tabard.agent.holding import held
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.agent.server import Desk, Judge, serve
from tabard.agent.settings import Settings
from tabard.agent.status import join, publish_status, say_farewell
from tabard.agent.takeover import take_over
from tabard.agent.tenure import Tenure
from tabard.agent.worker import Worker
from tabard.bus.port import Bus, BusError
from tabard.dataplane.maps import Mode
from tabard.dataplane.port import Dataplane
from tabard.events.status import Holder
from tabard.ledger.checkpoint import Checkpoint
from tabard.ledger.state import Node

log = structlog.get_logger(__name__)

CONNECT_RETRY_S = 0.5
REACH_S = 0.5
"""How long a start waits for the bus, to ask it whose the node is, before it goes on without."""

Connect = Callable[[], Awaitable[Bus]]
Serving = Callable[[Desk], Coroutine[None, None, None]]


class Agent:
    """One node's agent. `connect` gives a bus, or raises BusError and is called again."""

    def __init__(
        self,
        settings: Settings,
        dataplane: Dataplane,
        connect: Connect,
        judge: Judge | None = None,
        *,
        worker: Worker | None = None,
    ) -> None:
        """`worker`, if given, is who calls the dataplane."""
        self._settings = settings
        self._dataplane = dataplane
        self._connect = connect
        self._judge = judge
        in_memory = dataplane.kind == "memory"
        self._worker = worker or Worker(settings.netns, at_once=in_memory and not settings.netns)
        self.flows = Flows(settings.node, settings.flows_spacing_ms / 1000)
        self.bus: Bus | None = None
        """None until there was a connection."""
        self._incarnation = uuid.uuid4().bytes
        self._since = time.time_ns()
        self.report = Report(settings.node, dataplane.kind)
        self.report.heartbeat_ms = settings.status_heartbeat_ms
        self.reconciler = Reconciler(
            node=settings.node,
            mode=Mode[settings.mode.upper()],
            dataplane=dataplane,
            worker=self._worker,
            report=self.report,
            spacing_s=settings.tick_spacing_ms / 1000,
        )
        self.follower = Follower(self.reconciler, self.report)
        self.freshness = Freshness(
            self.reconciler,
            self.report,
            lambda: self.bus,
            after_s=settings.stale_after_s,
            denies=settings.denies_when_stale,
        )
        self._may_speak = False
        self.dns = DnsProxy(self.reconciler, self.follower, self.report, self._spoken)

    def _spoken(self) -> Bus | None:
        """The bus, once this process may speak for its node."""
        return self.bus if self._may_speak else None

    async def run(self) -> None:
        """Work until cancelled; then save the checkpoint and let go. Enforcement goes on.

        Raises AlreadyRunning, NamespaceError, DataplaneError or CheckpointError if it cannot start.
        """
        settings = self._settings
        settings.data.mkdir(parents=True, exist_ok=True)
        with held(settings.locks, settings.node, settings.data, self._since) as me:
            async with Checkpoint.open(settings.data / "agent.db") as checkpoint:
                await self.run_as(me, checkpoint, lambda desk: serve(settings.socket_path, desk))

    async def run_as(self, me: Holder, checkpoint: Checkpoint, serving: Serving) -> None:
        """`run` for who holds the node as `me` and has opened its checkpoint; `serving` is given
        what answers the gate's requests."""
        self.report.holder = me
        settings = self._settings
        tenure = Tenure(me, self.report, settings.status_heartbeat_ms / 1000)
        checkpoints = Checkpoints(
            checkpoint, self.reconciler, self.report, settings.checkpoint_spacing_ms / 1000
        )
        try:
            # Loading programs is another process's work, reading the checkpoint this one's.
            saved, _ = await asyncio.gather(checkpoints.load(), self._open(tenure))
            await take_over(self.reconciler, saved)
            await self._work(checkpoints, tenure, serving)
        finally:
            if self.bus is not None:
                await self.bus.close()
            await self._worker.call(self._dataplane.close)
            self._worker.close()

    async def _open(self, tenure: Tenure) -> None:
        """Open the dataplane, which writes to the kernel: not if another machine's agent holds the
        node. Without a bus in reach that is asked later, before anything is said on it."""
        try:
            async with asyncio.timeout(REACH_S):
                self.bus = await self._connect()
        except (BusError, TimeoutError):
            pass
        if self.bus is not None:
            try:
                await tenure.claim(self.bus)
            except BusError as error:
                log.warning("agent.claim_failed", error=str(error))
        await self._worker.open()
        await self._worker.call(self._dataplane.open)

    async def _work(self, checkpoints: Checkpoints, tenure: Tenure, serving: Serving) -> None:
        settings = self._settings
        drift = DriftCheck(self.reconciler, self.report, settings.drift_interval_ms / 1000)
        desk = Desk(
            gate=Gate(self.reconciler, self.follower, settings.attaches_max),
            reconciler=self.reconciler,
            follower=self.follower,
            report=self.report,
            drift=drift,
            judge=self._judge,
        )
        stop_watching = self._dataplane.watch(self.flows.deliver)
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in {
                    "reconciler": self.reconciler.run(),
                    "gate": serving(desk),
                    "checkpoints": checkpoints.run(),
                    "drift": drift.run(),
                    "dns": self.dns.run(),
                    "freshness": self.freshness.run(),
                    "digest": keep_digest(
                        self.reconciler,
                        self.follower,
                        self.report,
                        settings.digest_after_ms / 1000,
                    ),
                    "offline": stand_offline(self.reconciler, settings.offline_after_ms / 1000),
                    "bus": self._bus_side(checkpoints, tenure),
                }.items():
                    group.create_task(work, name=name)
        finally:
            stop_watching()
            await checkpoints.save()

    async def _bus_side(self, checkpoints: Checkpoints, tenure: Tenure) -> None:
        settings, reconciler, report = self._settings, self.reconciler, self.report
        bus = await self._claimed(tenure)
        node = Node(settings.node, settings.underlay, settings.pod_cidrs, settings.labels)
        status = publish_status(
            bus,
            reconciler,
            report,
            checkpoints,
            tenure,
            spacing_s=settings.status_spacing_ms / 1000,
            heartbeat_s=settings.status_heartbeat_ms / 1000,
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.follower.run(bus), name="follower")
                group.create_task(status, name="status")
                group.create_task(self.flows.run(bus), name="flows")
                group.create_task(join(bus, reconciler, node, self._incarnation), name="join")
        finally:
            await say_farewell(bus, reconciler, report, checkpoints, tenure)

    async def _claimed(self, tenure: Tenure) -> Bus:
        """The bus, on which this process may speak for the node."""
        if self.bus is None:
            self.bus = await self._connected()
        while not tenure.claimed:
            try:
                await tenure.claim(self.bus)
            except BusError as error:
                if self.report.fail("bus", str(error)):
                    log.warning("agent.bus_unavailable", error=str(error))
                await asyncio.sleep(CONNECT_RETRY_S)
        self.report.clear("bus")
        self._may_speak = True
        return self.bus

    async def _connected(self) -> Bus:
        while True:
            try:
                bus = await self._connect()
            except BusError as error:
                if self.report.fail("bus", str(error)):
                    log.warning("agent.bus_unavailable", error=str(error))
                await asyncio.sleep(CONNECT_RETRY_S)
            else:
                self.report.clear("bus")
                return bus
