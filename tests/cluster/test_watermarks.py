import asyncio

import pytest

from ledgers import append, say, small
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Outgoing, Stream
from tabard.cluster.errors import NotReached
from tabard.cluster.watermarks import Watermark, enforced, silent, taken, watermarks
from tabard.events.ledger import CursorAdvanced
from tabard.events.status import NodeStatus
from tabard.ledger.state import State


async def test_the_last_word_of_a_node_counts() -> None:
    bus = MemoryBus()
    await say(bus, "n1", 3)
    await say(bus, "n1", 5)
    words = await watermarks(bus, ["n1", "n2"])
    assert {name: word.status.sequence for name, word in words.items()} == {"n1": 5}


async def test_a_word_that_cannot_be_read_is_none() -> None:
    bus = MemoryBus()
    await bus.publish(Stream.STATUS, [Outgoing("tabard.status.n1", b"\xc1")])
    assert await watermarks(bus, ["n1"]) == {}


def test_a_node_is_silent_after_15_s_or_five_of_its_own_heartbeats() -> None:
    for heartbeat_s, silent_s in ((1, 15), (3, 15), (20, 100)):
        status = NodeStatus("n1", 1, "memory", 0, (), heartbeat_ms=heartbeat_s * 1000)
        word, end = Watermark(status, stored_at=7), 7 + silent_s * 10**9
        assert [silent(word, end), silent(word, end + 1)] == [False, True]


async def test_all_nodes_are_waited_for() -> None:
    bus = MemoryBus()
    await say(bus, "n1", 8)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(enforced(bus, 8, ["n1", "n2"], timeout_s=5))
        await say(bus, "n2", 7)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await say(bus, "n2", 8)


async def test_who_is_behind_is_named() -> None:
    bus = MemoryBus()
    await say(bus, "n1", 8, endpoints=1)
    await say(bus, "n2", 7, error='map "hosts" is full')
    with pytest.raises(NotReached) as raised:
        await enforced(bus, 8, ["n1", "n2", "n3"], 0.01, {"n1": 2})
    message = str(raised.value)
    assert "node n1 is at 8 with 1 pods" in message
    assert 'node n2 is at 7 with 0 pods (map "hosts" is full)' in message
    assert "node n3 said nothing yet" in message


async def test_pods_that_are_guarded_count_where_asked_for() -> None:
    bus = MemoryBus()
    await say(bus, "n1", 8, endpoints=2)
    await enforced(bus, 8, ["n1"], 5, {"n1": 2})


async def test_no_nodes_enforce_at_once() -> None:
    await enforced(MemoryBus(), 8, [], timeout_s=0)


async def test_the_cursor_is_waited_for() -> None:
    bus = MemoryBus()
    await append(bus, *small())
    state = State()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(taken(bus, state, 3))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await append(bus, CursorAdvanced("OBSERVED", 3))
    assert state.cursors["OBSERVED"] == 3
