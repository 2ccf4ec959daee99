"""Trimming the ledger: what may go, made sure of and written to a file before it does.

A trim ends at a snapshot, S: the ledger then begins at the event at S, which vouches for it. Before
anything goes, the log is folded once more through S and must come to the snapshot's digest; one
more good snapshot at least stands behind S; all before S is in a file that was read back; and the
ledger itself says that it is trimmed. Then what stands before S is removed, never more, whatever
dies on the way.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tabard.bus.port import Bus, Stream, subject
from tabard.events.codec import TYPES
from tabard.events.errors import EventError
from tabard.events.ledger import LedgerTrimmed
from tabard.ledger import archive
from tabard.ledger.digest import digest
from tabard.ledger.export import Export, ExportError, exported
from tabard.ledger.follow import take_or_ask
from tabard.ledger.messages import recorded
from tabard.ledger.snapshot import SnapshotError
from tabard.ledger.start import begin
from tabard.ledger.state import State

KEPT = "trim"
"""Why the snapshot that the ledger begins at is kept."""


class TrimRefused(Exception):
    """Nothing was trimmed; says why not, and what would help."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A trim made ready: the ledger is to begin at `base`, and `digest` is that of the state there.

    `path` has all events from `first` on up to that, and `sha256` is of this file.
    """

    first: int
    base: archive.Entry
    digest: bytes
    path: Path
    sha256: bytes

    @property
    def before(self) -> int:
        return self.base.sequence


async def prepare(
    bus: Bus, limit: int, directory: Path, tell: Callable[[int, int], None]
) -> tuple[Cut, State]:
    """Make sure of all that a trim through at most `limit` needs, and write its file.

    Returns the state at the cut too. `tell` is told (folded through, through what) now and then.
    Raises TrimRefused, ExportError, and Stopped if the log is not what it must be.
    """
    first = await bus.first_sequence(Stream.LEDGER)
    base = await _base(bus, first, limit)
    state = State()
    await begin(bus, state, base.sequence, whole=True)
    if state.sequence > first:
        raise TrimRefused(
            f"snapshot {first}, where LEDGER begins, cannot be taken, so what follows it cannot be "
            "made sure of; put it back from a copy"
        )
    path = directory / f"LEDGER-{first}-{base.sequence - 1}.jsonl.gz"
    at = first
    with Export(path) as export:
        while at <= base.sequence:
            messages = [
                message
                for message in await bus.read(Stream.LEDGER, at)
                if message.sequence <= base.sequence
            ]
            if not messages:
                raise TrimRefused(f"LEDGER ends at {at - 1}, before {base.place}")
            await take_or_ask(bus, state, [m for m in messages if m.sequence > state.sequence])
            export.add(m for m in messages if m.sequence < base.sequence)
            at = messages[-1].sequence + 1
            tell(at - 1, base.sequence)
        found = digest(state)
        if (found.hex(), state.chain.hex()) != (base.digest, base.chain):
            raise TrimRefused(
                f"{base.place} is not what the ledger comes to there: one of the two is wrong; "
                "tabard snapshots verify says more"
            )
    count = sum(1 for _ in exported([path]))
    if count != base.sequence - first:
        raise ExportError(f"{path} has {count} events, and {base.sequence - first} were written")
    return Cut(first, base, found, path, _sha256(path)), state


async def _base(bus: Bus, first: int, limit: int) -> archive.Entry:
    """The newest good snapshot up to `limit` that has a good later one behind it."""
    spare: archive.Entry | None = None
    refused = ""
    for entry in await archive.listed(bus):
        if entry.sequence <= first:
            break
        if entry.sequence > limit and spare is not None:
            continue
        try:
            await archive.load(bus, entry)
        except SnapshotError as error:
            refused = refused or f"; {error}"
            continue
        if spare is not None and entry.sequence <= limit:
            return entry
        spare = entry
    if spare is None:
        raise TrimRefused(f"LEDGER has no good snapshot behind {first}{refused}")
    raise TrimRefused(
        f"of good snapshots LEDGER needs one from {first + 1} to {limit}, to begin at, and a later "
        f"one, should that be lost; there is none but {spare.sequence}{refused}"
    )


async def finish(bus: Bus, cut: Cut) -> int:
    """Trim, once the ledger says that it is; the first sequence that is left.

    TrimRefused if the ledger does not say so.
    """
    said = await recorded_trim(bus)
    if said is None or (said.before, said.digest) != (cut.before, cut.digest):
        raise TrimRefused("the ledger does not say that it is trimmed there; nothing was removed")
    first = await bus.trim(cut.before)
    for entry in await archive.listed(bus):
        if entry.kept == KEPT and entry.sequence < cut.before:
            await archive.keep(bus, entry, "")
    return first


async def recorded_trim(bus: Bus) -> LedgerTrimmed | None:
    """The last trim that the ledger says of itself."""
    to = subject(Stream.LEDGER, TYPES[LedgerTrimmed][0])
    found = await bus.last_on_subject(Stream.LEDGER, to)
    if found is not None:
        with suppress(EventError):
            event = recorded(Stream.LEDGER, found).event
            if isinstance(event, LedgerTrimmed):
                return event
    return None


async def lost_beginning(bus: Bus, first: int) -> str:
    """What a ledger that begins at `first` lacks and no trim removed; "" if there is nothing."""
    if first <= 1:
        return ""
    said = await recorded_trim(bus)
    if said is None:
        return f"LEDGER begins at {first}, and no trim is on its record: 1 to {first - 1} are lost"
    if first > said.before:
        return (
            f"LEDGER begins at {first}, and was trimmed before {said.before} only: "
            f"{said.before} to {first - 1} are lost"
        )
    return ""


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
