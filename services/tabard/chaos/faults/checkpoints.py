"""Damaged checkpoints of agents and allocators."""

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.faults import waiting
from tabard.chaos.faults.disks import stored
from tabard.chaos.faults.harms import Harm, truncated
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster.tasks import wholly

PIECE_BYTES = 256
"""SQLite cuts what is long into pages; its beginning is in one piece."""


class DamagedCheckpoint:
    """The process is killed and started again; it has refused the file when `inject` returns."""

    def __init__(self, whom: Whom, harm: Harm) -> None:
        self.name = f"{harm.__name__} checkpoint of {whom}"
        self._whom, self._harm = whom, harm
        self._process = ""

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(self._whom, rig, chance)
        self._process = process
        rig.cluster.kill(process, hold=True)
        await waiting.down(rig, [process])
        file = checkpoint(rig, process)
        await wholly(_damage, file, self._harm, chance)
        log = waiting.Log(rig.data / "logs" / f"{process}.log")
        await waiting.up(rig, [process])
        await log.says("checkpoint.discarded")
        return f"{process}: {file}"

    async def heal(self, rig: Rig) -> None:
        if self._process:
            await waiting.up(rig, [self._process])
            self._process = ""


def checkpoint(rig: Rig, process: str) -> Path:
    """The file of a process that has saved once."""
    return stored(rig, process) / f"{process.partition('.')[0]}.db"


def _damage(file: Path, harm: Harm, chance: Random) -> None:
    """Cut the file, or flip a bit of the state in it: SQLite has pages that say nothing. Blocks."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (chunk,) = database.execute("SELECT data FROM chunk ORDER BY length(data) DESC").fetchone()
    content = file.read_bytes()
    piece = content if harm is truncated else chunk[:PIECE_BYTES]
    before, found, after = content.rpartition(piece)
    assert found, f"the beginning of a chunk is not in one piece in {file}"
    file.write_bytes(before + harm(piece, chance) + after)
