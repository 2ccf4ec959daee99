"""How long ago this node last knew that it enforced the ledger's newest, and what follows.

The bus is asked for the ledger's head from time to time. Once the node's watermark has reached what
it answered, the node was fresh when it asked. The dataplane is told, which denies new flows by it
where a bound says so, with the agent alive or not. If it is too long ago, the agent says so itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import structlog

from tabard.agent.reconciler import Reconciler, Standing
from tabard.agent.report import Age, Report
from tabard.bus.port import Bus, Stream
from tabard.dataplane.port import DataplaneError
from tabard.process.bus import last_sequence

log = structlog.get_logger(__name__)

ASKS_A_BOUND = 6
"""How often the bus is asked within the shortest bound."""
ASK_S_MIN = 0.2
ASK_S_MAX = 5.0
LOOK_S = 0.05
"""Between two looks whether the watermark has come to what the bus answered."""
ASKED_MAX = 64
"""Answers that the watermark has not reached yet. With so many no further one counts until one is
reached: a node that is always the same time behind would never come to the newest."""

SECOND = 1_000_000_000


def boot_time() -> int:
    """Nanoseconds of CLOCK_BOOTTIME: while a machine sleeps, what it knows grows old."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Freshness:
    """`after_s` is the agent's bound, and `denies` whether its pods open no new flow beyond it.

    Policies may bound some of the pods (`Reconciler.stale_after_s`).
    """

    def __init__(
        self,
        reconciler: Reconciler,
        report: Report,
        bus: Callable[[], Bus | None],
        *,
        after_s: int,
        denies: bool,
        clock: Callable[[], int] = boot_time,
    ) -> None:
        self._reconciler = reconciler
        self._report = report
        self._bus = bus
        self._after_s = after_s
        self._denies = denies
        self._clock = clock
        self._fresh = self._begun = clock(), time.time_ns()
        """When the node was last fresh, by `clock` and since the Unix epoch."""
        self._asked: deque[tuple[tuple[int, int], int]] = deque()
        """(when the bus was asked, the head that it answered), oldest first."""
        self._head = 0

    @property
    def age_s(self) -> float:
        """Since the node was fresh; of an agent that never was, since its start."""
        return (self._clock() - self._fresh[0]) / SECOND

    @property
    def is_stale(self) -> bool:
        return self.age_s > self._bound_s

    @property
    def _deny_s(self) -> int:
        """The shortest bound beyond which some pod opens no new flow; 0: none."""
        bounds = (self._after_s if self._denies else 0, self._reconciler.stale_after_s)
        return min(filter(None, bounds), default=0)

    @property
    def _bound_s(self) -> int:
        return min(self._after_s, self._deny_s or self._after_s)

    @property
    def pause_s(self) -> float:
        """Between two questions: short while the kernel may deny new flows until the answer."""
        if self._fresh is self._begun or self.is_stale:
            return ASK_S_MIN
        return min(max(self._bound_s / ASKS_A_BOUND, ASK_S_MIN), ASK_S_MAX)

    async def run(self) -> None:
        """Ask and tell for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self.ask()
            until = loop.time() + self.pause_s
            while True:
                await self.look()
                left = until - loop.time()
                if left <= 0:
                    break
                await asyncio.sleep(min(left, LOOK_S) if self._asked else left)

    async def ask(self) -> None:
        """Ask the bus for the ledger's head."""
        at = self._clock(), time.time_ns()
        head = await last_sequence(self._bus(), Stream.LEDGER)
        if head is not None:
            self._head = head
            if len(self._asked) < ASKED_MAX:
                self._asked.append((at, head))

    async def look(self) -> None:
        """Whether the watermark has come to what was asked; tells whoever is to know."""
        report = self._report
        enforced = report.sequence
        if self._reconciler.standing is not Standing.IN_SYNC or "ledger" in report.troubles:
            enforced = -1  # what it enforces may not be this ledger's
        at = None
        while self._asked and self._asked[0][1] <= enforced:
            at, _ = self._asked.popleft()
        if at is not None:
            try:
                await self._reconciler.worker.call(self._reconciler.dataplane.refresh, at[0])
            except DataplaneError as error:
                log.error("agent.refresh_failed", error=str(error))
            else:
                self._fresh = at
        self._tell()

    def _tell(self) -> None:
        report, deny_s = self._report, self._deny_s
        report.lag = max(0, self._head - report.sequence)
        at = self._fresh[1]
        fresh_at = 0 if self._fresh is self._begun else at
        report.age = now = Age(fresh_at, 0, self._after_s * 1000, deny_s * 1000)
        if not self.is_stale:
            if report.clear("staleness"):
                log.info("agent.fresh_again", sequence=report.sequence)
            return
        report.age = replace(now, stale_since=at + self._bound_s * SECOND)
        denies = bool(deny_s) and self.age_s > deny_s
        trouble = (
            f"this node does not know for more than {self._bound_s} s what the ledger says"
            + (
                ": new flows are denied where a bound says so"
                if denies
                else "; it enforces what it has"
            )
        )
        if report.fail("staleness", trouble):
            log.warning("agent.stale", lag_events=report.lag, denies=denies, error=trouble)
