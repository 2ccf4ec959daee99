"""The one thread on which the dataplane is called."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from tabard.netns.enter import enter

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    """Runs blocking calls one after the other, in the order in which they were made.

    The thread enters the network namespace `netns` (if named) before its first call and stays
    there, so that interfaces are found in the node's namespace; NamespaceError from `open` if it
    cannot. A call that has begun is finished even if its caller was cancelled.

    `at_once`: without a thread, for calls that never block; to go to another thread and back costs
    more than such a call.
    """

    def __init__(self, netns: str = "", *, at_once: bool = False) -> None:
        assert not (netns and at_once), "only a thread can be in another namespace"
        self._netns = netns
        self._at_once = at_once
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dataplane")

    async def open(self) -> None:
        if self._netns:
            await self.call(enter, self._netns)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._at_once:
            return function(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Wait for what was called, then end the thread."""
        self._thread.shutdown(wait=True)
