import asyncio
import dataclasses
import gc
import os
from pathlib import Path

import pytest
import structlog

from deciding import Desk, started
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Outgoing, SequenceGap, Shortened, Stored, Stream, StreamInfo
from tabard.ledger.checkpoint import Checkpoint, CheckpointError, check, pause_s
from tabard.ledger.state import State


def some_state() -> State:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}, "10.0.0.1"))
    return desk.state


async def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path: Path) -> None:
    async with Checkpoint.open(tmp_path / "sub" / "c.db") as checkpoint:
        assert await checkpoint.load() is None
        assert checkpoint.extra == b""


async def test_what_was_saved_last_is_loaded_with_its_extra(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Checkpoint.open(path) as checkpoint:
        await checkpoint.save(State())
        await checkpoint.save(some_state(), b"mine")
    async with Checkpoint.open(path) as checkpoint:
        assert await checkpoint.load() == some_state()
        assert checkpoint.extra == b"mine"


async def test_what_was_saved_is_on_the_disk_before_save_returns(tmp_path: Path) -> None:
    """Else a loss of power would take back what a node has acknowledged."""
    async with Checkpoint.open(tmp_path / "c.db") as checkpoint:
        [(mode,)] = await checkpoint._database.execute_fetchall("PRAGMA synchronous")
    assert mode == 2  # FULL: the write-ahead log is synced at each commit


async def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.touch(0o644)
    async with Checkpoint.open(path) as checkpoint:
        await checkpoint.save(some_state())
        modes = {each.name: each.stat().st_mode & 0o777 for each in os.scandir(tmp_path)}
        assert modes == dict.fromkeys(("c.db", "c.db-shm", "c.db-wal"), 0o600)


async def test_the_state_is_read_before_save_returns(tmp_path: Path) -> None:
    async with Checkpoint.open(tmp_path / "c.db") as checkpoint:
        desk = Desk()
        desk.observe(started("a"))
        saving = checkpoint.save(desk.state)
        desk.observe(started("b"))
        await saving
        loaded = await checkpoint.load()
        assert loaded is not None
        assert set(loaded.endpoints) == {"a"}


@pytest.mark.parametrize("junk", [b"no database at all" * 100, b""])
async def test_a_file_that_is_no_database_is_thrown_away(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(junk)
    with structlog.testing.capture_logs() as logs:
        async with Checkpoint.open(path) as checkpoint:
            assert await checkpoint.load() is None
            await checkpoint.save(some_state())
            assert await checkpoint.load() == some_state()
    assert [log["event"] for log in logs] == (["checkpoint.discarded"] if junk else [])


async def test_a_damaged_database_costs_only_time(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Checkpoint.open(path) as checkpoint:
        await checkpoint.save(some_state())
    whole = path.read_bytes()
    for at in range(0, len(whole), 512):
        path.write_bytes(whole[:at] + b"\xff" * 64 + whole[at + 64 :])
        async with Checkpoint.open(path) as checkpoint:
            assert await checkpoint.load() in (None, some_state())
            await checkpoint.save(some_state(), b"again")
            assert await checkpoint.load() == some_state()


async def test_a_database_found_damaged_while_saving_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Checkpoint.open(path) as checkpoint:
        await checkpoint.save(some_state())
        await checkpoint._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    async with Checkpoint.open(path) as checkpoint:
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with structlog.testing.capture_logs() as logs:
            await checkpoint.save(some_state(), b"again")
        assert [log["event"] for log in logs] == ["checkpoint.discarded"]
        assert await checkpoint.load() == some_state()


async def test_loading_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    async with Checkpoint.open(tmp_path / "c.db") as checkpoint:
        await checkpoint.save(some_state())
        await checkpoint.load()
        assert gc.isenabled()
        await checkpoint._database.execute("UPDATE chunk SET data = zeroblob(9) WHERE position = 1")
        assert await checkpoint.load() is None
        assert gc.isenabled()
        gc.disable()
        try:
            await checkpoint.load()
            assert not gc.isenabled()
        finally:
            gc.enable()


async def test_a_file_cut_short_costs_only_time(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Checkpoint.open(path) as checkpoint:
        await checkpoint.save(some_state())
    whole = path.read_bytes()
    for size in range(0, len(whole), 1_000):
        path.write_bytes(whole[:size])
        async with Checkpoint.open(path) as checkpoint:
            assert await checkpoint.load() in (None, some_state())
            await checkpoint.save(some_state())
            assert await checkpoint.load() == some_state()


async def test_a_save_that_is_cancelled_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Checkpoint.open(path) as checkpoint:
        await checkpoint.save(State(sequence=1))
        for turns in range(1, 12):
            saving = asyncio.ensure_future(checkpoint.save(State(sequence=2)))
            for _ in range(turns):
                await asyncio.sleep(0)
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        loaded = await checkpoint.load()
        assert loaded is not None
        await checkpoint.save(State(sequence=3))
    async with Checkpoint.open(path) as checkpoint:
        loaded = await checkpoint.load()
        assert loaded is not None
        assert loaded.sequence == 3


def test_a_large_state_is_saved_less_often() -> None:
    assert pause_s(1.0, 0.02) == 1.0
    assert pause_s(1.0, 0.5) == 25.0


async def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        async with Checkpoint.open(tmp_path / "file" / "c.db"):
            pass


async def test_a_failed_write_leaves_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Checkpoint.open(path) as checkpoint, Checkpoint.open(path) as other:
        await checkpoint.save(some_state())
        await other._database.execute("PRAGMA busy_timeout = 0")
        await checkpoint._database.execute("BEGIN IMMEDIATE")
        with pytest.raises(CheckpointError, match="locked"):
            await other.save(State())
        await checkpoint._database.rollback()
        assert await other.load() == some_state()


async def test_a_state_is_checked_against_the_ledger() -> None:
    desk = Desk()
    desk.observe(started("a"))
    assert await check(MemoryBus(), State()) == ""
    bus = MemoryBus()
    assert "ends before LEDGER/3" in await check(bus, desk.state)
    await bus.append(desk.messages, 0)
    assert await check(bus, desk.state) == ""
    desk.state.chain = b"x" * 16
    assert "another chain hash" in await check(bus, desk.state)


class Replicated(MemoryBus):
    """LEDGER on three servers, of which one that leads no more answers the first `stale` reads; or
    one that this client knows to hold more than the leader says."""

    stale = 0
    shortened = False

    async def info(self, stream: Stream) -> StreamInfo:
        return dataclasses.replace(await super().info(stream), replicas=3)

    async def read(self, stream: Stream, start: int, limit: int = 1) -> list[Stored]:
        if self.shortened:
            raise Shortened("LEDGER ends at 2, but 3 was stored")
        self.stale -= 1
        return [] if self.stale >= 0 else await super().read(stream, start, limit)


class Trimming(MemoryBus):
    """An operator trims LEDGER between a reader's first question and its read."""

    async def read(self, stream: Stream, start: int, limit: int = 1) -> list[Stored]:
        await self.trim(start + 1)
        return await super().read(stream, start, limit)


async def test_a_trim_while_a_state_is_checked_is_told_from_a_hole() -> None:
    desk, bus = Desk(), Trimming()
    desk.observe(started("a"))
    await bus.append([*desk.messages, Outgoing("tabard.ledger.node.added", b"more")], 0)
    assert "the ledger begins at LEDGER/4" in await check(bus, desk.state)


async def test_a_hole_where_a_state_is_checked_is_no_trim() -> None:
    desk, bus = Desk(), MemoryBus()
    desk.observe(started("a"))
    await bus.append([*desk.messages, Outgoing("tabard.ledger.node.added", b"more")], 0)
    bus.store.forget(Stream.LEDGER, desk.state.sequence)
    with pytest.raises(SequenceGap):
        await check(bus, desk.state)


async def test_one_who_leads_no_more_does_not_have_a_state_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tabard.ledger.checkpoint.LOOK_AGAIN_S", 0)
    desk, bus = Desk(), Replicated()
    desk.observe(started("a"))
    await bus.append(desk.messages, 0)
    bus.stale = 1
    assert await check(bus, desk.state) == ""
    bus.stale = 2
    assert "ends before LEDGER/3" in await check(bus, desk.state)
    bus.shortened = True
    assert await check(bus, desk.state) == "LEDGER ends at 2, but 3 was stored"


async def test_a_state_that_ends_with_a_quarantined_event_is_taken() -> None:
    bus = MemoryBus()
    await bus.append([Outgoing("tabard.ledger.a.b", b"junk")], 0)
    state = State(sequence=1)
    assert await check(bus, state) != ""
    state.quarantined[("LEDGER", 1)] = "junk"
    assert await check(bus, state) == ""
