"""A state kept in one SQLite file, so that a restart replays only the tail of the ledger.

The ledger is the truth: a checkpoint that is missing, damaged or of another ledger costs time and
nothing else.
"""

import asyncio
import contextlib
import gc
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
import structlog

from tabard.bus.port import Bus, SequenceGap, Shortened, Stream
from tabard.events import chain
from tabard.ledger.snapshot import SnapshotError, freeze, thaw
from tabard.ledger.state import State

_log = structlog.get_logger()

SAVE_SHARE_MAX = 0.02
"""Most of its time that a process may spend on reading its state for checkpoints."""
LOOK_AGAIN_S = 2.0
"""By then whoever leads no more has been told."""
CACHE_KIB_MAX = 256
"""What SQLite may keep of the file in memory, by itself 2 MiB; the file is read once."""
_FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises: Python decodes what SQLite quotes of it."""
_MACHINES_FAULTS = frozenset(
    (
        *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL),
    )
)
"""Primary result codes that say nothing about what the file holds."""
_TABLES = """
CREATE TABLE IF NOT EXISTS chunk (position INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS extra (id INTEGER PRIMARY KEY CHECK (id = 0), data BLOB NOT NULL) STRICT;
"""


class CheckpointError(Exception):
    """The checkpoint file cannot be opened or written; says which and why. Going on is safe."""


class Checkpoint:
    """One process's checkpoint file; make it with `open`.

    `extra` are bytes of the owner's own that were saved in the same transaction; b"" before `load`
    and where there is no checkpoint.
    """

    def __init__(self, path: Path, database: aiosqlite.Connection) -> None:
        self.path = path
        self.extra = b""
        self._database = database

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path | str) -> AsyncIterator["Checkpoint"]:
        """The checkpoint in the file `path`, made if absent; a file that is no SQLite database is
        thrown away, loudly. CheckpointError if the file cannot be opened at all."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            database = await _connected(path)
        except (OSError, *_FAULTS) as error:
            raise CheckpointError(
                f"{path}: cannot be opened ({error}); check its directory"
            ) from error
        checkpoint = cls(path, database)
        try:
            yield checkpoint
        finally:
            await checkpoint._database.close()

    async def load(self) -> State | None:
        """The state saved last, or None if there is none or (loudly) if it cannot be taken.

        Not yet compared with any ledger: see `check`.
        """
        try:
            await self._database.rollback()  # a save may have been cancelled half-way
            chunks = await self._database.execute_fetchall(
                "SELECT data FROM chunk ORDER BY position"
            )
            extra = list(await self._database.execute_fetchall("SELECT data FROM extra"))
            if not chunks:
                return None
            with uncollected():
                state = thaw([data for (data,) in chunks])
        except SnapshotError as error:
            _log.warning("checkpoint.discarded", path=str(self.path), reason=str(error))
            return None
        except _FAULTS as error:
            await self._database.close()
            self._database = await _made_anew(self.path, error)
            return None
        self.extra = extra[0][0] if extra else b""
        return state

    def save(self, state: State, extra: bytes = b"") -> Awaitable[None]:
        """Replace what is saved by `state` and `extra`, in one transaction.

        `state` is read before this returns; await the result to have it written, one save at a
        time. Raises CheckpointError, and then what was saved before stands.
        """
        return _Save(self, freeze(state), extra)

    async def _write(self, chunks: list[bytes], extra: bytes) -> None:
        try:
            try:
                await self._replace(chunks, extra)
            except _FAULTS as error:
                if _is_not_the_files_fault(error):
                    raise
                await self._database.close()
                self._database = await _made_anew(self.path, error)
                await self._replace(chunks, extra)
        except _FAULTS as error:
            raise CheckpointError(f"{self.path}: cannot be written ({error})") from error

    async def _replace(self, chunks: list[bytes], extra: bytes) -> None:
        database = self._database
        await database.rollback()  # an earlier save may have been cancelled half-way
        await database.execute("BEGIN IMMEDIATE")
        await database.execute("DELETE FROM chunk")
        await database.executemany("INSERT INTO chunk VALUES (?, ?)", enumerate(chunks))
        await database.execute("INSERT OR REPLACE INTO extra VALUES (0, ?)", (extra,))
        await database.commit()


@dataclass(frozen=True, slots=True)
class _Save:
    """Begins when it is awaited, so that one that never is leaves nothing unfinished behind."""

    checkpoint: Checkpoint
    chunks: list[bytes]
    extra: bytes

    def __await__(self) -> Generator[Any, None, None]:
        return self.checkpoint._write(self.chunks, self.extra).__await__()


def pause_s(spacing_s: float, took_s: float) -> float:
    """How long to wait after a save whose reading of the state took `took_s`: `spacing_s`, longer
    if that would be more than SAVE_SHARE_MAX of the time. A million endpoints take a second."""
    return max(spacing_s, took_s / SAVE_SHARE_MAX)


async def check(bus: Bus, state: State) -> str:
    """Why `state` is no state of this bus's ledger that can go on, or "" if it is.

    The ledger's event at the state's sequence must carry the state's chain hash, which covers all
    of the past. Of several servers one may lead no more and not know it yet: what is not there is
    looked for again, for a checkpoint that is thrown away costs a reading of the whole ledger.
    """
    if state.sequence == 0:
        return ""
    if trimmed := await _trimmed(bus, state):
        return trimmed
    try:
        found = await bus.read(Stream.LEDGER, state.sequence, 1)
        if not found and (await bus.info(Stream.LEDGER)).replicas > 1:
            await asyncio.sleep(LOOK_AGAIN_S)
            found = await bus.read(Stream.LEDGER, state.sequence, 1)
    except SequenceGap:
        if trimmed := await _trimmed(bus, state):  # since it was asked for
            return trimmed
        raise
    except Shortened as error:
        return str(error)
    if not found or found[0].sequence != state.sequence:
        return f"the ledger ends before LEDGER/{state.sequence}"
    claimed = chain.chain_of(found[0].payload)
    if claimed is None and (Stream.LEDGER, state.sequence) in state.quarantined:
        return ""
    return "" if claimed == state.chain else f"LEDGER/{state.sequence} has another chain hash"


async def _trimmed(bus: Bus, state: State) -> str:
    """That the ledger begins behind `state`'s last event, if it does."""
    first = await bus.first_sequence(Stream.LEDGER)
    if state.sequence >= first:
        return ""
    return f"the ledger begins at LEDGER/{first}: what would follow was trimmed away"


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """All that is made inside stays: looking through it for garbage would take half of the time.

    It is not looked through later either.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


async def _connected(path: Path) -> aiosqlite.Connection:
    try:
        return await _opened(path)
    except _FAULTS as error:
        if _is_not_the_files_fault(error):
            raise
        return await _made_anew(path, error)


def _is_not_the_files_fault(error: Exception) -> bool:
    # SQLite's own code: an OperationalError is also told of a file in a format of no release.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _MACHINES_FAULTS


async def _made_anew(path: Path, reason: Exception) -> aiosqlite.Connection:
    _log.warning("checkpoint.discarded", path=str(path), reason=str(reason))
    for part in ("", "-wal", "-shm"):
        path.with_name(path.name + part).unlink(missing_ok=True)
    return await _opened(path)


def _make_private(path: Path) -> None:
    """All of the ledger's state is nobody else's to read; what SQLite puts beside it is as this."""
    path.touch(mode=0o600)
    path.chmod(0o600)


async def _opened(path: Path) -> aiosqlite.Connection:
    _make_private(path)
    database = await aiosqlite.connect(path, isolation_level=None)
    try:
        await database.execute("PRAGMA journal_mode = WAL")
        # An agent acknowledges what it has saved: that must survive a loss of power too.
        await database.execute("PRAGMA synchronous = FULL")
        await database.execute(f"PRAGMA cache_size = -{CACHE_KIB_MAX}")
        await database.executescript(_TABLES)
    except BaseException:
        await database.close()
        raise
    return database
