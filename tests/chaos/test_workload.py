import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, cast

from servers import until
from tabard.bus.memory import MemoryBus
from tabard.bus.port import BusUnavailable, Outgoing, Stream
from tabard.chaos.record import Record
from tabard.chaos.watching import Watch
from tabard.chaos.workload import BACKLOG_MAX, Workload
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster


class LosesAnswers(MemoryBus):
    """Stores what is published, and says so only the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.away = True
        self.asked = asyncio.Event()

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        sequences = await super().publish(stream, messages)
        self.asked.set()
        if self.away:
            raise BusUnavailable("the answer was lost")
        return sequences


class MadeUpRig:
    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.cluster = Cluster(Settings(nodes=3), directory=Path("/nonexistent"))


def work(bus: MemoryBus) -> tuple[Workload, Record]:
    record = Record(1, (), "overlay", 0, rate_per_s=1000)
    return Workload(cast(Any, MadeUpRig(bus)), record, Random(1)), record


async def test_an_event_whose_answer_was_lost_is_stored_once_and_then_acknowledged() -> None:
    bus = LosesAnswers()
    await bus.ensure_streams()
    workload, record = work(bus)
    marking = asyncio.create_task(workload.mark())
    await bus.asked.wait()
    assert (record.unanswered, record.acknowledged) == (1, [])
    bus.away = False
    assert await marking == 1
    (stored,) = await bus.read(Stream.OBSERVED, 1)
    (said,) = record.acknowledged
    assert (record.unanswered, said.sequence, said.kind) == (0, 1, "namespace.labels_set")
    assert said.payload_hash == blake2b(stored.payload, digest_size=16).hexdigest()


async def test_events_that_are_given_up_count_as_unanswered() -> None:
    bus = LosesAnswers()
    await bus.ensure_streams()
    workload, record = work(bus)
    working = asyncio.create_task(workload.run())
    workload.resume()
    await bus.asked.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    stored = await bus.read(Stream.OBSERVED, 1)
    assert (record.unanswered, record.acknowledged) == (len(stored), [])


async def test_what_happened_without_a_bus_is_told_at_once_and_is_bounded() -> None:
    bus = LosesAnswers()
    bus.away = False
    await bus.ensure_streams()
    workload, record = work(bus)
    workload.resume()
    workload._told_at -= 10  # 10,000 of what happens
    working = asyncio.create_task(workload.run())
    await bus.asked.wait()
    await workload.pause()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    # A pod of which the ledger does not know yet is not relabelled.
    assert BACKLOG_MAX / 2 < len(record.acknowledged) < BACKLOG_MAX


async def test_a_pause_lasts_until_work_is_resumed() -> None:
    bus = LosesAnswers()
    bus.away = False
    await bus.ensure_streams()
    workload, record = work(bus)
    working = asyncio.create_task(workload.run())
    await workload.pause()
    assert record.acknowledged == []
    workload.resume()
    await bus.asked.wait()
    await workload.pause()
    done = len(record.acknowledged)
    bus.asked.clear()
    await workload.mark()
    assert len(record.acknowledged) == done + 1
    workload.resume()
    await bus.asked.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_reader_that_is_stopped_by_the_ledger_is_told() -> None:
    bus = MemoryBus()
    await bus.ensure_streams()
    await bus.append([Outgoing("tabard.ledger.endpoint.bound", b"none")], 0)
    record = Record(1, (), "overlay", 0)
    watching = asyncio.create_task(Watch(bus, record).run())
    await until(lambda: bool(record.failures))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert "stopped before LEDGER/1" in record.failures[0]
    assert record.seen == []
