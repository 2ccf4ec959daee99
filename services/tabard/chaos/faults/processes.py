"""Processes that die at once, and processes that stand still and come back."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.targets import Whom, processes_of
from tabard.cluster.errors import NotReached


class Kill:
    """SIGKILL, and down until it is healed. A cluster of `tabard up` would start it at once."""

    def __init__(self, whom: Whom) -> None:
        self.name = f"kill -9 of {whom}"
        self._whom = whom
        self._killed: tuple[str, ...] = ()

    async def inject(self, rig: Rig, chance: Random) -> str:
        self._killed = await processes_of(self._whom, rig, chance)
        for process in self._killed:
            rig.cluster.kill(process, hold=True)
        await waiting.down(rig, self._killed)
        return ", ".join(self._killed)

    async def heal(self, rig: Rig) -> None:
        await waiting.up(rig, self._killed)
        self._killed = ()


class Pause:
    """SIGSTOP until it is healed; where another can take over, that has happened when `inject`
    returns. So who goes on then believes to be what he was, and is not."""

    def __init__(self, whom: Whom) -> None:
        self.name = f"SIGSTOP of {whom}, which goes on later"
        self._whom = whom
        self._paused: dict[str, int] = {}
        """Process → pid."""

    async def inject(self, rig: Rig, chance: Random) -> str:
        paused = await processes_of(self._whom, rig, chance)
        for process in paused:
            self._paused[process] = rig.cluster.pid(process)
            rig.cluster.kill(process, signal.SIGSTOP)
        for process, pid in self._paused.items():
            await waiting.until(partial(_stands_still, pid), f"{process} stands still")
        told = ", ".join(paused)
        match self._whom:
            case Whom.BUS_LEADER:
                return f"{told}; {await _other_than(rig.bus_leader, paused)} leads instead"
            case Whom.ALLOCATOR_LEADER:
                return f"{told}; {await _other_than(rig.allocator_leader, paused)} leads instead"
            case _:
                return told

    async def heal(self, rig: Rig) -> None:
        for process, pid in self._paused.items():
            if rig.cluster.pid(process) == pid:
                rig.cluster.kill(process, signal.SIGCONT)
        self._paused.clear()


async def _other_than(leader: Callable[[], Awaitable[str]], before: Collection[str]) -> str:
    """Who leads, once that is none of `before`."""
    try:
        async with asyncio.timeout(waiting.EFFECT_S_MAX):
            while True:
                if (name := await leader()) not in before:
                    return name
                await asyncio.sleep(waiting.POLL_S)
    except TimeoutError:
        fact = f"nobody took over from {', '.join(before)} within {waiting.EFFECT_S_MAX:g} s"
        raise NotReached(fact, "tabard status") from None


def _stands_still(pid: int) -> bool:
    """Whether the kernel has stopped all of its threads (proc(5))."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all(
        (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads
    )
