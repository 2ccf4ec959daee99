"""Snapshots in the bus's bucket: the state at a sequence, made once and taken by whoever needs it.

An object is named by its sequence. Its bytes are a line that says which form they have, and behind
it, deflated, a manifest and the chunks of `snapshot.freeze`:

    "tabard snapshot 1\\n" + zlib(msgpack([sequence, chain, digest, release, by]) + msgpack(chunk)…)

Nothing of it is believed. Whoever takes one checks the bucket's hash over all bytes, the schema and
the chunks' own hash, that the state digests to what the manifest says, and that the ledger's event
at its sequence carries its chain hash. The object's metadata says the same for lists, and alone
whether the snapshot is kept.
"""

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgpack
import structlog

from tabard.bus.port import Bus, ObjectDamaged, ObjectInfo, ObjectMissing
from tabard.ledger.checkpoint import check, uncollected
from tabard.ledger.digest import digest
from tabard.ledger.snapshot import SCHEMA, SnapshotError, freeze, thaw
from tabard.ledger.state import State

_log = structlog.get_logger()

NEWEST_KEPT = 3
"""Snapshots that stay beside those that are marked: behind a damaged one stand two others."""
REMAINS_AGE_S = 600.0
"""What a broken-off put left is removed after so long: no put waits as long for its next chunk."""
INFLATED_BYTES_MAX = (4 << 30) - 1
"""Most bytes that a snapshot inflates to. A million pods are 122 MB."""
_FORM = b"tabard snapshot 1\n"
_LEVEL = 1
"""Of zlib: a sixth of the bytes for half a second a million pods."""
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot as the bucket lists it: its object, and what the metadata claims of it."""

    info: ObjectInfo
    sequence: int
    chain: str
    digest: str
    """Both as hexadecimal digits."""
    schema: str
    release: str
    by: str
    """The process that made it."""
    kept: str
    """Why it is kept beyond the newest; empty: it is not."""

    @property
    def place(self) -> str:
        return f"snapshot {self.sequence}"


@dataclass(frozen=True, slots=True)
class Frozen:
    """A state taken out of its owner's hands, to be stored."""

    sequence: int
    chain: bytes
    chunks: list[bytes]

    @classmethod
    def of(cls, state: State) -> "Frozen":
        """Reads all of `state` at once: about 1 µs an endpoint."""
        return cls(state.sequence, state.chain, freeze(state))


async def listed(bus: Bus) -> list[Entry]:
    """The bucket's snapshots, newest first; objects that are none are left out."""
    entries = [_entry(info) for info in await bus.objects.listed() if _is_named(info.name)]
    return sorted(entries, key=lambda entry: entry.sequence, reverse=True)


async def store(bus: Bus, frozen: Frozen, by: str, kept: str = "") -> Entry:
    """Put a snapshot into the bucket, thawed and digested before and read back whole after it.

    Replaces one of the same sequence, with its mark if `kept` is none. SnapshotError if it would
    not be taken, as where the state is not this ledger's.
    """
    content, state, found = await asyncio.to_thread(packed, frozen, by)
    if reason := await check(bus, state):
        raise SnapshotError(f"snapshot {frozen.sequence} is not stored: {reason}")
    marks = [entry.kept for entry in await listed(bus) if entry.sequence == frozen.sequence]
    metadata = {
        "tabard-chain": frozen.chain.hex(),
        "tabard-digest": found.hex(),
        "tabard-schema": str(SCHEMA),
        "tabard-release": _release(),
        "tabard-by": by,
        "tabard-kept": kept or "".join(marks),
    }
    info = await bus.objects.put(str(frozen.sequence), content, metadata)
    try:
        async for _ in bus.objects.get(info):
            pass
    except (ObjectDamaged, ObjectMissing) as error:
        raise SnapshotError(f"snapshot {frozen.sequence} was not stored well: {error}") from error
    return _entry(info)


async def load(bus: Bus, entry: Entry) -> State:
    """The state that a snapshot holds, checked in every way there is; SnapshotError, by its name,
    if it must not be taken."""
    try:
        pieces = [piece async for piece in bus.objects.get(entry.info)]
        state = await asyncio.to_thread(taken, entry.sequence, b"".join(pieces))
    except (ObjectDamaged, ObjectMissing, SnapshotError) as error:
        raise SnapshotError(f"{entry.place} is refused: {error}") from error
    if reason := await check(bus, state):
        raise SnapshotError(f"{entry.place} is refused: {reason}")
    return state


async def keep(bus: Bus, entry: Entry, why: str) -> Entry:
    """Mark the snapshot as kept for a reason, or, with "", as one of many."""
    metadata = {**entry.info.metadata, "tabard-kept": why}
    return _entry(await bus.objects.mark(entry.info, metadata))


async def prune(bus: Bus, newest: int = NEWEST_KEPT) -> list[Entry]:
    """Remove snapshots that are neither among the newest nor kept, and remains of broken-off puts;
    those that were removed."""
    old = [entry for entry in (await listed(bus))[newest:] if not entry.kept]
    for entry in old:
        await bus.objects.delete(entry.info)
    await bus.objects.tidy(REMAINS_AGE_S)
    return old


def _is_named(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name)) and name != "0"


def _entry(info: ObjectInfo) -> Entry:
    said = {key: info.metadata.get(f"tabard-{key}", "") for key in _SAID}
    return Entry(info, int(info.name), **said)


_SAID = ("chain", "digest", "schema", "release", "by", "kept")


@cache
def _release() -> str:
    # Who only takes snapshots, as agents do, need not load what this loads.
    from importlib.metadata import version

    return version("tabard")


def packed(frozen: Frozen, by: str) -> tuple[bytes, State, bytes]:
    """(the object's bytes, the state that they hold, its digest)"""
    state = thaw(frozen.chunks)
    found = digest(state)
    manifest = (frozen.sequence, frozen.chain, found, _release(), by)
    deflate = zlib.compressobj(_LEVEL)
    parts = [_FORM, deflate.compress(msgpack.packb(manifest))]
    parts += [deflate.compress(msgpack.packb(chunk)) for chunk in frozen.chunks]
    return b"".join([*parts, deflate.flush()]), state, found


def taken(named: int, content: bytes) -> State:
    """The state in the bytes of the object of that name; SnapshotError if it is not there whole."""
    try:
        (sequence, chain, claimed, _release, _by), *chunks = _unpacked(content)
    except SnapshotError:
        raise
    except Exception as error:  # bytes of unknown origin fail in ways of any type
        raise SnapshotError(f"it cannot be read ({error!r})") from error
    with uncollected():
        state = thaw(chunks)
    if (state.sequence, state.chain) != (sequence, chain) or sequence != named:
        raise SnapshotError(f"it holds LEDGER/{state.sequence}, not what it is named")
    if digest(state) != claimed:
        raise SnapshotError("its state does not come to the digest that it claims")
    return state


def _unpacked(content: bytes) -> Iterator[Any]:
    """What was packed one behind the other, inflated piece by piece and never beyond the bound."""
    if not content.startswith(_FORM):
        line = content[: len(_FORM)].partition(b"\n")[0]
        raise SnapshotError(f"it begins with {line!r}: this release reads {_FORM.strip()!r}")
    inflate, rest = zlib.decompressobj(), content[len(_FORM) :]
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=INFLATED_BYTES_MAX)
    total = 0
    while rest and not inflate.eof:
        piece = inflate.decompress(rest, _PIECE_BYTES)
        rest = inflate.unconsumed_tail
        total += len(piece)
        if total > INFLATED_BYTES_MAX:
            raise SnapshotError(f"it inflates to more than {INFLATED_BYTES_MAX} bytes")
        unpacker.feed(piece)
        yield from unpacker
    if not inflate.eof or inflate.unused_data or unpacker.tell() != total:
        raise SnapshotError("it ends in the middle, or goes on behind its end")
