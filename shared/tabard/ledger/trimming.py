"""Trimming the ledger: what may go, made sure of and written to a file before it does.

After a trim the ledger begins at an event where a snapshot is, which that event vouches for. Before
anything goes, the log is folded once more, through there and on to the next snapshot that somebody
else made, and must come to its digest; a snapshot of the cut is stored; all before the cut is in a
file that was read back; and the ledger itself says that it is trimmed. Then what stands before the
cut is removed, never more, whatever dies on the way.
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
from tabard.ledger.archive import Frozen
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
    """A trim made ready: the ledger is to begin at `before`, where a snapshot with this digest is.

    `path` has all events from `first` on up to there, and `sha256` is of this file.
    """

    first: int
    before: int
    digest: bytes
    path: Path
    sha256: bytes


async def prepare(
    bus: Bus, before: int, directory: Path, by: str, tell: Callable[[int, int], None]
) -> tuple[Cut, State]:
    """Make sure of all that a trim before `before` needs, and write its file.

    Returns a state somewhere behind the cut too. `by` is the process; `tell` is told (folded
    through, through what) now and then. Raises TrimRefused, ExportError, SnapshotError, and Stopped
    if the log is not what it must be.
    """
    first = await bus.first_sequence(Stream.LEDGER)
    if before <= first:
        raise TrimRefused(f"LEDGER begins at {first}: nothing stands before {before}")
    witness, attested = await _witness(bus, before)
    state = State()
    await begin(bus, state, before, whole=True)
    if state.sequence > first:
        raise TrimRefused(
            f"snapshot {first}, where LEDGER begins, cannot be taken, so what follows it cannot be "
            "made sure of; put it back from a copy"
        )
    path = directory / f"LEDGER-{first}-{before - 1}.jsonl.gz"
    with Export(path) as export:
        await _fold(bus, state, first, before, tell, export)
        frozen, found = Frozen.of(state), digest(state)
        await _fold(bus, state, before + 1, witness.sequence, tell)
        if digest(state) != attested:
            raise TrimRefused(
                f"{witness.place} is not what the ledger comes to there: one of the two is wrong; "
                "tabard snapshots verify says more"
            )
    count = sum(1 for _ in exported([path]))
    if count != before - first:
        raise ExportError(f"{path} has {count} events, and {before - first} were written")
    await archive.store(bus, frozen, by, KEPT)
    return Cut(first, before, found, path, _sha256(path)), state


async def _fold(
    bus: Bus,
    state: State,
    at: int,
    through: int,
    tell: Callable[[int, int], None],
    export: Export | None = None,
) -> None:
    """Fold the log from `at`, where `state` may be already, and write all but its last event."""
    while at <= through:
        read = await bus.read(Stream.LEDGER, at)
        messages = [message for message in read if message.sequence <= through]
        if not messages:
            raise TrimRefused(f"LEDGER ends at {at - 1}, before {through}")
        await take_or_ask(bus, state, [each for each in messages if each.sequence > state.sequence])
        if export is not None:
            export.add(each for each in messages if each.sequence < through)
        at = messages[-1].sequence + 1
        tell(at - 1, through)


async def _witness(bus: Bus, before: int) -> tuple[archive.Entry, bytes]:
    """The first good snapshot behind `before`, and its state's digest."""
    refused = ""
    for entry in reversed(await archive.listed(bus)):
        if entry.sequence <= before:
            continue
        try:
            return entry, digest(await archive.load(bus, entry))
        except SnapshotError as error:
            refused = refused or f" ({error})"
    raise TrimRefused(
        f"no good snapshot stands behind {before}{refused}; nothing goes ahead of one"
    )


async def resume(bus: Bus) -> int | None:
    """Finish a trim that is on the record and was broken off; the first sequence that is left.

    None if there is none, or its snapshot is no longer good: then what is there stays.
    """
    said = await recorded_trim(bus)
    if said is None or await bus.first_sequence(Stream.LEDGER) >= said.before:
        return None
    for entry in await archive.listed(bus):
        if entry.sequence == said.before:
            try:
                if digest(await archive.load(bus, entry)) == said.digest:
                    return await bus.trim(said.before)
            except SnapshotError:
                return None
    return None


async def finish(bus: Bus, cut: Cut) -> int:
    """Trim, once the ledger says that it is; the first sequence that is left. Snapshots that stand
    before it go too.

    TrimRefused if the ledger does not say so.
    """
    said = await recorded_trim(bus)
    if said is None or (said.before, said.digest) != (cut.before, cut.digest):
        raise TrimRefused("the ledger does not say that it is trimmed there; nothing was removed")
    first = await bus.trim(cut.before)
    for entry in await archive.listed(bus):
        if entry.sequence < first:
            await bus.objects.delete(entry.info)  # its event is gone, so it would be refused
        elif entry.kept == KEPT and entry.sequence != cut.before:
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
