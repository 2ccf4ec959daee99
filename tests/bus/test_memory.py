import pytest

from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Outgoing, SequenceGap, Stream

LEDGER = [Outgoing("tabard.ledger.x", b"")]
OBSERVED = [Outgoing("tabard.observed.x", b"")]


async def test_stored_at_comes_from_the_clock_passed_in() -> None:
    bus = MemoryBus(MemoryStore(clock=lambda: 17))
    await bus.publish(Stream.OBSERVED, OBSERVED)
    assert [m.stored_at for m in await bus.read(Stream.OBSERVED, 1)] == [17]


async def test_without_a_clock_two_runs_store_the_same() -> None:
    stores = []
    for _ in range(2):
        bus = MemoryBus()
        await bus.append(LEDGER * 3, 0)
        stores.append(await bus.read(Stream.LEDGER, 1))
    assert stores[0] == stores[1]
    assert [m.stored_at for m in stores[0]] == [1, 2, 3]


async def test_a_hole_in_the_ledger_stops_readers_and_tails_before_it() -> None:
    bus = MemoryBus()
    await bus.append(LEDGER * 5, 0)
    bus.store.forget(Stream.LEDGER, 3)
    assert [m.sequence for m in await bus.read(Stream.LEDGER, 1)] == [1, 2]
    with pytest.raises(SequenceGap, match="LEDGER holds 4, but not 3"):
        await bus.read(Stream.LEDGER, 3)
    tail = bus.tail(Stream.LEDGER, 1)
    assert [m.sequence for m in await anext(tail)] == [1, 2]
    with pytest.raises(SequenceGap, match="LEDGER holds 4, but not 3"):
        await anext(tail)


async def test_expired_messages_are_passed_over() -> None:
    bus = MemoryBus()
    await bus.publish(Stream.OBSERVED, OBSERVED * 10)
    bus.store.forget(Stream.OBSERVED, *range(1, 8))
    assert await bus.first_sequence(Stream.OBSERVED) == 8
    assert [m.sequence for m in await bus.read(Stream.OBSERVED, 3)] == [8, 9, 10]
    bus.store.forget(Stream.OBSERVED, 8, 9, 10)
    assert await bus.first_sequence(Stream.OBSERVED) == 11
    assert await bus.last_on_subject(Stream.OBSERVED, "tabard.observed.x") is None
