"""When a started cluster is ready: the allocator leads, every node enforces and answers."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from tabard.bus.port import Bus
from tabard.cluster.errors import NotReached
from tabard.cluster.gate import ask
from tabard.cluster.publish import publish
from tabard.cluster.watermarks import enforced, taken
from tabard.events.observed import NodeLeft
from tabard.ledger.follow import catch_up
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

POLL_S = 0.02
STOPPED_POLL_S = 1.0
GATE_TIMEOUT_S = 5.0
LOOK_S = 1.0
"""Between two looks at the processes while nodes are waited for."""


class Readiness:
    """`check` raises if waiting has become pointless; `tell` takes a line for people."""

    def __init__(
        self,
        bus: Bus,
        sockets: dict[str, Path],
        check: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._sockets = sockets
        self._check = check
        self._tell = tell

    async def come(self, before: int, timeout_s: float) -> None:
        """Wait until all are ready; `before` was LEDGER's last sequence before they were started.

        NotReached after `timeout_s`. There is no time-out while the ledger holds an event that
        cannot be taken: then an operator must look at it, which takes a running bus.
        """
        async with asyncio.timeout(timeout_s) as deadline:
            try:
                await self._come(before, deadline)
            except TimeoutError as error:
                if not deadline.expired():
                    raise
                raise NotReached(
                    f"the cluster was not ready within {timeout_s:g} s",
                    "tabard up --data DIR, then read DIR/logs",
                ) from error

    async def _come(self, before: int, deadline: asyncio.Timeout) -> None:
        nodes = self._sockets.keys()
        state = State()
        # The first event of this run is the allocator's claim of the lead.
        while state.sequence <= before or not nodes <= state.nodes.keys():
            self._check()
            await asyncio.sleep(POLL_S)
            await self._catch_up(state, deadline)
        await self._part_with(state.nodes.keys() - nodes, state)
        await self._enforced(state.sequence, nodes)
        for name in nodes:
            await self._answers(name, state.sequence)
        self._tell(f"ready: {len(nodes)} nodes enforce LEDGER/{state.sequence}")

    async def _catch_up(self, state: State, deadline: asyncio.Timeout) -> None:
        told = 0
        while True:
            try:
                await catch_up(self._bus, state)
                return
            except Stopped as error:
                deadline.reschedule(None)
                if told != error.sequence:
                    told = error.sequence
                    self._tell(str(error))
                await asyncio.sleep(STOPPED_POLL_S)

    async def _part_with(self, gone: Collection[str], state: State) -> None:
        """A kept ledger may have nodes that this run has not."""
        if gone:
            published = await publish(self._bus, [NodeLeft(name) for name in sorted(gone)])
            await taken(self._bus, state, published.sequences[-1])

    async def _enforced(self, sequence: int, nodes: Collection[str]) -> None:
        while True:
            self._check()
            with suppress(NotReached):
                await enforced(self._bus, sequence, nodes, LOOK_S)
                return

    async def _answers(self, node: str, sequence: int) -> None:
        """Until the gate itself says so: on kept data, STATUS may hold an earlier agent's word."""
        while True:
            self._check()
            with suppress(NotReached):
                answer = await ask(self._sockets[node], "status", GATE_TIMEOUT_S)
                if answer["sequence"] >= sequence:
                    return
            await asyncio.sleep(POLL_S)
