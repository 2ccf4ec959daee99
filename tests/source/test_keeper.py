"""The keeper with a runtime that does what the test says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

import workloads
from tabard.events.observed import PodStarted
from tabard.source.errors import PodFailed
from tabard.source.pods import keeper as keeping
from tabard.source.pods import measurements as measuring
from tabard.source.pods.keeper import Keeper
from tabard.source.pods.measurements import Measurements
from tabard.source.pods.runtime import Attached, Wanted

ATTACHED = Attached(identity=300, sequence=7, local=True, resolve_ms=0.5, program_ms=1.5)


class Runtime:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures = 0
        self.stop_failures = 0
        self.starting = 0
        self.most_starting = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.stop_gate = asyncio.Event()
        self.stop_gate.set()

    async def start(self, wanted: Wanted) -> Attached | None:
        self.starting += 1
        self.most_starting = max(self.most_starting, self.starting)
        try:
            await self.gate.wait()
        finally:
            self.starting -= 1
        if self.failures:
            self.failures -= 1
            self.calls.append(f"fail {wanted.pod.uid}")
            raise PodFailed("no agent")
        self.calls.append(f"start {wanted.pod.uid}")
        return ATTACHED

    async def stop(self, pod: PodStarted) -> None:
        await self.stop_gate.wait()
        if self.stop_failures:
            self.stop_failures -= 1
            raise PodFailed("busy")
        self.calls.append(f"stop {pod.uid}")

    async def sweep(self, keep: Collection[str]) -> int:
        self.calls.append(f"sweep all but {sorted(keep)}")
        return 0

    async def let_go(self) -> None:
        self.calls.append("let go")


def wanted(uid: str, address: str = "") -> Wanted:
    addresses = (address or f"10.0.0.{len(uid)}",)
    return Wanted(PodStarted(uid, "shop", uid, "n1", addresses, (), 1_000), ())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETRY_MS", 0)


@contextlib.asynccontextmanager
async def running(keeper: Keeper) -> AsyncIterator[None]:
    task = asyncio.ensure_future(keeper.run())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(runtime: Runtime, *calls: str) -> None:
    await workloads.until(lambda: set(calls) <= set(runtime.calls))


async def test_what_an_earlier_process_left_is_swept_before_anything_starts(tmp_path: Path) -> None:
    runtime = Runtime()
    keeper = Keeper(runtime, Measurements(tmp_path))
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "start a")
    assert runtime.calls[:2] == ["sweep all but ['a']", "start a"]


async def test_pods_start_become_ready_and_stop_when_not_wanted(tmp_path: Path) -> None:
    runtime, changes = Runtime(), []
    keeper = Keeper(runtime, Measurements(tmp_path))
    keeper.changed = lambda: changes.append(1)
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "start a")
        await asyncio.sleep(0)
        assert keeper.ready("a")
        assert changes == [1]
        keeper.want({})
        await until(runtime, "stop a")
        assert not keeper.ready("a")


async def test_a_failed_start_is_tried_again_and_counts_as_not_ready(tmp_path: Path) -> None:
    runtime = Runtime()
    runtime.failures = 3
    keeper = Keeper(runtime, Measurements(tmp_path))
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "fail a")
        await until(runtime, "start a")
    assert runtime.calls.count("fail a") == 3


async def test_a_pod_that_is_not_wanted_any_more_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY_MS", 60_000)
    runtime = Runtime()
    runtime.failures = 99
    keeper = Keeper(runtime, Measurements(tmp_path))
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "fail a")
        keeper.want({})
        await until(runtime, "stop a")


async def test_a_failed_stop_is_tried_again(tmp_path: Path) -> None:
    runtime = Runtime()
    runtime.stop_failures = 2
    keeper = Keeper(runtime, Measurements(tmp_path))
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "start a")
        keeper.want({})
        await until(runtime, "stop a")


async def test_a_pod_waits_for_the_one_that_has_its_address(tmp_path: Path) -> None:
    runtime = Runtime()
    keeper = Keeper(runtime, Measurements(tmp_path))
    async with running(keeper):
        keeper.want({"a": wanted("a", "10.0.0.1")})
        await until(runtime, "start a")
        runtime.stop_gate.clear()
        keeper.want({"b": wanted("b", "10.0.0.1"), "c": wanted("c", "10.0.0.2")})
        await until(runtime, "start c")
        assert "start b" not in runtime.calls
        runtime.stop_gate.set()
        await until(runtime, "start b")
    assert runtime.calls.index("stop a") < runtime.calls.index("start b")


async def test_a_pod_that_is_wanted_again_while_it_stops_starts_again(tmp_path: Path) -> None:
    runtime = Runtime()
    keeper = Keeper(runtime, Measurements(tmp_path))
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "start a")
        runtime.stop_gate.clear()
        keeper.want({})
        await asyncio.sleep(0.01)
        keeper.want({"a": wanted("a")})
        runtime.stop_gate.set()
        await workloads.until(lambda: runtime.calls.count("start a") == 2)


async def test_starts_at_once_are_bounded(tmp_path: Path) -> None:
    runtime = Runtime()
    runtime.gate.clear()
    keeper = Keeper(runtime, Measurements(tmp_path))
    pods = {f"p{n}": wanted(f"p{n}", f"10.0.0.{n}") for n in range(keeping.STARTING_MAX + 1)}
    async with running(keeper):
        keeper.want(pods)
        await asyncio.sleep(0.01)
        runtime.gate.set()
        await until(runtime, *(f"start {uid}" for uid in pods))
    assert runtime.most_starting == keeping.STARTING_MAX


@pytest.mark.parametrize("keep", [True, False])
async def test_at_the_end_pods_are_taken_down_or_kept(tmp_path: Path, keep: bool) -> None:
    runtime = Runtime()
    keeper = Keeper(runtime, Measurements(tmp_path), keep_at_end=keep)
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        await until(runtime, "start a")
    assert runtime.calls[2:] == (["let go"] if keep else ["stop a", "let go"])


async def test_each_start_is_measured(tmp_path: Path) -> None:
    runtime = Runtime()
    keeper = Keeper(runtime, Measurements(tmp_path), clock=lambda: 5_000)
    async with running(keeper):
        keeper.want({"a": wanted("a")})
        log = tmp_path / measuring.FILE
        await workloads.until(lambda: log.exists() and log.read_text().endswith("\n"))
    assert json.loads(log.read_text()) == {
        "uid": "a",
        "namespace": "shop",
        "name": "a",
        "node": "n1",
        "started_at": 1_000,
        "ready_at": 5_000,
        "identity": 300,
        "sequence": 7,
        "local": True,
        "resolve_ms": 0.5,
        "program_ms": 1.5,
    }


def test_the_file_of_measurements_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurements = Measurements(tmp_path)
    pod = wanted("a").pod
    measurements.add(pod, ATTACHED, 1)
    size = measurements.path.stat().st_size
    monkeypatch.setattr(measuring, "FILE_BYTES_MAX", 2 * size)
    for ready_at in (2, 3, 4, 5):
        measurements.add(pod, ATTACHED, ready_at)
        assert measurements.path.stat().st_size <= 2 * size
    old = tmp_path / f"{measuring.FILE}.1"
    kept = [*old.read_text().splitlines(), *measurements.path.read_text().splitlines()]
    assert [json.loads(line)["ready_at"] for line in kept] == [3, 4, 5]
