import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tabard.cluster import pids, processes
from tabard.cluster.errors import ClusterError
from tabard.cluster.holds import held, holds
from tabard.cluster.processes import Child, Launched, Program, Restarts, end_all

SLEEPS = "import time; time.sleep(600)"
IGNORES_TERM = (
    "import signal; signal.signal(15, signal.SIG_IGN); print('on', flush=True); " + SLEEPS
)


def python(code: str) -> Program:
    return Program((sys.executable, "-c", code), dict(os.environ))


def child(program: Program, directory: Path, stop_timeout_s: float = 5.0) -> Child:
    log = directory / "log"
    process = Launched(program, log, stop_timeout_s)
    hold = holds(directory) / "child"
    return Child("child", process, directory / "note", log, Restarts(1, 20), hold)


@asynccontextmanager
async def minded(
    program: Program, directory: Path, stop_timeout_s: float = 5.0
) -> AsyncIterator[Child]:
    """A child that runs, with the task that keeps it so."""
    kept = child(program, directory, stop_timeout_s)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        await kept.begin()
        tasks.create_task(kept.run())
        try:
            yield kept
        finally:
            await kept.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition of the world outside, which tells nobody when it changes."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async with minded(python(SLEEPS), tmp_path) as kept:
        first = kept.pid
        assert (tmp_path / "note").read_text().split()[0] == str(first)
        kept.kill(signal.SIGKILL)
        await until(lambda: kept.pid not in (0, first))
        assert kept.exits == 1
    assert kept.pid == 0
    assert not (tmp_path / "note").exists()


async def test_a_held_process_stays_down_until_restart(tmp_path: Path) -> None:
    async with minded(python(SLEEPS), tmp_path) as kept:
        first = kept.pid
        kept.kill(signal.SIGKILL, hold=True)
        await until(lambda: not (tmp_path / "note").exists())
        assert kept.pid == 0
        await kept.restart()
        await until(lambda: kept.pid not in (0, first))
        assert kept.exits == 0


async def test_a_process_that_another_holds_down_stays_down_while_that_one_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, pids.noted

    def noted(path: Path) -> int:
        nonlocal looks
        looks += 1
        return look(path)

    monkeypatch.setattr(processes, "HOLD_POLL_S", 0.001)
    monkeypatch.setattr(processes.pids, "noted", noted)
    async with minded(python(SLEEPS), tmp_path) as kept:
        first = kept.pid
        with held(tmp_path, "child"):
            with (
                pytest.raises(ClusterError, match=f"held down by process {os.getpid()} already"),
                held(tmp_path, "child"),
            ):
                pass
            before = looks
            kept.kill(signal.SIGTERM)
            await until(lambda: looks > before + 3)
            assert kept.pid == 0
        await until(lambda: kept.pid not in (0, first))
        assert kept.exits == 0

        second = kept.pid
        holder = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEPS)
        pids.record(holds(tmp_path) / "child", holder.pid)
        before = looks
        kept.kill(signal.SIGTERM)
        await until(lambda: looks > before + 3)
        assert kept.pid == 0
        holder.kill()
        await holder.wait()
        await until(lambda: kept.pid not in (0, second))


async def test_a_restart_asked_for_is_no_exit(tmp_path: Path) -> None:
    async with minded(python(SLEEPS), tmp_path) as kept:
        first = kept.pid
        await kept.restart()
        await until(lambda: kept.pid not in (0, first))
        assert kept.exits == 0


async def test_one_that_ends_at_once_is_tried_again_and_its_log_kept(tmp_path: Path) -> None:
    async with minded(python("print('no port'); raise SystemExit(3)"), tmp_path) as kept:
        await until(lambda: kept.exits >= 3)
    assert kept.last_words().count("no port") >= 3


async def test_a_log_is_begun_anew_once_it_is_larger_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabard.cluster.processes.LOG_BYTES_MAX", 4)
    log, before = tmp_path / "log", tmp_path / "log.1"
    process = Launched(python("print('new')"), log, stop_timeout_s=5)
    found = []
    for there in ("1st\n", "2nd\n.", "3rd\n."):
        log.write_text(there)
        await process.start()
        await process.wait()
        found.append((before.read_text() if before.exists() else "", log.read_text()))
    assert found == [("", "1st\nnew\n"), ("2nd\n.", "new\n"), ("3rd\n.", "new\n")]


async def test_one_that_ignores_the_term_signal_is_killed(tmp_path: Path) -> None:
    async with minded(python(IGNORES_TERM), tmp_path, stop_timeout_s=0.05) as kept:
        await until(lambda: "on" in kept.last_words())
    assert kept.pid == 0


async def test_a_stopped_process_ends_too(tmp_path: Path) -> None:
    async with minded(python(SLEEPS), tmp_path) as kept:
        kept.kill(signal.SIGSTOP)
    assert kept.pid == 0


async def test_one_that_cannot_be_started_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await child(Program(("/does/not/exist",), {}), tmp_path).begin()


def test_waits_double_up_to_their_bound() -> None:
    restarts = Restarts(delay_ms=100, delay_ms_max=5_000)
    waits = [restarts.delay_s(exits) for exits in (1, 2, 3, 6, 7, 1_000_000)]
    assert waits == [0.1, 0.2, 0.4, 3.2, 5.0, 5.0]


PARENT = """
import asyncio, sys
from pathlib import Path
from tabard.cluster.processes import Launched, Program
async def main():
    process = Launched(Program((sys.executable, "-c", {sleeps!r}), {{}}), Path({log!r}), 5)
    await process.start()
    print(process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = PARENT.format(sleeps=SLEEPS, log=str(tmp_path / "log"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        assert pids.runs(grandchild)
        parent.kill()
    asyncio.run(until(lambda: not pids.runs(grandchild)))


def test_noted_processes_are_ended_even_if_they_ignore_it() -> None:
    command = [sys.executable, "-c", IGNORES_TERM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        end_all({"stubborn": stubborn.pid}, stop_timeout_s=0.1)
        assert stubborn.wait() == -signal.SIGKILL
