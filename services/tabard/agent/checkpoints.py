"""The agent's checkpoint: state and attachments in one transaction, away from the hot path."""

import asyncio
import time
from contextlib import suppress

import structlog

from tabard.agent.attachments import Held, packed, unpacked
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.ledger.checkpoint import Checkpoint, CheckpointError, pause_s
from tabard.ledger.state import State

log = structlog.get_logger(__name__)

START_S = 60.0
"""How long a start goes on without a save. The state grows meanwhile, so each save would cost more
than the one before it, and a start that is broken off has lost a minute."""


class Checkpoints:
    """Saves what changed, every `spacing_s` (seldomer if it takes long, or while the agent is not
    `started`), and whenever asked to."""

    def __init__(
        self, checkpoint: Checkpoint, reconciler: Reconciler, report: Report, spacing_s: float
    ) -> None:
        self.saved = 0
        """Sequence of the state that a restart would begin with."""
        self._extra = b""
        self._unwaited = 0
        """`Reconciler.unwaited` as of what is saved."""
        self._acknowledged = 0
        self._checkpoint = checkpoint
        self._reconciler = reconciler
        self._report = report
        self._spacing_s = spacing_s
        self._took_s = 0.0
        self._lock = asyncio.Lock()

    async def load(self) -> dict[str, Held]:
        """Give the reconciler the saved state; the attachments saved with it."""
        state = await self._checkpoint.load()
        if state is None:
            return {}
        self._reconciler.state = state
        self.saved, self._extra = state.sequence, self._checkpoint.extra
        log.info("agent.checkpoint_loaded", sequence=state.sequence)
        try:
            return unpacked(self._extra)
        except ValueError as error:
            log.warning("agent.checkpoint_attachments_discarded", error=str(error))
            return {}

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_S):
                    await self._reconciler.started.wait()
            await asyncio.sleep(pause_s(self._spacing_s, self._took_s))
            await self.save()

    async def save(self) -> None:
        """Save now, if anything changed; a failure is reported, and the old checkpoint stands."""
        async with self._lock:
            # What is known on the way may be wrong by now, and a restart need not serve from it.
            state = State() if self._reconciler.refolding else self._reconciler.state
            sequence, extra = state.sequence, packed(self._reconciler.attachments.all())
            unwaited = self._reconciler.unwaited
            if (sequence, extra, unwaited) == (self.saved, self._extra, self._unwaited):
                return
            try:
                began = time.perf_counter()
                saving = self._checkpoint.save(state, extra)
                self._took_s = time.perf_counter() - began
                await saving
            except CheckpointError as error:
                if self._report.fail("checkpoint", str(error)):
                    log.error("agent.checkpoint_failed", error=str(error))
                return
            self._report.clear("checkpoint")
            self.saved, self._extra, self._unwaited = sequence, extra, unwaited

    async def acknowledged(self, sequence: int) -> int:
        """The sequence up to which the agent may say that it enforces `sequence`.

        A retired number is free for others once every node says that it is past the retirement. So
        the agent must not forget by a crash that it said so, or it would give that number to a pod
        whose labels it stood for before: checkpoint, then acknowledge. Of numbers that were free
        without this node's word no retirement tells any more, so nothing newer than what is saved
        is said until that is replaced, nor while nobody waits for the node.
        """
        if self._reconciler.refolding:
            return self._acknowledged or sequence  # nothing newer is enforced either
        reconciler = self._reconciler
        if self._unwaited != reconciler.unwaited or self._forgettable(sequence) <= sequence:
            await self.save()
        if self._unwaited == reconciler.unwaited:
            self._acknowledged = min(sequence, self._forgettable(sequence) - 1)
        else:
            self._acknowledged = max(self._acknowledged, min(sequence, self.saved))
        return self._acknowledged

    def _forgettable(self, sequence: int) -> int:
        """The first retirement after what is saved, or the first event if retirements do not tell;
        beyond `sequence` if there is none up to it."""
        state, saved = self._reconciler.state, self.saved
        if self._reconciler.node in state.lost:
            return saved + 1
        first = sequence + 1
        for at in reversed(state.retired.values()):  # in the order of their retirement
            if at <= saved:
                break
            first = min(first, at)
        return first
