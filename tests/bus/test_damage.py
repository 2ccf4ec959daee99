"""Real damage to a replica of a real three-server cluster: who notices, and who believes it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.members import free_seats, members
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stream
from tabard.bus.server import EmbeddedServer
from tabard.events.envelope import Envelope
from tabard.events.ledger import CursorAdvanced
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import sealed
from tabard.ledger.replicas import Survey, examine, survey
from tabard.ledger.state import State
from tests import damage

pytestmark = pytest.mark.nats
Servers = dict[str, EmbeddedServer]
EVENTS = 3000


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    made = members("damaged", tmp_path, free_seats(3))
    await asyncio.gather(*(server.start() for server in made.values()))
    yield made
    await asyncio.gather(*(server.stop() for server in made.values()))


async def test_it(servers: Servers, tmp_path: Path) -> None:
    import time

    t = time.time()
    bus = await JetStreamBus.connect([s.url for s in servers.values()], name="x")
    while True:
        try:
            await bus.ensure_streams(3)
            break
        except BusUnavailable as e:
            print(e)
            await asyncio.sleep(0.1)
    print("up", time.time() - t)
    state = State()
    last = 0
    for b in range(3):
        events = [
            (CursorAdvanced("OBSERVED", last + i + 1), Envelope(uuid.uuid4().bytes, "k", 1, ""))
            for i in range(1000)
        ]
        messages, chain = sealed(state.chain, events)
        state.chain = chain
        last = await bus.append(messages, last)
    await bus.publish(
        Stream.OBSERVED, [Outgoing("tabard.observed.x", b"y" * 100) for _ in range(2000)]
    )
    urls = [s.monitoring_url for s in servers.values()]
    found = await examine(bus, urls)
    for x in found.standings:
        print(x.server, x.stream, x.holes, x.faults)
    print("examined", time.time() - t)
    victim = [s for s in servers if s != found.leader(Stream.LEDGER)][0]
    await servers[victim].stop()
    damage.flip(damage.folder(tmp_path / victim), 1000)
    damage.flip(damage.folder(tmp_path / victim, Stream.OBSERVED), 1000)
    await servers[victim].start()
    for _ in range(200):
        found = await survey(urls)
        if all(x.replica for x in found.standings):
            break
        await asyncio.sleep(0.1)
    for x in found.standings:
        print(x.server, x.stream, x.holes, x.faults)
    found = await examine(bus, urls)
    for x in found.standings:
        print(x.server, x.stream, x.holes, x.faults)
    print(time.time() - t)
    await bus.close()
    assert 0
