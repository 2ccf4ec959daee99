"""Waiting until a fault is in effect, or undone, and reading of it in a process's log."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tabard.chaos.fault import Rig
from tabard.cluster.errors import NotReached

POLL_S = 0.02
EFFECT_S_MAX = 30.0
"""Longest wait for a fault's effect, or for a process to be up again."""


async def until(condition: Callable[[], bool], what: str) -> None:
    """NotReached, naming `what` did not come about, after EFFECT_S_MAX."""
    try:
        async with asyncio.timeout(EFFECT_S_MAX):
            while not condition():  # noqa: ASYNC110 (what is waited for tells nobody)
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise NotReached(f"not within {EFFECT_S_MAX:g} s: {what}", "tabard status") from None


async def down(rig: Rig, processes: Iterable[str]) -> None:
    """Wait until none of `processes` runs."""
    for process in processes:
        await until(partial(_is_down, rig, process), f"{process} is down")


async def up(rig: Rig, processes: Iterable[str]) -> None:
    """Start those of `processes` that are down, and wait until all run."""
    processes = tuple(processes)
    for process in processes:
        if _is_down(rig, process):
            await rig.cluster.restart(process)
    for process in processes:
        await until(partial(_is_up, rig, process), f"{process} runs")


def _is_down(rig: Rig, process: str) -> bool:
    return rig.cluster.pid(process) == 0


def _is_up(rig: Rig, process: str) -> bool:
    return rig.cluster.pid(process) > 0


class Log:
    """What a process writes from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size

    async def says(self, word: str) -> None:
        """Wait until the log has `word`."""
        await until(lambda: word in self._new(), f"{self._path.name} says {word}")

    def _new(self) -> str:
        with self._path.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")
