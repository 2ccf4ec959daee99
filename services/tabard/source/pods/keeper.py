"""Keeps pods' networks as wanted: each pod has one task, from its start to its end."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from tabard.process.metrics import Histogram
from tabard.source.errors import PodFailed
from tabard.source.pods.measurements import Measurements
from tabard.source.pods.runtime import Attached, PodRuntime, Wanted

STARTING_MAX = 16
"""Most pods that are brought up at once."""
RETRY_MS = 200
RETRY_MS_MAX = 5_000
"""Delay before a pod is tried again after a failure; doubles from the first to the second."""
CLOSING_MS_MAX = 10_000
"""Longest that taking down all pods may take when the source stops."""

log = structlog.get_logger("tabard.source")


@dataclass(slots=True)
class _Kept:
    wanted: Wanted
    ready: bool = False
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def standing(self) -> str:
        if self.unwanted.is_set():
            return "stopping"
        return "running" if self.ready else "starting"

    def described(self) -> dict[str, str]:
        pod = self.wanted.pod
        return {"pod": f"{pod.namespace}/{pod.name}", "uid": pod.uid, "node": pod.node}


class Keeper:
    """`want` says what there should be, `ready` what there is. Failures are logged and retried."""

    def __init__(
        self,
        runtime: PodRuntime,
        measurements: Measurements,
        *,
        keep_at_end: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """With `keep_at_end` pods' networks are left as they are when the source stops."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a pod has become ready."""
        self.failures: Counter[str] = Counter()
        """Attempts that failed, by `start` and `stop`."""
        self.ready_s = Histogram()
        """From a pod's start as its event says to its network answering."""
        self._runtime = runtime
        self._measurements = measurements
        self._keep_at_end = keep_at_end
        self._clock = clock
        self._wanted: Mapping[str, Wanted] = {}
        self._kept: dict[str, _Kept] = {}
        self._moved = asyncio.Event()
        self._starting = asyncio.Semaphore(STARTING_MAX)

    def want(self, pods: Mapping[str, Wanted]) -> None:
        """These pods, by UID, and no others. What is not among the first ones is swept away."""
        self._wanted = pods
        self._moved.set()

    def ready(self, uid: str) -> bool:
        """Whether the pod's network is up and answers."""
        kept = self._kept.get(uid)
        return kept is not None and kept.ready

    def standing(self) -> Counter[str]:
        """How many pods are `starting`, `running` and `stopping`."""
        return Counter(kept.standing for kept in self._kept.values())

    async def run(self) -> None:
        """Until cancelled; then all pods are taken down, or let go of."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._moved.wait()
                swept = await self._runtime.sweep(self._wanted.keys())
                log.info("pods.swept", removed=swept)
                while True:
                    self._moved.clear()
                    self._compare(tasks)
                    await self._moved.wait()
        finally:
            await self._close()

    def _compare(self, tasks: asyncio.TaskGroup) -> None:
        for uid, kept in self._kept.items():
            if uid not in self._wanted:
                kept.unwanted.set()
        for uid, wanted in self._wanted.items():
            if uid not in self._kept:
                kept = self._kept[uid] = _Kept(wanted)
                tasks.create_task(self._keep(kept), name=f"source.pod.{uid}")

    async def _keep(self, kept: _Kept) -> None:
        await self._others_left(kept)
        await self._start(kept)
        await kept.unwanted.wait()
        kept.ready = False
        await self._stop(kept)
        del self._kept[kept.wanted.pod.uid]
        kept.gone.set()
        self._moved.set()  # it may be wanted again by now

    async def _others_left(self, kept: _Kept) -> None:
        """Wait for pods that had one of the addresses and are being taken down."""
        pod = kept.wanted.pod
        for other in list(self._kept.values()):
            same = other.wanted.pod.node == pod.node and set(pod.addresses) & set(
                other.wanted.pod.addresses
            )
            if other is not kept and other.unwanted.is_set() and same:
                await other.gone.wait()

    async def _start(self, kept: _Kept) -> None:
        """Returns when the pod is up, or not wanted any more."""
        delay_ms = RETRY_MS
        while not kept.unwanted.is_set():
            try:
                async with self._starting:
                    attached = await self._runtime.start(kept.wanted)
            except PodFailed as error:
                self.failures["start"] += 1
                log.warning(
                    "pods.start_failed",
                    **kept.described(),
                    reason=str(error),
                    retry_delay_ms=delay_ms,
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_ms / 1000):
                        await kept.unwanted.wait()
                delay_ms = min(delay_ms * 2, RETRY_MS_MAX)
                continue
            kept.ready = True
            self.changed()
            await self._measure(kept, attached)
            return

    async def _stop(self, kept: _Kept) -> None:
        delay_ms = RETRY_MS
        while True:
            try:
                await self._runtime.stop(kept.wanted.pod)
            except PodFailed as error:
                self.failures["stop"] += 1
                log.error("pods.stop_failed", **kept.described(), reason=str(error))
                await asyncio.sleep(delay_ms / 1000)
                delay_ms = min(delay_ms * 2, RETRY_MS_MAX)
                continue
            log.info("pods.stopped", **kept.described())
            return

    async def _measure(self, kept: _Kept, attached: Attached | None) -> None:
        ready_at = self._clock()
        if attached is None:
            log.info("pods.taken_over", **kept.described())
            return
        since_start_ms = round((ready_at - kept.wanted.pod.started_at) / 1e6, 3)
        self.ready_s.observe(max(0.0, since_start_ms / 1000))
        log.info(
            "pods.ready", **kept.described(), ready_ms=since_start_ms, identity=attached.identity
        )
        await asyncio.to_thread(self._measurements.add, kept.wanted.pod, attached, ready_at)

    async def _close(self) -> None:
        if self._keep_at_end:
            await self._runtime.let_go()
            return

        async def stop(kept: _Kept) -> None:
            try:
                await self._runtime.stop(kept.wanted.pod)
            except PodFailed as error:
                log.error("pods.stop_failed", **kept.described(), reason=str(error))

        try:
            async with asyncio.timeout(CLOSING_MS_MAX / 1000), asyncio.TaskGroup() as tasks:
                for kept in self._kept.values():
                    tasks.create_task(stop(kept), name=f"source.stop.{kept.wanted.pod.uid}")
        except TimeoutError:
            log.error("pods.left_behind", pods=len(self._kept), after_ms=CLOSING_MS_MAX)
        await self._runtime.let_go()
