"""Following the ledger: fold what comes, say when the agent is in sync, stop where it must."""

import asyncio
from contextlib import aclosing

import structlog

from tabard.agent.reconciler import Reconciler, Standing
from tabard.agent.report import Report
from tabard.bus.port import Bus, BusError, Stream
from tabard.ledger.checkpoint import check
from tabard.ledger.follow import follow
from tabard.ledger.reader import Stopped
from tabard.ledger.start import begin
from tabard.ledger.state import State

log = structlog.get_logger(__name__)

RECHECK_S = 1.0
"""Wait before the ledger is tried again where following it had to stop."""
REMOVED = "this node was taken out of the cluster; start its agent again if it is to be of it"


class Follower:
    """Folds the ledger into `reconciler.state`; does nothing else with it."""

    def __init__(
        self, reconciler: Reconciler, report: Report, recheck_s: float = RECHECK_S
    ) -> None:
        self.events = 0
        """Events folded by this process."""
        self.head = 0
        """The ledger's end, as far as this process knows."""
        self._reconciler = reconciler
        self._report = report
        self._recheck_s = recheck_s
        self._moved = asyncio.Event()
        self._resumed = False
        """The state is known to be one of this ledger's."""
        self._was_member = False
        """This process saw its node in the ledger."""

    async def folded(self) -> None:
        """Wait until the state goes on."""
        await self._moved.wait()

    async def run(self, bus: Bus) -> None:
        """Follow for ever."""
        while True:
            try:
                await self._follow(bus)
            except Stopped as error:
                self._stopped("agent.stopped", str(error))
                # The kernel may hold what a newer release made of the rest: add to it, no more.
                self._reconciler.stand(Standing.OFFLINE)
            except BusError as error:
                self._stopped("agent.ledger_unavailable", str(error))
            # What preceded the stop is folded, and is enforced.
            self._reconciler.wake()
            self._notify()
            await asyncio.sleep(self._recheck_s)

    async def _follow(self, bus: Bus) -> None:
        reconciler = self._reconciler
        if unfit := await check(bus, reconciler.state):
            # Who was away while the ledger was trimmed knows nothing wrong, but too little.
            is_behind = reconciler.state.sequence < await bus.first_sequence(Stream.LEDGER)
            if self._resumed and not is_behind:
                self._stopped(
                    "agent.ledger_replaced",
                    f"the bus holds another ledger than this node enforces: {unfit}; restore the "
                    "bus, or restart the agent to enforce what the bus holds now",
                )
                return
            log.error("agent.state_discarded", reason=unfit)
        if unfit or not reconciler.state.sequence:
            state = State()
            if await begin(bus, state) is not None and self._report.clear("ledger"):
                log.info("agent.ledger_resumed", sequence=state.sequence)
            reconciler.restored(state)
        self._resumed = True
        end = await bus.last_sequence(Stream.LEDGER)
        self._reached(end)
        is_refolding = reconciler.refolding
        async with aclosing(follow(bus, reconciler.state)) as batches:
            async for records in batches:
                self.events += len(records)
                if self._report.clear("ledger"):
                    log.info("agent.ledger_resumed", sequence=reconciler.state.sequence)
                reconciler.folded(records)
                if reconciler.refolding and not is_refolding:
                    end = await bus.last_sequence(Stream.LEDGER)
                is_refolding = reconciler.refolding
                self._reached(end)
                self._notify()

    def _reached(self, end: int) -> None:
        self.head = max(end, self._reconciler.state.sequence)
        self._tell_of_membership()
        if self._reconciler.state.sequence >= end:
            self._reconciler.stand(Standing.IN_SYNC)
            self._reconciler.refolded()

    def _tell_of_membership(self) -> None:
        state, reconciler = self._reconciler.state, self._reconciler
        refused = state.refused_nodes.get(reconciler.node)
        reason = state.quarantined.get((Stream.OBSERVED.value, reconciler.joined_at), "")
        if refused is not None:
            reason = refused.reason
        if not reason:
            self._report.clear("refused")
        elif self._report.fail("refused", f"this node is refused as it is: {reason}"):
            log.error("agent.node_refused", reason=reason)
        if reconciler.node in state.nodes:
            self._was_member = True
            self._report.clear("removed")
        elif self._was_member and self._report.fail("removed", REMOVED):
            log.error("agent.node_removed", sequence=state.sequence)

    def _stopped(self, event: str, message: str) -> None:
        if self._report.fail("ledger", message):
            log.error(event, error=message, sequence=self._reconciler.state.sequence)

    def _notify(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


async def stand_offline(reconciler: Reconciler, wait_s: float) -> None:
    """After `wait_s` without being in sync, let an agent with a checkpoint start known pods."""
    try:
        async with asyncio.timeout(wait_s):
            await reconciler.in_sync.wait()
    except TimeoutError:
        if reconciler.state.sequence:
            log.warning("agent.offline", sequence=reconciler.state.sequence)
            reconciler.stand(Standing.OFFLINE)
