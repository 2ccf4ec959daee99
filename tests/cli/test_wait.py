import asyncio

from command import Tabard
from ledgers import append, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cluster.publish import publish
from tabard.events.observed import PodStopped


def test_wait_ends_when_all_nodes_enforce(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await say(bus, "n1", 8)
        await say(bus, "n2", 5)

    asyncio.run(build())
    result = tabard("wait", "--sequence", "5")
    assert (result.exit_code, result.stderr) == (0, "2 nodes enforce LEDGER/5\n")
    result = tabard("wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "node n2 is at 5" in result.stderr
    assert "n1" not in result.stderr


def test_what_was_observed_and_not_taken_is_waited_for(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await publish(bus, [PodStopped("x")])

    asyncio.run(build())
    result = tabard("wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "the allocator has taken OBSERVED/0, not OBSERVED/1" in result.stderr


def test_without_time_what_the_nodes_said_last_is_enough(
    tabard: Tabard, store: MemoryStore
) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await say(bus, "n1", 8)
        await say(bus, "n2", 8)

    asyncio.run(build())
    result = tabard("wait", "--timeout", "0")
    assert (result.exit_code, result.stderr) == (0, "2 nodes enforce LEDGER/8\n")
    result = tabard("wait", "--sequence", "9", "--timeout", "0.2")
    assert result.exit_code == 3
    assert "not enforced through LEDGER/9 within 0.2 s: node n1 is at 8" in result.stderr


def test_a_ledger_without_nodes_is_no_success(tabard: Tabard, store: MemoryStore) -> None:
    assert tabard("wait").exit_code == 1
