import asyncio
from collections.abc import Iterator

import pytest

import guards
from guards import Guarded


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One guarded server for the module, with all streams."""
    place = tmp_path_factory.mktemp("guarded")
    auth = guards.directory(place / "auth")
    server = guards.server(auth, place / "nats")
    asyncio.run(server.start())
    running = Guarded(auth.path, server)

    async def make_streams() -> None:
        async with running.bus("admin") as bus:
            await bus.ensure_streams()

    asyncio.run(make_streams())
    yield running
    asyncio.run(server.stop())
