"""What a fault goes on doing between its injection and its healing."""

import asyncio
from collections.abc import Coroutine


class Ongoing:
    """One task that runs until `end`. A task group was rejected: a fault is injected and healed by
    two calls, and a group must be left by the task that entered it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[None, None, None], name: str) -> None:
        assert self._task is None, "it goes on already"
        self._task = asyncio.create_task(work, name=name)

    async def end(self) -> None:
        """Cancel it, and wait until it has ended; what it failed with is raised here. Nothing if it
        never began or has been ended."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        task, self._task = self._task, None
        if not task.cancelled():
            await task
