"""`tabard wait`: until every live node enforces what was published."""

import asyncio
import time

from tabard.bus.port import Bus, Stream
from tabard.cli.failing import Failure
from tabard.cli.printing import counted, tell
from tabard.cli.reach import Target, with_bus
from tabard.cluster.errors import NotReached
from tabard.cluster.watermarks import enforced, taken, watermarks
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State


async def settled(bus: Bus, sequence: int | None, timeout_s: float) -> tuple[int, int]:
    """Wait until every live node enforces LEDGER through `sequence`; (sequence, nodes).

    None stands for everything that was published when the wait began, observed events that the
    allocator has not taken yet included. NotReached if it takes longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    state = State()
    head = await bus.last_sequence(Stream.OBSERVED)
    await catch_up(bus, state)
    if sequence is None:
        try:
            async with asyncio.timeout(timeout_s):
                await taken(bus, state, head)
        except TimeoutError as error:
            cursor = state.cursors.get(Stream.OBSERVED, 0)
            raise NotReached(
                f"the allocator has taken OBSERVED/{cursor}, not OBSERVED/{head}, after "
                f"{timeout_s:g} s",
                "tabard status",
            ) from error
        sequence = state.sequence
    if not state.nodes:
        raise Failure("the ledger has no node that could enforce it", "tabard status")
    # What they said last may be enough, and then no time is needed.
    words = await watermarks(bus, state.nodes)
    behind = [
        name for name in state.nodes if name not in words or words[name].status.sequence < sequence
    ]
    try:
        await enforced(bus, sequence, behind, max(0.0, deadline - time.monotonic()))
    except NotReached as error:
        where = str(error).partition(": ")[2]
        raise NotReached(
            f"not enforced through LEDGER/{sequence} within {timeout_s:g} s: {where}", error.next
        ) from error
    return sequence, len(state.nodes)


def enforcing(nodes: int, through: int) -> str:
    """`2 nodes enforce LEDGER/17`"""
    return f"{counted(nodes, 'node')} {'enforces' if nodes == 1 else 'enforce'} LEDGER/{through}"


def wait(sequence: int | None, timeout_s: float, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> tuple[int, int]:
        return await settled(bus, sequence, timeout_s)

    through, nodes = with_bus("see it enforced", cluster, nats, work)
    tell(enforcing(nodes, through))
