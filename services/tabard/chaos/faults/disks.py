"""A full disk under one process: what it stores moves to a small file system, which is filled."""

import asyncio
import errno
import shutil
import signal
from pathlib import Path
from random import Random

from tabard.bus import monitoring
from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster import mounts
from tabard.cluster.bus import is_server
from tabard.cluster.errors import NotReached
from tabard.cluster.tasks import wholly

ROOM_BYTES = 16 << 20
"""What the process has until the disk is filled, beside what it stored before: enough to start."""
FILLER = "filler"
STARTED = {"agent": "agent.serving", "allocator": "allocator.following"}
"""What each says once it has opened its checkpoint."""
_BLOCK = bytes(64 << 10)


class FullDisk:
    """Of one process, that is started again on it."""

    def __init__(self, whom: Whom) -> None:
        self.name = f"full disk under {whom}"
        self._whom = whom
        self._process = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(self._whom, rig, chance)
        self._process = process
        place, disk = stored(rig, process), _disk(rig, process)
        await stopped(rig, process)
        await wholly(_move, f"{rig.run}-{process}", place, disk)
        if is_server(process):
            await waiting.up(rig, [process])
            await waiting.answering(rig.cluster.profile.monitoring, process)
            await wholly(fill, place)
            await _turned_off(rig, process)
        else:
            # Who finds a full disk at its start ends again, and is started until there is room.
            log = waiting.Log(rig.data / "logs" / f"{process}.log")
            await waiting.up(rig, [process])
            await log.says(STARTED[process.partition(".")[0]])
            await wholly(fill, place)
        return f"{process}: {place}"

    async def heal(self, rig: Rig) -> None:
        if not (process := self._process):
            return
        place, disk = stored(rig, process), _disk(rig, process)
        await stopped(rig, process)
        await wholly(_move_back, place, disk)
        await waiting.up(rig, [process])
        self._process = ""


async def _turned_off(rig: Rig, server: str) -> None:
    """Wait until a server of the bus has turned JetStream off, as it does at its next write."""
    url = rig.cluster.profile.monitoring[rig.bus_servers.index(server)]
    try:
        async with asyncio.timeout(waiting.EFFECT_S_MAX):
            while True:
                (found,) = await monitoring.ask([url])
                if found.name and found.failure:
                    return
                await asyncio.sleep(waiting.POLL_S)
    except TimeoutError:
        fact = f"{server} goes on with a full disk after {waiting.EFFECT_S_MAX:g} s"
        raise NotReached(fact, "tabard bus status") from None


def stored(rig: Rig, process: str) -> Path:
    """The directory of all that a process stores."""
    kind, _, rest = process.partition(".")
    if is_server(process):
        return rig.data / "bus" / process
    return rig.data / "nodes" / rest if kind == "agent" else rig.data / process


async def stopped(rig: Rig, process: str) -> None:
    """Ask it to end, and have it stay down."""
    rig.cluster.kill(process, signal.SIGTERM, hold=True)
    await waiting.down(rig, [process])


def fill(place: Path) -> None:
    """Take all the room that is left. Blocks."""
    with (place / FILLER).open("ab", buffering=0) as filler:
        try:
            while True:
                filler.write(_BLOCK)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _disk(rig: Rig, process: str) -> Path:
    return rig.data / f"disk-{process}"


def _move(name: str, place: Path, disk: Path) -> None:
    """Have what is at `place` on a small file system, which is mounted at `disk` too. Blocks."""
    used = sum(file.lstat().st_blocks * 512 for file in place.rglob("*"))
    disk.mkdir(mode=0o700)
    mounts.mount(name, disk, used + ROOM_BYTES)
    _copy(place, disk)
    mounts.bind(disk, place)


def _move_back(place: Path, disk: Path) -> None:
    """Undo `_move`, wherever it ended, and keep what was stored since. Blocks."""
    mounted = mounts.below(place.parents[1])
    if place in mounted:
        (disk / FILLER).unlink(missing_ok=True)
        mounts.unmount(place)
        for each in place.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        _copy(disk, place)
    if disk in mounted:
        mounts.unmount(disk)
    if disk.exists():
        disk.rmdir()


def _copy(source: Path, target: Path) -> None:
    """All directories and files; sockets are made anew by whoever listens."""
    shutil.copytree(source, target, symlinks=True, ignore=_sockets, dirs_exist_ok=True)


def _sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(directory, name).is_socket()]
