"""Waiting until everything that was applied runs and is enforced."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from tabard.bus.port import Bus, Stream
from tabard.cli.printing import counted
from tabard.cli.views import Reading, workloads
from tabard.cluster.errors import NotReached
from tabard.cluster.watermarks import enforced, taken
from tabard.ledger.follow import catch_up, follow
from tabard.ledger.state import State


async def rolled_out(
    bus: Bus, timeout_s: float, tell: Callable[[str], None], *, attached: bool
) -> State:
    """Wait until every workload has its pods and every node enforces them; the state then.

    `attached`: pods have interfaces, which must be guarded as well.

    NotReached, naming what is missing, after `timeout_s`.
    """
    state = State()
    deadline = asyncio.get_running_loop().time() + timeout_s
    observed = await bus.last_sequence(Stream.OBSERVED)
    await catch_up(bus, state)
    told = ""
    try:
        async with asyncio.timeout(timeout_s):
            await taken(bus, state, observed)
            async with aclosing(follow(bus, state)) as batches:
                while lacking := _lacking(state):
                    runs, waits = len(state.endpoints), len(lacking)
                    line = (
                        f"{counted(runs, 'pod runs', 'pods run')}, "
                        f"{counted(waits, 'workload waits', 'workloads wait')}"
                    )
                    if line != told:
                        tell(line)
                        told = line
                    await anext(batches)
    except TimeoutError as error:
        refused = [pod.reason for pod in state.refused_pods.values()]
        raise NotReached(
            f"not all pods run after {timeout_s:g} s: {'; '.join(_lacking(state)) or 'none asked'}"
            + (f"; refused: {refused[0]}" if refused else ""),
            "the same command with a longer --ready-timeout",
        ) from error
    left = max(0.0, deadline - asyncio.get_running_loop().time())
    pods = {
        node: sum(not state.endpoints[uid].host_network for uid in uids)
        for node, uids in state.by_node.items()
    }
    await enforced(bus, state.sequence, state.nodes, left, pods if attached else None)
    return state


def _lacking(state: State) -> list[str]:
    return [
        f"{row['kind']} {row['namespace']}/{row['name']} has {row['bound']} of {row['desired']}"
        for row in workloads(Reading(state))
        if row["desired"] is not None and row["bound"] != row["desired"]
    ]
