"""The source at work: follow the ledger, plan, publish, wait until the ledger shows it, plan again.

The waiting is what makes a plan safe: it is made only when everything published before, by this
process or by one that was killed, is in the state that it is made from.
"""

import asyncio
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import structlog

from tabard.bus.port import Bus, BusUnavailable, Stream
from tabard.events import ledger
from tabard.events.observed import PodStarted, PodStopped
from tabard.ledger.follow import catch_up, follow
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import ObjectKey, State
from tabard.manifests.errors import ManifestError
from tabard.manifests.workloads import Workload, read_workload
from tabard.source.planning import Draw, Pending, Plan, plan
from tabard.source.pods.keeper import Keeper
from tabard.source.pods.runtime import Wanted

T = TypeVar("T")

PUBLISH_RETRY_MS = 200
PUBLISH_RETRY_MS_MAX = 5_000
"""Delay before an event is published again after the bus gave no answer; doubles to the second."""
WAITING_LOG_MS = 10_000
"""How often it is said that the ledger does not show what was published."""
PLAN_INTERVAL_MS_MIN = 20
"""Ledger events that come closer together are planned for at once."""

_POD_FIELDS = tuple(field.name for field in dataclasses.fields(PodStarted))
_RELEVANT = (
    ledger.NodeAdded,
    ledger.NodeRemoved,
    ledger.EndpointBound,
    ledger.EndpointRelabelled,
    ledger.EndpointUnbound,
    ledger.PodRefused,
    ledger.EndpointTombstoned,
    ledger.WorkloadAccepted,
    ledger.WorkloadForgotten,
    ledger.EventQuarantined,
)
log = structlog.get_logger("tabard.source")


class Source:
    """Keeps the cluster's pods as its workloads ask; `run` until cancelled."""

    def __init__(
        self,
        bus: Bus,
        keeper: Keeper | None,
        *,
        clock: Callable[[], int] = time.time_ns,
        draw: Draw = os.urandom,
    ) -> None:
        """Without a `keeper` pods are events only (`--pods none`)."""
        self.state = State()
        self.synced = False
        """All that was published before this process began has had its effect."""
        self.published: Counter[str] = Counter()
        """Events, by `started` and `stopped`."""
        self._bus = bus
        self.keeper = keeper
        self._clock = clock
        self._draw = draw
        self._started: dict[str, PodStarted] = {}
        self._stopped: set[str] = set()
        """Published, and not yet in the state."""
        self._read: dict[ObjectKey, tuple[ledger.WorkloadAccepted, Workload | None]] = {}
        self._pending: tuple[Pending, ...] = ()
        self._folded = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def pending(self) -> tuple[Pending, ...]:
        """Pods that should be there and cannot be started, as of the last plan."""
        return self._pending

    async def run(self) -> None:
        """Raises tabard.ledger.reader.Stopped before a ledger event that cannot be taken."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="source.follow")
            tasks.create_task(self._plan(), name="source.plan")
            if self.keeper is not None:
                tasks.create_task(self.keeper.run(), name="source.pods")

    async def _follow(self) -> None:
        await self._persist(lambda: catch_up(self._bus, self.state))
        self._folded.set()
        self._changed.set()
        async for records in follow(self._bus, self.state):
            self._folded.set()
            if any(isinstance(record.event, _RELEVANT) for record in records):
                self._changed.set()

    async def _plan(self) -> None:
        last = await self._persist(lambda: self._bus.last_sequence(Stream.OBSERVED))
        await self._shown(last)
        self.synced = True
        log.info("source.synced", ledger=self.state.sequence, observed=last)
        if self.keeper is not None:
            self.keeper.changed = self._changed.set
        while True:
            self._changed.clear()
            made = self._planned()
            self._keep()
            if made.stopped or made.started:
                await self._publish(made)
                continue
            wait_ms = made.again_in_ms
            try:
                async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                    await self._changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(PLAN_INTERVAL_MS_MIN / 1000)

    def _planned(self) -> Plan:
        workloads, unreadable = self._workloads()
        made = plan(
            self.state,
            workloads,
            now=self._clock(),
            draw=self._draw,
            ready=self.keeper.ready if self.keeper is not None else lambda uid: True,
            untouched=unreadable,
        )
        if made.pending != self._pending:
            self._pending = made.pending
            for pending in made.pending:
                log.warning(
                    "source.pending",
                    workload=pending.owner,
                    pods=pending.pods,
                    reason=pending.reason,
                )
        return made

    def _workloads(self) -> tuple[list[Workload], list[str]]:
        """The readable workloads, and the owners of those that are not (each told once)."""
        read: dict[ObjectKey, tuple[ledger.WorkloadAccepted, Workload | None]] = {}
        for key, accepted in self.state.workloads.items():
            before = self._read.get(key)
            if before is not None and before[0] is accepted:
                read[key] = before
                continue
            try:
                read[key] = accepted, read_workload(accepted.document)
            except ManifestError as error:
                log.error("source.unreadable", workload="/".join(key), reason=str(error))
                read[key] = accepted, None
        self._read = read
        workloads = [workload for _, workload in read.values() if workload is not None]
        return workloads, ["/".join(key) for key, (_, workload) in read.items() if workload is None]

    def _keep(self) -> None:
        if self.keeper is not None:
            self.keeper.want(self._wanted())

    def _wanted(self) -> Mapping[str, Wanted]:
        """The pods that should have a network: those bound, and those just published."""
        bound = {
            endpoint.uid: PodStarted(**{name: getattr(endpoint, name) for name in _POD_FIELDS})
            for endpoint in self.state.endpoints.values()
            if endpoint.owner
        }
        ports = {
            workload.owner: workload.template.ports
            for _, workload in self._read.values()
            if workload is not None
        }
        return {
            uid: Wanted(pod, ports.get(pod.owner, pod.ports))
            for uid, pod in (self._started | bound).items()
            if uid not in self._stopped
        }

    async def _publish(self, made: Plan) -> None:
        """Publish exactly once, start what was started, and wait until the ledger shows it all."""
        now = self._clock()
        events: list[PodStopped | PodStarted] = [*made.stopped, *made.started]
        messages = [
            observed(event, first_cause(event.uid, now, self._draw(16))) for event in events
        ]
        # Published again with the same ids, so that each is stored once.
        sequences = await self._persist(lambda: self._bus.publish(Stream.OBSERVED, messages))
        log.info("source.published", started=len(made.started), stopped=len(made.stopped))
        self.published.update(started=len(made.started), stopped=len(made.stopped))
        self._started = {pod.uid: pod for pod in made.started}
        self._stopped = {pod.uid for pod in made.stopped}
        self._keep()
        await self._shown(max(sequences))
        self._started, self._stopped = {}, set()

    async def _shown(self, sequence: int) -> None:
        """Wait until the state shows the effect of OBSERVED through `sequence`."""
        while (cursor := self.state.cursors.get(Stream.OBSERVED, 0)) < sequence:
            self._folded.clear()
            try:
                async with asyncio.timeout(WAITING_LOG_MS / 1000):
                    await self._folded.wait()
            except TimeoutError:
                log.warning(
                    "source.waiting",
                    observed=sequence,
                    cursor=cursor,
                    hint="the allocator does not go on; see `tabard status`",
                )

    async def _persist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The bus's answer, however long it takes."""
        delay_ms = PUBLISH_RETRY_MS
        while True:
            try:
                return await ask()
            except BusUnavailable as error:
                log.warning("source.bus_unavailable", reason=str(error), retry_delay_ms=delay_ms)
            await asyncio.sleep(delay_ms / 1000)
            delay_ms = min(delay_ms * 2, PUBLISH_RETRY_MS_MAX)
