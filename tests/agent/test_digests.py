from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.rig import Bench, Ledger, at_work, bound, pod, running, statuses, until, writing
from tabard.agent import digests
from tabard.agent.digests import SLICE_ROWS, keep_digest
from tabard.bus.memory import MemoryBus
from tabard.ledger.digest import Row, digest, rows
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State

WEB = pod("web", app="web")


async def test_an_idle_node_reports_the_digest_of_the_ledgers_end(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    async with running(tmp_path, bus):
        for uid, ip in (("web", "10.244.1.5"), ("db", "10.244.1.6")):
            bound(ledger, pod(uid, ip, app=uid))
            await ledger.write(bus)
            await until(
                lambda: [word.digest_at for word in statuses(bus.store)] == [ledger.written]
            )
            [word] = statuses(bus.store)
            assert word.digest == digest(await catch_up(bus, State()))


async def test_two_nodes_at_one_sequence_have_one_digest_however_they_got_there(
    tmp_path: Path,
) -> None:
    ledger, bus = Ledger(), MemoryBus()
    bound(ledger, WEB)
    await ledger.write(bus)
    async with running(tmp_path / "a", bus, node="n1") as first:
        await first.enforces(ledger.written)
    ledger.relabel("web", {"app": "db"})
    end = await ledger.write(bus)
    async with (
        running(tmp_path / "a", bus, node="n1"),  # from its checkpoint
        running(tmp_path / "b", bus, node="n2"),  # from nothing
    ):
        await until(lambda: [word.digest_at for word in statuses(bus.store)] == [end, end])
        one, other = statuses(bus.store)
        assert one.digest == other.digest


async def test_a_ledger_on_the_move_is_not_digested() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    keep = keep_digest(bench.reconciler, bench.follower, bench.report, quiet_s=60)
    async with at_work(bench, keep, bus=bus):
        for number in range(50):
            ledger.node(f"m{number}")
            await ledger.write(bus)
            await until(lambda: bench.report.sequence == ledger.written)
    assert bench.report.digest_at == 0


async def test_no_digest_is_begun_before_the_first_write_is_done() -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    bound(ledger, WEB)
    await ledger.write(bus)
    keep = keep_digest(bench.reconciler, bench.follower, bench.report, quiet_s=0)
    async with at_work(bench, keep, bus=bus):
        async with writing(bench):
            assert bench.report.digest_at == 0
        await until(lambda: bench.report.digest_at == ledger.written)


async def test_a_digest_is_begun_again_if_the_ledger_went_on_before_it_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, ledger, bus = Bench(), Ledger(), MemoryBus()
    for number in range(2 * SLICE_ROWS):
        ledger.node(f"m{number}")
    await ledger.write(bus)
    begun: list[int] = []

    def moving(state: State) -> Iterator[Row]:
        begun.append(state.sequence)
        for place, row in enumerate(rows(state)):
            yield row
            if len(begun) == 1 and place == SLICE_ROWS:
                state.sequence += 1  # as folding does

    monkeypatch.setattr(digests, "rows", moving)
    keep = keep_digest(bench.reconciler, bench.follower, bench.report, quiet_s=0.001)
    async with at_work(bench, keep, bus=bus):
        await until(lambda: bench.report.digest_at)
    assert begun == [ledger.written, ledger.written + 1]
    assert bench.report.digest_at == ledger.written + 1
    assert bench.report.digest == digest(bench.reconciler.state)
