"""The source on a bus, with a ledger that answers when the test says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

import workloads as building
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import BusUnavailable, Outgoing, Stream
from tabard.events.observed import (
    NodeJoined,
    NodeLeft,
    ObservedEvent,
    PodStarted,
    PodStopped,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.ledger.messages import first_cause, observed, recorded
from tabard.source import service
from tabard.source.pods.runtime import Wanted
from tabard.source.service import Source
from workloads import Ledger


class Keeper:
    """Notes what it is told to keep."""

    def __init__(self) -> None:
        self.changed = lambda: None
        self.wants: list[Mapping[str, Wanted]] = []

    def want(self, pods: Mapping[str, Wanted]) -> None:
        self.wants.append(pods)

    def ready(self, uid: str) -> bool:
        return True

    async def run(self) -> None:
        await asyncio.Event().wait()


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.bus = MemoryBus(self.store)
        self.ledger = Ledger(self.bus)

    async def observe(self, *events: ObservedEvent) -> None:
        messages = [observed(event, first_cause("", 0)) for event in events]
        await self.bus.publish(Stream.OBSERVED, messages)

    async def set(self, **workload: Any) -> None:
        await self.observe(WorkloadSet(building.document(**workload)))

    async def observed(self, kind: type) -> list[Any]:
        stored = await self.bus.read(Stream.OBSERVED, 1)
        events = [recorded(Stream.OBSERVED, message).event for message in stored]
        return [event for event in events if isinstance(event, kind)]

    async def settle(self) -> None:
        """Let the source and the ledger go on until neither has anything to say."""
        quiet = 0
        while quiet < 3:
            await breathe()
            quiet = 0 if await self.ledger.answer() else quiet + 1


async def breathe() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PLAN_INTERVAL_MS_MIN", 0)
    monkeypatch.setattr(service, "PUBLISH_RETRY_MS", 0)


@pytest.fixture
async def world() -> World:
    world = World()
    await world.observe(
        NodeJoined("n1", ("192.0.2.1",), ("10.244.1.0/24",)),
        NodeJoined("n2", ("192.0.2.2",), ("10.244.2.0/24",)),
    )
    await world.ledger.answer()
    return world


@contextlib.asynccontextmanager
async def running(source: Source) -> AsyncIterator[Source]:
    task = asyncio.ensure_future(source.run())
    try:
        yield source
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_workloads_become_pods_and_vanish_with_them(world: World) -> None:
    async with running(Source(world.bus, None)):
        await world.set(replicas=3)
        await world.settle()
        assert {pod.node for pod in world.ledger.state.endpoints.values()} == {"n1", "n2"}
        assert len(world.ledger.state.endpoints) == 3
        await world.observe(WorkloadRemoved("Deployment", "shop", "web"))
        await world.settle()
        assert not world.ledger.state.endpoints


async def test_nothing_is_planned_while_the_ledger_does_not_show_what_was_published(
    world: World,
) -> None:
    async with running(Source(world.bus, None)):
        await world.set(replicas=2)
        await world.ledger.answer()
        await breathe()
        assert len(await world.observed(PodStarted)) == 2
        # The ledger goes on one event at a time: the first pod is there, the second is not yet.
        await world.ledger.answer(1)
        await world.set(replicas=2, name="other")
        await breathe()
        assert len(await world.observed(PodStarted)) == 2
        await world.settle()
        assert len(await world.observed(PodStarted)) == 4


async def test_a_source_killed_after_publishing_leaves_nothing_for_the_next_to_double(
    world: World,
) -> None:
    await world.set(replicas=2)
    await world.ledger.answer()
    async with running(Source(world.bus, None)):
        await breathe()
        assert len(await world.observed(PodStarted)) == 2
    async with running(Source(world.bus, None)):  # the ledger knows nothing of the two yet
        await breathe()
        assert len(await world.observed(PodStarted)) == 2
        await world.settle()
    assert len(await world.observed(PodStarted)) == 2
    assert await world.observed(PodStopped) == []


class Flaky(MemoryBus):
    """Stores what is published, and loses the answer the first times."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.losses = 3

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        stored = await super().publish(stream, messages)
        if self.losses:
            self.losses -= 1
            raise BusUnavailable("no answer")
        return stored


async def test_a_lost_answer_publishes_nothing_twice(world: World) -> None:
    async with running(Source(Flaky(world.store), None)):
        await world.set(replicas=2)
        await world.settle()
    assert len(await world.observed(PodStarted)) == 2


async def test_pods_of_a_node_that_left_move(world: World) -> None:
    async with running(Source(world.bus, None)):
        await world.set(replicas=4)
        await world.settle()
        await world.observe(NodeLeft("n1"))
        await world.settle()
    assert [pod.node for pod in world.ledger.state.endpoints.values()] == ["n2"] * 4


async def test_a_pod_is_kept_from_its_publishing_to_its_stop(world: World) -> None:
    keeper = Keeper()
    ports = [{"name": "http", "containerPort": 80}, {"containerPort": 81}]
    async with running(Source(world.bus, keeper)):  # type: ignore[arg-type]
        await world.set(replicas=1, ports=ports)
        await world.ledger.answer()
        await breathe()
        (wanted,) = keeper.wants[-1].values()  # the ledger does not show it yet
        assert wanted.ports == (("http", 80, "TCP"), ("", 81, "TCP"))
        await world.settle()
        assert keeper.wants[-1] == {wanted.pod.uid: wanted}
        await world.observe(WorkloadRemoved("Deployment", "shop", "web"))
        await world.ledger.answer()
        await breathe()
        assert keeper.wants[-1] == {}  # nor the stop


async def test_a_refused_pod_is_not_kept(world: World) -> None:
    keeper = Keeper()
    document = building.document()
    document["spec"]["template"]["metadata"]["labels"]["refuse"] = "for-good"
    async with running(Source(world.bus, keeper)):  # type: ignore[arg-type]
        await world.observe(WorkloadSet(document))
        await world.settle()
        assert keeper.wants[-1] == {}


async def test_a_pod_of_another_source_is_neither_kept_nor_stopped(world: World) -> None:
    keeper = Keeper()
    await world.observe(PodStarted("u1", "shop", "x", "n1", ("10.244.1.9",), (), 1))
    await world.ledger.answer()
    async with running(Source(world.bus, keeper)):  # type: ignore[arg-type]
        await world.settle()
        assert keeper.wants[-1] == {}
    assert "u1" in world.ledger.state.endpoints


async def test_pods_of_a_workload_that_became_unreadable_stay(world: World) -> None:
    async with running(Source(world.bus, None)):
        await world.set(replicas=2)
        await world.settle()
        broken = building.document(replicas=2)
        broken["spec"]["replicas"] = "two"
        await world.observe(WorkloadSet(broken))
        await world.settle()
    assert len(world.ledger.state.endpoints) == 2


async def test_a_refused_workload_is_tried_again_when_its_time_has_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10**18]
    monkeypatch.setattr("tabard.source.planning.BACKOFF_MS", 1)
    document = building.document()
    document["spec"]["template"]["metadata"]["labels"]["refuse"] = "for-good"
    async with running(Source(world.bus, None, clock=lambda: now[0])):
        await world.observe(WorkloadSet(document))
        await world.settle()
        assert len(await world.observed(PodStarted)) == 1
        before = world.store.logs[Stream.OBSERVED].last
        now[0] += 2_000_000
        await building.until(lambda: world.store.logs[Stream.OBSERVED].last > before)
