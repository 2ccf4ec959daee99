"""Waiting until a fault is in effect, or undone, and reading of it in a process's log."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tabard.chaos.fault import Rig
from tabard.cluster.errors import NotReached
from tabard.ledger.replicas import survey

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


async def restarted(rig: Rig, process: str) -> None:
    """Have a process end and start again, and wait until it runs."""
    before = rig.cluster.pid(process)
    await rig.cluster.restart(process)
    await until(partial(_is_another, rig, process, before), f"{process} was started again")


def _is_another(rig: Rig, process: str, before: int) -> bool:
    return rig.cluster.pid(process) not in (0, before)


def _is_down(rig: Rig, process: str) -> bool:
    return rig.cluster.pid(process) == 0


def _is_up(rig: Rig, process: str) -> bool:
    return rig.cluster.pid(process) > 0


async def answering(monitoring: tuple[str, ...], server: str) -> None:
    """Wait until a server of the bus speaks of its replicas."""
    try:
        async with asyncio.timeout(EFFECT_S_MAX):
            while True:
                found = await survey(monitoring)
                own = [each.replica for each in found.standings if each.server == server]
                if own and all(replica and replica.group for replica in own):
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        fact = f"{server} says nothing of its replicas"
        raise NotReached(fact, "tabard bus status") from None


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
