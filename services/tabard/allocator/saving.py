"""Checkpoints of a state that is the ledger's, made beside the work and at a bounded pace."""

import asyncio
import time
from collections.abc import Awaitable

import structlog

from tabard.ledger.checkpoint import Checkpoint, CheckpointError, pause_s
from tabard.ledger.state import State

_log = structlog.get_logger()


class Saver:
    """`spacing_s` is the least time between two checkpoints."""

    def __init__(self, checkpoint: Checkpoint, spacing_s: float) -> None:
        self._checkpoint = checkpoint
        self._spacing_s = spacing_s
        self._due_at = 0.0
        self._saved = 0
        self._saving: asyncio.Task[None] | None = None

    def save_if_due(self, state: State, tasks: asyncio.TaskGroup) -> None:
        """Start a checkpoint; called when the state is the ledger's, neither more nor less."""
        now = asyncio.get_running_loop().time()
        if now < self._due_at or self._saved == state.sequence:
            return
        if self._saving is not None and not self._saving.done():
            return
        started = time.perf_counter()
        saving = self._checkpoint.save(state)
        took = time.perf_counter() - started
        self._due_at = now + pause_s(self._spacing_s, took)
        self._saved = state.sequence
        self._saving = tasks.create_task(_written(saving), name="allocator.save")

    async def save(self, state: State) -> None:
        """Make a checkpoint now; none that was begun before may be under way."""
        await _written(self._checkpoint.save(state))


async def _written(saving: Awaitable[None]) -> None:
    try:
        await saving
    except CheckpointError as error:
        # It only saves time at the next start.
        _log.error("checkpoint.failed", reason=str(error))
