import asyncio

import pytest

from ledgers import append, bound, say, small
from tabard.bus.memory import MemoryBus
from tabard.cli.rollout import rolled_out
from tabard.cluster.errors import NotReached


async def test_all_pods_bound_enforced_and_guarded_is_rolled_out() -> None:
    bus = MemoryBus()
    await append(bus, *small())
    told: list[str] = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(rolled_out(bus, 5, told.append, attached=True))
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0)
        second = bound("web-1", node="n2", address="10.244.2.2", owner="Deployment/shop/web")
        await append(bus, second)
        await say(bus, "n1", 9, endpoints=1)
        await say(bus, "n2", 9, endpoints=0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        await say(bus, "n2", 9, endpoints=1)
    assert told == ["1 pod runs, 1 workload waits"]
    assert len(waiting.result().endpoints) == 2


async def test_what_is_missing_is_named_when_time_is_up() -> None:
    bus = MemoryBus()
    await append(bus, *small())
    with pytest.raises(NotReached, match="Deployment shop/web has 1 of 2"):
        await rolled_out(bus, 0.01, lambda line: None, attached=False)
