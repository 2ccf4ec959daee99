"""A wall clock that jumps for one service, which is told the time by libfaketime.

The service is started with the library and the true time, and its clock jumps while it runs; so it
jumps back when it is healed. Clocks that only go on (monotonic(7)'s) stay true, as they do on a
machine whose wall clock is set. A nats-server cannot be told: Go asks the kernel, not the C
library.
"""

import asyncio
from pathlib import Path
from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster.errors import ClusterError
from tabard.cluster.tasks import wholly

LIBRARIES = "/usr/lib", "*/faketime/libfaketimeMT.so.1"


class ClockJump:
    """Of one service, by `seconds`, backwards if they are negative. The leading allocator leads
    when it happens."""

    def __init__(self, whom: Whom, seconds: int) -> None:
        way = "on" if seconds > 0 else "back"
        self.name = f"the clock of {whom} jumps {way} by {abs(seconds)} s"
        self._whom = whom
        self._seconds = seconds
        self._process, self._pid = "", 0

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(self._whom, rig, chance)
        leads = process in rig.allocators and await rig.allocator_leader() == process
        self._process = process
        _set(rig, process, 0)
        rig.cluster.configure(process, _environment(_file(rig, process)))
        await waiting.restarted(rig, process)
        self._pid = rig.cluster.pid(process)
        if leads:
            await _lead(rig, process)
        _set(rig, process, self._seconds)
        return f"{process}: {self._seconds:+d} s"

    async def heal(self, rig: Rig) -> None:
        if not (process := self._process):
            return
        _set(rig, process, 0)
        rig.cluster.configure(process, {})
        await waiting.restarted(rig, process)
        await wholly(_remove, _file(rig, process), self._pid)
        self._process = ""


def library() -> Path | None:
    """What tells a service another time, if it is installed."""
    return next(Path(LIBRARIES[0]).glob(LIBRARIES[1]), None)


def _environment(file: Path) -> dict[str, str]:
    found = library()
    if found is None:
        raise ClusterError(
            f"no libfaketime at {'/'.join(LIBRARIES)}, which tells a service another time",
            "apt-get install -y --no-install-recommends libfaketime",
        )
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }


def _file(rig: Rig, process: str) -> Path:
    """What the library reads whenever it is asked for the time."""
    return rig.data / f"clock-{process}"


def _set(rig: Rig, process: str, seconds: int) -> None:
    file = _file(rig, process)
    made = file.with_suffix(".new")
    made.write_text(f"{seconds:+d}\n")
    made.replace(file)


def _remove(file: Path, pid: int) -> None:
    file.unlink(missing_ok=True)
    for left in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        # The library removes them itself, unless it was killed.
        Path("/dev/shm", left).unlink(missing_ok=True)


async def _lead(rig: Rig, process: str) -> None:
    """Have an allocator lead again, by asking whoever leads instead to end."""
    async with asyncio.timeout(waiting.EFFECT_S_MAX):
        while (leads := await rig.allocator_leader()) != process:
            await waiting.restarted(rig, leads)
