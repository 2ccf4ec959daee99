"""A checkpoint's file in memory, which outlives its process."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiosqlite
import msgpack
import structlog

from tabard.ledger.checkpoint import Checkpoint, CheckpointError
from tabard.ledger.snapshot import SnapshotError, thaw
from tabard.ledger.state import State
from tabard.simulator.operations import Line

_log = structlog.get_logger()

OLDER_KEPT = 4


@dataclass(slots=True)
class Disk:
    """One process's disk."""

    chunks: list[bytes] = field(default_factory=list)
    extra: bytes = b""
    saved: int = 0
    """Ledger sequence of what can be read there; 0: nothing."""
    is_full: bool = False
    older: list[tuple[list[bytes], bytes]] = field(default_factory=list)
    """What was saved before, the newest last."""

    def write(self, chunks: list[bytes], extra: bytes) -> None:
        if self.is_full:
            raise full("no space left on device")
        self.older = [*self.older, (self.chunks, self.extra)][-OLDER_KEPT:]
        self.chunks, self.extra = chunks, extra
        self.saved = _sequence(chunks)

    def damage(self, how: str) -> None:
        """`cut`: its end is missing; `flip`: a bit is another; `older`: it is one of before."""
        match how:
            case "cut":
                self.chunks, self.saved = self.chunks[:-1], 0
            case "flip" if self.chunks:
                middle = len(self.chunks) // 2
                bent = bytearray(self.chunks[middle])
                bent[len(bent) // 2] ^= 4
                self.saved = 0
                self.chunks = [*self.chunks[:middle], bytes(bent), *self.chunks[middle + 1 :]]
            case "older" if self.older:
                self.chunks, self.extra = self.older.pop(0)
                self.saved = _sequence(self.chunks)


def _sequence(chunks: list[bytes]) -> int:
    """The sequence that `freeze` wrote into its header; 0 if nothing is there."""
    if not chunks:
        return 0
    _schema, head, _digest = msgpack.unpackb(chunks[0])
    sequence: int = msgpack.unpackb(head)[0]
    return sequence


def full(reason: str) -> Exception:
    return CheckpointError(f"the simulated checkpoint: {reason}")


class SimulatedCheckpoint(Checkpoint):
    """A process's access to it: a save is there whole when the scheduler lets it, or not at all."""

    def __init__(self, name: str, disk: Disk, line: Line, counts: Counter[str]) -> None:
        super().__init__(Path(f"/simulated/{name}.db"), cast(aiosqlite.Connection, None))
        self._counts = counts
        self._disk = disk
        self._line = line

    async def load(self) -> State | None:
        if not self._disk.chunks:
            return None
        try:
            state = thaw(self._disk.chunks)
        except SnapshotError as error:
            _log.warning("checkpoint.discarded", path=str(self.path), reason=str(error))
            self._counts["checkpoints discarded"] += 1
            return None
        self.extra = self._disk.extra
        self._counts["checkpoints restored"] += 1
        return state

    async def _write(self, chunks: list[bytes], extra: bytes) -> None:
        def commit() -> Any:
            self._disk.write(chunks, extra)
            self._counts["checkpoints saved"] += 1

        await self._line.ask("checkpoint", commit, full, needs_bus=False)
