"""An allocator and agents as processes on a real bus, whose agents are killed and come back."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from allocators import Process, processes
from deciding import relabelled, started, stopped
from serving import folded, ledger, publish, until
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Bus
from tabard.cluster.watermarks import enforced
from tabard.events.ledger import EndpointRelabelled, NodeLost, NodeRefused, NodeReturned
from tabard.ledger.state import State

pytestmark = pytest.mark.nats

LOST_MS = 5_000
"""Long for an agent that says something each HEARTBEAT_MS, on a machine that is busy."""
HEARTBEAT_MS = 100
ENFORCED_S_MAX = 30.0


@contextlib.asynccontextmanager
async def agent(number: int, url: str, data: Path, cidr: str) -> AsyncIterator[None]:
    """The agent of a node without a kernel; killed at the end."""
    own = {
        "NATS": url,
        "CLUSTER": "test",
        "DATA": str(data / f"n{number}"),
        "NODE": f"n{number}",
        "UNDERLAY": f"192.0.2.{number}",
        "POD_CIDRS": cidr,
        "DATAPLANE": "memory",
        "STATUS_HEARTBEAT_MS": str(HEARTBEAT_MS),
    }
    environment = {key: value for key, value in os.environ.items() if key[:7] != "TABARD_"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tabard.agent"),
        env=environment | {f"TABARD_{key}": value for key, value in own.items()},
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def so(bus: Bus, holds: Callable[[State], bool]) -> State:
    """The folded ledger, once it is so."""

    async def is_so() -> bool:
        return holds(await folded(bus))

    await until(is_so, 0.02)
    return await folded(bus)


async def test_an_agent_that_dies_is_waited_for_in_vain_then_lost_and_is_back_when_started_again(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    bus = nats_bus
    quick = {"TICK_MS": "50", "RELABEL_TIMEOUT_MS": "1500", "RETIRE_GRACE_MS": "0"}
    allocator = Process(nats_url, tmp_path, **quick, NODE_LOST_MS=str(LOST_MS))
    mortal = contextlib.AsyncExitStack()
    async with processes(allocator), agent(1, nats_url, tmp_path, "10.244.1.0/24"), mortal:
        await allocator.start()
        await mortal.enter_async_context(agent(2, nats_url, tmp_path, "10.244.2.0/24"))
        await so(bus, lambda state: set(state.nodes) == {"n1", "n2"})
        async with agent(3, nats_url, tmp_path, "10.244.1.128/25"):
            await so(bus, lambda state: "n3" in state.refused_nodes)
        await publish(bus, started("a", {"app": "web"}, "10.244.1.5"))
        await publish(bus, started("b", {"app": "b"}, "10.244.1.6"))
        state = await so(bus, lambda state: len(state.endpoints) == 2)
        await enforced(bus, state.sequence, ("n1", "n2"), ENFORCED_S_MAX)
        await publish(bus, relabelled("a", app="api"))
        await so(bus, lambda state: dict(state.endpoints["a"].labels) == {"app": "api"})
        await mortal.aclose()
        await publish(bus, relabelled("a", app="db"), stopped("b"))
        state = await so(bus, lambda state: "n2" in state.lost)
        assert not state.relabels
        state = await so(bus, lambda state: bool(state.doubtful))
        assert set(state.nodes) == {"n1", "n2"}
        async with agent(2, nats_url, tmp_path, "10.244.2.0/24"):
            await so(bus, lambda state: not state.lost and not state.doubtful)
    said = await ledger(bus)
    moves = [event.behind for event in said if isinstance(event, EndpointRelabelled)]
    assert moves == [(), ("n2",)]
    told = [
        type(event)
        for event in said
        if isinstance(event, NodeRefused | NodeLost | NodeReturned) and event.name != "n1"
    ]
    assert told == [NodeRefused, NodeLost, NodeReturned]
