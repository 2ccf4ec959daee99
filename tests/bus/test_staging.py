import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tabard.bus import staging
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.wire import encode_headers
from tabard.bus.port import Outgoing, Stream
from tabard.bus.server import EmbeddedServer

pytestmark = pytest.mark.nats

BATCH = [Outgoing("tabard.ledger.a.b", b"x")] * 3


def link(data: Path) -> Path:
    return data / "jetstream" / "$G" / "streams" / "LEDGER" / "batches"


@pytest.fixture
async def bus(own_nats_server: EmbeddedServer) -> AsyncIterator[JetStreamBus]:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    await bus.ensure_streams()
    yield bus
    await bus.close()


async def begin(bus: JetStreamBus) -> None:
    """Send the beginning of a batch, and wait until it is staged."""
    session = await bus._connection.session()
    headers = {"Nats-Batch-Id": "unfinished", "Nats-Batch-Sequence": "1"}
    session.send(BATCH[0].subject, encode_headers(headers), b"never committed")
    await bus.last_sequence(Stream.LEDGER)  # answered in the order of sending


async def test_batches_are_staged_in_memory_and_forgotten_at_a_restart(
    own_nats_server: EmbeddedServer, bus: JetStreamBus, tmp_path: Path
) -> None:
    data = tmp_path / "nats"
    own_nats_server.stage_in_memory()
    first = link(data).readlink()
    assert first.parent == staging.MEMORY
    assert first.stat().st_mode & 0o077 == 0
    assert await bus.append(BATCH, 0) == 3
    assert list(first.iterdir()) == []
    await begin(bus)
    assert len(list(first.iterdir())) == 1

    os.kill(own_nats_server.pid, signal.SIGKILL)
    await own_nats_server.wait()
    await own_nats_server.start()
    assert not first.exists()
    second = link(data).readlink()
    assert second.is_dir()
    assert await bus.last_sequence(Stream.LEDGER) == 3
    assert await bus.append(BATCH, 3) == 6

    await own_nats_server.stop()
    assert not link(data).is_symlink()
    assert not second.exists()


async def test_a_place_that_batches_were_staged_in_already_stays_as_it_is(
    own_nats_server: EmbeddedServer, bus: JetStreamBus, tmp_path: Path
) -> None:
    assert await bus.append(BATCH, 0) == 3
    before = set(staging.MEMORY.iterdir())
    own_nats_server.stage_in_memory()
    assert not link(tmp_path / "nats").is_symlink()
    assert set(staging.MEMORY.iterdir()) <= before
    assert await bus.append(BATCH, 3) == 6


async def test_without_a_file_system_in_memory_batches_are_staged_on_disk(
    own_nats_server: EmbeddedServer,
    bus: JetStreamBus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staging, "MEMORY", tmp_path / "none")
    own_nats_server.stage_in_memory()
    assert await bus.append(BATCH, 0) == 3


def test_only_what_was_made_here_is_cleared(tmp_path: Path) -> None:
    link(tmp_path).parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link(tmp_path).symlink_to(elsewhere)
    staging.clear(tmp_path)
    assert not link(tmp_path).is_symlink()
    assert elsewhere.exists()
    staging.clear(tmp_path)


def test_without_a_ledger_there_is_nothing_to_lay(tmp_path: Path) -> None:
    staging.lay(tmp_path)
    assert list(tmp_path.iterdir()) == []
