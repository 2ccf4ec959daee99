"""Both adapters under one name, as the contract suite wants them."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Bus

Connect = Callable[[], Awaitable[Bus]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.nats)])
def url(request: pytest.FixtureRequest) -> str:
    """The real server's URL, "" for the bus in memory."""
    return "" if request.param == "memory" else str(request.getfixturevalue("nats_url"))


@pytest.fixture
async def connect(url: str) -> AsyncIterator[Connect]:
    """Makes clients of one and the same bus, with its streams."""
    made: list[Bus] = []
    store = MemoryStore()

    async def new() -> Bus:
        bus: Bus
        if url:
            bus = await JetStreamBus.connect(url, name=f"contract-{len(made)}")
        else:
            bus = MemoryBus(store)
        made.append(bus)
        await bus.ensure_streams()
        return bus

    yield new
    for bus in made:
        await bus.close()


@pytest.fixture
async def bus(connect: Connect) -> Bus:
    return await connect()
