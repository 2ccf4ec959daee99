"""An event loop in which time stands still until it is told to go on.

It has no selector, no threads and no clock: `settle` runs whatever is ready until nothing is,
`advance` moves time to the next timer and on. Callbacks run in the order in which they were made.

Every task belongs to a `Host`, one process's life, by its context. Those of a host that was paused
wait for it; those of one that died vanish where they stand, without their `finally`.
"""

import asyncio
import heapq
import itertools
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

CALLBACKS_MAX = 200_000
"""Most callbacks in one `settle`: more is a program that waits for nothing, for ever."""
BEGUN_S = 1_000.0
TIMERS_KEPT = 4_096
"""Beyond so many timers cancelled ones are looked for and thrown away."""


class Livelock(Exception):
    """The program under test went on and on without waiting for anything."""


class Host:
    """One life of a process: what runs in its context lives and dies with it."""

    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.start = start
        """How many lives its process had, with this one."""
        self.is_running = True
        """False while it is paused, and once it is dead."""
        self.is_dead = False
        self.skew_ns = 0
        """What its clock is ahead of the true one."""
        self.drawn = 0
        """Random ids that it drew."""
        self.held: list[asyncio.Handle] = []
        """What became due while it was paused."""
        self.context = copy_context()
        self.context.run(HOST.set, self)


HOST: ContextVar[Host | None] = ContextVar("host", default=None)
"""Whose code runs; None: the simulator's own."""


class _Task(asyncio.Task[_T]):
    """Sets of tasks are walked in the same order in every run: `number` is its hash."""

    def __init__(
        self, number: int, coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T], **kwargs: Any
    ) -> None:
        self._number = number
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Its time begins at BEGUN_S, as that of a machine that has been up for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._time = BEGUN_S
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = itertools.count()
        self._tasks: list[_Task[Any]] = []
        self.failures: list[BaseException] = []
        """Errors that no task took."""

    # Running

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, this is the running loop."""
        before = events._get_running_loop()
        events._set_running_loop(None)
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def settle(self) -> None:
        """Run callbacks until none is ready. Livelock if they never end."""
        ready, left = self._ready, CALLBACKS_MAX
        while ready:
            handle = ready.popleft()
            if handle._cancelled:
                continue
            host: Host | None = handle._context.get(HOST)  # type: ignore[attr-defined]
            if host is not None and not host.is_running:
                if not host.is_dead:
                    host.held.append(handle)
                continue
            handle._run()
            left -= 1
            if not left:
                raise Livelock(f"{CALLBACKS_MAX} callbacks at one moment; the last was {handle}")

    def advance(self, seconds: float) -> None:
        """Let time go by, timer after timer, once nothing is ready any more."""
        self.settle()
        until, timers = self._time + seconds, self._timers
        while timers and timers[0][0] <= until:
            when, _, handle = heapq.heappop(timers)
            if handle._cancelled:
                continue
            self._time = max(self._time, when)
            self._ready.append(handle)
            self.settle()
        self._time = until
        if len(timers) > TIMERS_KEPT:
            alive = [one for one in timers if not one[2]._cancelled]
            heapq.heapify(alive)
            self._timers = alive

    def resume(self, host: Host) -> None:
        """The host runs again, and what became due meanwhile comes first."""
        host.is_running = True
        self._ready.extend(host.held)
        host.held.clear()

    def kill(self, host: Host) -> None:
        """The host is gone, and so is what it was doing."""
        host.is_running, host.is_dead = False, True
        host.held.clear()

    def abandon(self) -> None:
        """Throw away all tasks. Python runs their `finally`s, in which they find no loop, and has
        much to say about it."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        heard, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with suppress(BaseException):
                        task.get_coro().close()
            self._tasks.clear()
            self._ready.clear()
        finally:
            sys.unraisablehook = heard

    def note_failure(self, task: asyncio.Task[Any]) -> None:
        """A done callback for tasks that nobody waits for."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._time

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._serial), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        task = _Task(len(self._tasks), coro, loop=self, name=name or "", context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(
        self, executor: Any, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run it here and now."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(error or RuntimeError(str(context.get("message"))))
