"""What a process has asked of the world outside of it, and waits for."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from tabard.bus.port import BusError
from tabard.dataplane.port import DataplaneError
from tabard.ledger.checkpoint import CheckpointError
from tabard.simulator.loop import Host, VirtualLoop

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Operation:
    """One request that its caller waits for."""

    name: str
    """As `append`, `publish STATUS`, `checkpoint`."""
    effect: Callable[[], Any]
    """Does it, and returns the answer or raises what the caller is told."""
    failure: Callable[[str], Exception]
    """What the caller is told where there is no answer, by a reason."""
    answer: asyncio.Future[Any]
    began: float
    can_come_late: bool = False
    """It may have its effect after its caller was told that there is no answer, or has died."""
    short: Callable[[int], Any] | None = None
    """The same in a smaller piece: a tail's first so many messages, so many stages of a write."""
    is_ready: Callable[[], bool] | None = None
    """Whether it can be carried out now; None: at any time."""
    needs_bus: bool = True
    """It fails while its process is cut off."""


@dataclass(slots=True, eq=False)
class Line:
    """The pending operations of one life of a process, oldest first."""

    host: Host
    loop: VirtualLoop
    pending: dict[str, deque[Operation]] = field(default_factory=dict)
    late: deque[Operation] = field(default_factory=deque)
    """What may still have its effect, though nobody waits for it any more."""
    is_cut: bool = False
    is_slow: bool = False

    async def ask(
        self,
        name: str,
        effect: Callable[[], _T],
        failure: Callable[[str], Exception],
        *,
        can_come_late: bool = False,
        short: Callable[[int], _T] | None = None,
        is_ready: Callable[[], bool] | None = None,
        needs_bus: bool = True,
    ) -> _T:
        """Wait until the scheduler lets it happen."""
        answer: asyncio.Future[_T] = asyncio.Future(loop=self.loop)
        operation = Operation(
            name,
            effect,
            failure,
            answer,
            self.loop.time(),
            can_come_late,
            short,
            is_ready,
            needs_bus,
        )
        self.pending.setdefault(name, deque()).append(operation)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled() and not self.host.is_dead:
                self._withdraw(operation)
            raise

    async def question(
        self, name: str, effect: Callable[[], _T], failure: Callable[[str], Exception]
    ) -> _T:
        """What changes nothing is answered at once, unless the process is cut off or slow."""
        if self.is_cut or self.is_slow:
            return await self.ask(name, effect, failure)
        await _turn()
        return effect()

    def _withdraw(self, operation: Operation) -> None:
        """Its caller waits no more; it is not heard of again, or late."""
        waiting = self.pending.get(operation.name)
        if waiting is not None and operation in waiting:
            self._drop(operation)
            if operation.can_come_late and not self.is_cut:
                self.late.append(operation)

    def _drop(self, operation: Operation) -> None:
        waiting = self.pending[operation.name]
        waiting.remove(operation)
        if not waiting:
            del self.pending[operation.name]

    # What the scheduler does

    def first(self, name: str) -> Operation | None:
        """The oldest of that name that can be carried out."""
        for operation in self.pending.get(name, ()):
            if operation.is_ready is None or operation.is_ready():
                return operation
        return None

    def go(self, operation: Operation) -> None:
        self._drop(operation)
        self._carry_out(operation, operation.effect)

    def shortly(self, operation: Operation, amount: int) -> None:
        """A smaller piece of it; of a write the rest waits as another operation."""
        assert operation.short is not None
        self._drop(operation)
        self._carry_out(operation, partial(operation.short, amount))

    def fail(self, operation: Operation, reason: str) -> None:
        self._drop(operation)
        operation.answer.set_exception(operation.failure(reason))

    def lose(self, operation: Operation) -> None:
        """It is carried out, and its caller is not told."""
        self._drop(operation)
        _effect(operation)
        operation.answer.set_exception(operation.failure("the answer was lost"))

    def defer(self, operation: Operation) -> None:
        """Its caller is told that there is no answer; it may still have its effect."""
        self._drop(operation)
        self.late.append(operation)
        operation.answer.set_exception(operation.failure("no answer in time"))

    def land(self) -> Operation:
        """The oldest that is late has its effect."""
        operation = self.late.popleft()
        _effect(operation)
        return operation

    def expire(self, older_s: float) -> None:
        """What was asked too long ago gets no answer any more; what is late never comes."""
        now = self.loop.time()
        for waiting in list(self.pending.values()):
            for operation in list(waiting):
                if operation.is_ready is None and now - operation.began > older_s:
                    if operation.needs_bus and operation.can_come_late and not self.is_cut:
                        self.defer(operation)
                    elif operation.needs_bus:
                        self.fail(operation, "no answer in time")
        while self.late and now - self.late[0].began > 4 * older_s:
            self.late.popleft()

    def end(self) -> None:
        """Its process died: what was on its way may still come."""
        for waiting in self.pending.values():
            self.late.extend(one for one in waiting if one.can_come_late and not self.is_cut)
        self.pending.clear()

    def _carry_out(self, operation: Operation, how: Callable[[], Any]) -> None:
        try:
            found = how()
        except Exception as error:
            operation.answer.set_exception(error)
        else:
            operation.answer.set_result(found)


def _effect(operation: Operation) -> None:
    """Nobody is there to be told what it came to."""
    with suppress(BusError, CheckpointError, DataplaneError):
        operation.effect()


class _Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


def _turn() -> "_Turn":
    """Let others run once, as a call to a real bus does."""
    return _Turn()
