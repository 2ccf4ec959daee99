"""What waits for nodes, with allocators at work on a bus, in memory and real."""

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from allocators import Process, processes
from deciding import joined, namespace, relabelled, started, stopped
from ledgers import say
from serving import (
    FAST,
    MemoryCheckpoint,
    allocator,
    caught_up,
    effects,
    folded,
    ledger,
    publish,
    running,
    until,
)
from tabard.allocator.commands import Limits
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Bus, BusUnavailable, Stream
from tabard.events.ledger import (
    EndpointBound,
    EndpointRelabelled,
    EndpointsRebound,
    IdentityReleased,
    NodeLost,
    NodeRefused,
    NodeReturned,
    RelabelPlanned,
)
from tabard.events.observed import NodeJoined
from tabard.ledger.state import State

WEB, API = {"app": "web"}, {"app": "api"}


HEARTBEAT_S = 0.01


class Agents:
    """They do nothing but say that they enforce what the ledger has: as it grows, and all the
    time."""

    def __init__(self, bus: Bus, *names: str) -> None:
        self._bus = bus
        self.names = set(names)
        self._end = 0

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self.speak()

    async def follow(self) -> None:
        async with contextlib.aclosing(self._bus.tail(Stream.LEDGER, 1)) as batches:
            async for messages in batches:
                self._end = messages[-1].sequence
                await self.speak()

    async def speak(self) -> None:
        for name in sorted(self.names):
            await say(self._bus, name, self._end)


@contextlib.asynccontextmanager
async def speaking(bus: Bus, *names: str) -> AsyncIterator[Agents]:
    agents = Agents(bus, *names)
    tasks = [asyncio.create_task(work) for work in (agents.follow(), agents.beat())]
    try:
        yield agents
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def shows(bus: Bus, holds: Callable[[State], bool], look_s: float = 0.0) -> State:
    """The folded ledger, once it is so."""

    async def so() -> bool:
        return holds(await folded(bus))

    await until(so, look_s)
    return await folded(bus)


def labels_of(state: State, uid: str) -> set[str]:
    return set(state.identities[state.endpoints[uid].identity].labels)


async def test_a_relabelled_pod_waits_for_its_nodes_and_not_for_the_clock() -> None:
    bus = MemoryBus()
    slow = dataclasses.replace(FAST, tick_s=3_600)
    await publish(bus, joined("n1"), joined("n2"), started("a", WEB))
    async with running(bus, pace=slow) as task, speaking(bus, "n1"):
        await caught_up(bus, task)
        await publish(bus, relabelled("a", **API))
        await shows(bus, lambda state: "a" in state.relabels)
        await say(bus, "n2", await bus.last_sequence(Stream.LEDGER))
        await shows(bus, lambda state: not state.relabels)
    assert [type(event) for event in await effects(bus)][-2:] == [
        RelabelPlanned,
        EndpointRelabelled,
    ]


async def test_cancellation_at_any_turn_of_a_relabel_loses_and_doubles_nothing() -> None:
    story = [
        *(joined("n1"), joined("n2"), started("a", WEB, namespace="shop")),
        *(started("b", WEB, namespace="shop"), relabelled("a", **API)),
        *(namespace("shop", team="red"), relabelled("b", app="db")),
    ]
    for turns in range(0, 160, 4):
        bus, checkpoint = MemoryBus(), MemoryCheckpoint()
        await publish(bus, *story)
        async with speaking(bus, "n1", "n2"):
            for number in range(3):
                one = allocator(bus, checkpoint, holder=f"h{turns}-{number}")
                task = asyncio.create_task(one.run())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            async with running(bus, checkpoint) as task:
                await caught_up(bus, task)
                state = await shows(bus, lambda state: not state.relabels)
        for uid, app in (("a", "api"), ("b", "db")):
            team = "k8s:io.cilium.k8s.namespace.labels.team=red"
            assert {f"k8s:app={app}", team} <= labels_of(state, uid), turns
        kinds = [type(event) for event in await ledger(bus)]
        assert kinds.count(EndpointBound) == 2, turns
        assert 2 <= kinds.count(EndpointRelabelled) <= 4, turns
        assert kinds.count(EndpointsRebound) <= 2, turns


async def test_a_silent_node_is_lost_and_is_back_when_it_has_caught_up() -> None:
    bus = MemoryBus()
    pace = dataclasses.replace(FAST, limits=Limits(node_lost_ms=400))
    await publish(bus, joined("n1"), joined("n2"))
    async with running(bus, pace=pace), speaking(bus, "n1") as agents:
        state = await shows(bus, lambda state: "n2" in state.lost)
        assert set(state.lost) == {"n2"}
        agents.names.add("n2")
        await agents.speak()
        await shows(bus, lambda state: not state.lost)
    assert [type(event) for event in await effects(bus)][-2:] == [NodeLost, NodeReturned]


class Away(MemoryBus):
    """Gives no answer while it is `away`; counts how often it was asked meanwhile."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.away, self.asked = False, 0

    async def last_sequence(self, stream: Stream) -> Any:
        if self.away:
            self.asked += 1
            raise BusUnavailable("away")
        return await super().last_sequence(stream)


async def test_no_node_is_lost_for_what_it_could_not_say_while_the_bus_was_away() -> None:
    store = MemoryStore()
    bus, away = MemoryBus(store), Away(store)
    pace = dataclasses.replace(FAST, limits=Limits(node_lost_ms=20 * int(FAST.tick_s * 1e3)))
    await publish(bus, joined("n1"))
    async with running(away, pace=pace) as task:
        async with speaking(bus, "n1"):
            await caught_up(bus, task)
        away.away = True

        async def asked() -> bool:
            return away.asked > 60

        await until(asked, 0.001)
        await say(bus, "n1", await bus.last_sequence(Stream.LEDGER))
        away.away = False
        async with speaking(bus, "n1"):
            await publish(bus, started("a"))
            await caught_up(bus, task)
    assert NodeLost not in {type(event) for event in await effects(bus)}


@pytest.mark.nats
async def test_every_loop_closes_on_a_real_bus_over_the_death_of_its_allocator(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    bus = nats_bus
    quick = {"TICK_MS": "50", "NODE_LOST_MS": "3000", "RETIRE_GRACE_MS": "0"}
    one = Process(nats_url, tmp_path, **quick, RELABEL_TIMEOUT_MS="60000")
    other = Process(nats_url, tmp_path, **quick, RELABEL_TIMEOUT_MS="500")
    nodes = [NodeJoined(f"n{n}", (f"192.0.2.{n}",), (f"10.244.{n}.0/24",)) for n in (1, 2)]
    thief = NodeJoined("n3", ("192.0.2.3",), ("10.244.2.128/25",))

    async def so(holds: Callable[[State], bool]) -> State:
        return await shows(bus, holds, 0.02)

    async with processes(one, other):
        await one.start()
        async with speaking(bus, "n1", "n2") as agents:
            # A node that claims another's addresses does not join.
            await publish(bus, *nodes, thief, started("a", WEB, "10.244.1.1", at=1))
            state = await so(lambda state: "a" in state.endpoints)
            assert (set(state.nodes), set(state.refused_nodes)) == ({"n1", "n2"}, {"n3"})
            old = state.endpoints["a"].identity
            # A plan outlives the allocator that made it.
            agents.names.remove("n2")
            await publish(bus, relabelled("a", **API))
            await so(lambda state: "a" in state.relabels)
            await one.signal(signal.SIGKILL)
            await other.start()
            state = await so(lambda state: not state.relabels)
            assert labels_of(state, "a") >= {"k8s:app=api"}
            # Who was not waited for is lost in the end, and holds no number back.
            state = await so(lambda state: old in state.doubtful)
            assert "n2" in state.lost
            # Until it is back that number is nobody's.
            await publish(bus, started("b", {"app": "b"}, "10.244.2.1", node="n2", at=2))
            state = await so(lambda state: "b" in state.endpoints)
            assert state.endpoints["b"].identity != old
            agents.names.add("n2")
            await agents.speak()
            await so(lambda state: not state.lost and not state.doubtful)
            # An address is the living incarnation's, in whatever order it is told.
            await publish(bus, started("c2", WEB, "10.244.1.9", node="n2", at=9))
            await publish(bus, started("c1", WEB, "10.244.1.9", node="n1", at=8))
            await publish(bus, stopped("c1"), started("c1", WEB, "10.244.1.9", at=8))
            await publish(bus, stopped("a"), started("a2", WEB, "10.244.1.1", at=10))
            await publish(bus, stopped("a"), started("a", WEB, "10.244.1.1", at=1))
            state = await so(lambda state: "a2" in state.endpoints and "c1" in state.tombstones)
            assert (state.bindings["10.244.1.9"], state.bindings["10.244.1.1"]) == ("c2", "a2")
    said = await ledger(bus)
    (moved,) = (event for event in said if isinstance(event, EndpointRelabelled))
    assert moved.behind == ("n2",)
    kinds = [type(event) for event in said]
    assert (kinds.count(NodeRefused), kinds.count(RelabelPlanned)) == (1, 1)
    (lost,) = (
        at for at, event in enumerate(said) if isinstance(event, NodeLost) and event.name == "n2"
    )
    assert lost < kinds.index(IdentityReleased) < kinds.index(NodeReturned)
