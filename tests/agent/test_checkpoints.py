from collections.abc import Awaitable
from pathlib import Path

import pytest

from agent.rig import Bench, Ledger, at_work, bound, pod, until, writing
from tabard.agent import checkpoints
from tabard.agent.checkpoints import Checkpoints
from tabard.bus.memory import MemoryBus
from tabard.ledger.checkpoint import Checkpoint
from tabard.ledger.state import State


async def test_a_state_is_saved_once_the_first_write_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def save(checkpoint: Checkpoint, state: State, extra: bytes) -> Awaitable[None]:
        begun.append(state.sequence)
        return saving(checkpoint, state, extra)

    saving = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", save)
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, pod("web", app="web"))
    await ledger.write(bus)
    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        keep = Checkpoints(checkpoint, bench.reconciler, bench.report, 0)
        async with at_work(bench, keep.run(), bus=bus):
            async with writing(bench):
                assert not begun
            await until(lambda: keep.saved == ledger.written)


async def test_a_long_start_is_saved_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "START_S", 0.001)
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, pod("web", app="web"))
    await ledger.write(bus)
    async with Checkpoint.open(tmp_path / "db") as checkpoint:
        keep = Checkpoints(checkpoint, bench.reconciler, bench.report, 0)
        async with at_work(bench, keep.run(), bus=bus), writing(bench):
            await until(lambda: keep.saved == ledger.written)
            assert not bench.reconciler.started.is_set()
