import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from servers import Servers, made
from tabard.bus.jetstream import JetStreamBus


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three servers for the whole run; each test leaves all of them up and current."""
    servers = Servers(tmp_path_factory.mktemp("three"))
    asyncio.run(servers.start())
    yield servers
    asyncio.run(servers.stop())


@pytest.fixture
async def bus(three: Servers) -> AsyncIterator[JetStreamBus]:
    """A bus on the three, whose streams go on from test to test."""
    bus = await JetStreamBus.connect(three.urls, name="test")
    await made(bus)
    yield bus
    await bus.close()
