import asyncio
from pathlib import Path

from agent.rig import Bench, Ledger, bound, holder, pod, running, statuses, until
from tabard.agent.checkpoints import Checkpoints
from tabard.agent.reconciler import Standing
from tabard.agent.status import join, publish_status
from tabard.agent.tenure import Tenure
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.dataplane.maps import MAP_NAMES
from tabard.events.ledger import NodeAdded
from tabard.events.observed import NodeJoined
from tabard.ledger.checkpoint import Checkpoint, CheckpointError
from tabard.ledger.messages import recorded
from tabard.ledger.state import Node


async def test_the_watermark_is_published_when_it_moves(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    await ledger.write(bus)
    async with running(tmp_path, bus):
        await until(lambda: bus.store.logs[Stream.STATUS].messages)
        bound(ledger, pod("web", app="web"))
        end = await ledger.write(bus)
        await until(lambda: statuses(bus.store)[0].sequence == end)
        [word] = statuses(bus.store)
        assert (word.node, word.dataplane, word.error, word.drift) == ("n1", "memory", "", 0)
        assert tuple(name for name, _ in word.map_writes) == MAP_NAMES


async def test_without_news_there_is_a_heartbeat(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with running(tmp_path, bus, status_heartbeat_ms=5):
        await until(lambda: bus.store.logs[Stream.STATUS].last > 5)


async def test_before_it_is_in_sync_an_agent_says_nothing(tmp_path: Path) -> None:
    bench, bus = Bench(), MemoryBus()
    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        checkpoints = Checkpoints(checkpoint, bench.reconciler, bench.report, 60)
        task = asyncio.ensure_future(
            publish_status(
                bus,
                bench.reconciler,
                bench.report,
                checkpoints,
                Tenure(holder("a"), bench.report, 0.001),
                spacing_s=0,
                heartbeat_s=0.001,
            )
        )
        for _ in range(100):
            await asyncio.sleep(0)
        assert not bus.store.logs[Stream.STATUS].messages
        bench.report.fail("dataplane", "there is a trouble to tell")
        await until(lambda: bus.store.logs[Stream.STATUS].messages)
        task.cancel()


async def test_a_node_joins_once(tmp_path: Path) -> None:
    ledger, bus = Ledger(nodes=0), MemoryBus()
    await ledger.write(bus)
    async with running(tmp_path, bus):
        await until(lambda: bus.store.logs[Stream.OBSERVED].messages)
        [message] = await bus.read(Stream.OBSERVED, 1)
        event = recorded(Stream.OBSERVED, message).event
        hostname = (("kubernetes.io/hostname", "n1"),)
        assert event == NodeJoined("n1", ("192.168.9.1",), ("10.244.1.0/24",), hostname)
    ledger.emit(NodeAdded(event.name, event.addresses, event.pod_cidrs, event.labels))
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(end)
    assert await bus.last_sequence(Stream.OBSERVED) == 1


async def test_a_node_whose_labels_changed_joins_again(tmp_path: Path) -> None:
    ledger, bus = Ledger(nodes=0), MemoryBus()
    ledger.emit(NodeAdded("n1", ("192.168.9.1",), ("10.244.1.0/24",), (("role", "edge"),)))
    end = await ledger.write(bus)
    async with running(tmp_path, bus, node_labels="role=core") as agent:
        await agent.enforces(end)
        await until(lambda: bus.store.logs[Stream.OBSERVED].messages)
        [message] = await bus.read(Stream.OBSERVED, 1)
    joined = recorded(Stream.OBSERVED, message).event
    assert joined.labels == (("kubernetes.io/hostname", "n1"), ("role", "core"))


async def test_a_node_whose_facts_changed_joins_again(tmp_path: Path) -> None:
    ledger, bus = Ledger(nodes=1), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path, bus, underlay=()) as agent:
        await agent.enforces(end)
        await until(lambda: bus.store.logs[Stream.OBSERVED].messages)


async def test_joining_is_tried_until_the_bus_takes_it_and_stored_once() -> None:
    bench, bus = Bench(), MemoryBus()
    bench.reconciler.stand(Standing.IN_SYNC)
    node = Node("n1", (), ())
    await join(bus, bench.reconciler, node, b"1" * 16)
    await join(bus, bench.reconciler, node, b"1" * 16)  # its answer was lost
    assert await bus.last_sequence(Stream.OBSERVED) == 1


class _Broken:
    """A checkpoint whose disk is full."""

    extra = b""

    async def save(self, state: object, extra: bytes) -> None:
        raise CheckpointError("no space left")


async def test_a_retirement_is_acknowledged_only_once_it_is_in_the_checkpoint(
    tmp_path: Path,
) -> None:
    bench, ledger = Bench(), Ledger()
    number = ledger.identity(ledger.labels_of("default", {"app": "web"}))
    before = ledger.state.sequence
    ledger.retire(number)
    bench.reconciler.state = ledger.state
    end = ledger.state.sequence

    broken = Checkpoints(_Broken(), bench.reconciler, bench.report, 60)  # type: ignore[arg-type]
    assert await broken.acknowledged(before) == before
    assert await broken.acknowledged(end) == end - 1
    assert "no space left" in bench.report.error

    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        checkpoints = Checkpoints(checkpoint, bench.reconciler, bench.report, 60)
        assert await checkpoints.acknowledged(before) == before
        assert checkpoints.saved == 0
        assert await checkpoints.acknowledged(end) == end
        assert checkpoints.saved == end
