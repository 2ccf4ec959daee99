"""Where a reader that knows nothing begins: at a snapshot, or at the ledger's first event.

Everyone who folds the ledger starts here: agents and allocators without a checkpoint that fits,
sources, and each command that reads.
"""

import dataclasses

import structlog

from tabard.bus.port import Bus, BusError, Stream
from tabard.ledger import archive
from tabard.ledger.snapshot import SnapshotError
from tabard.ledger.state import State

_log = structlog.get_logger()


class TrimmedAway(BusError):
    """What is asked for was trimmed away, and no snapshot leads there; says what does."""


async def begin(
    bus: Bus, state: State, through: int | None = None, *, whole: bool = False
) -> archive.Entry | None:
    """Put into the empty `state` what the newest good snapshot through `through` (None: any) says.

    Returns that snapshot; None, and `state` stays empty, if there is none to take: then the whole
    log is there to be read. Refused ones are logged, and older ones tried. `whole`: for who wants
    to see as many events as are kept, the log if it has its beginning, else the oldest snapshot.

    Raises TrimmedAway if the log has not its beginning and no snapshot is left to go on from.
    """
    assert state.sequence == 0, "only who knows nothing begins at a snapshot"
    first = await bus.first_sequence(Stream.LEDGER)
    if whole and first == 1:
        return None
    usable = [
        entry
        for entry in await archive.listed(bus)
        # The event at a snapshot's sequence must be there: it vouches for the snapshot.
        if entry.sequence >= first and (through is None or entry.sequence <= through)
    ]
    refused = ""
    for entry in reversed(usable) if whole else usable:
        try:
            found = await archive.load(bus, entry)
        except SnapshotError as error:
            refused = refused or f" ({error})"
            _log.warning("snapshot.refused", sequence=entry.sequence, reason=str(error))
            continue
        for field in dataclasses.fields(State):
            setattr(state, field.name, getattr(found, field.name))
        _log.info("snapshot.taken", sequence=entry.sequence)
        return entry
    if first > 1 and (through is None or through >= first):
        raise TrimmedAway(
            f"LEDGER begins at {first}, and no snapshot leads on from there"
            f"{refused or ': the bucket has none of then'}; put one back from a copy"
        )
    if first > 1 and through:
        raise TrimmedAway(_away(through, first))
    return None


async def refuse_trimmed(bus: Bus, state: State) -> None:
    """TrimmedAway if the ledger was trimmed beyond what `state` needs next."""
    first = await bus.first_sequence(Stream.LEDGER)
    if state.sequence + 1 < first:
        raise TrimmedAway(_away(state.sequence + 1, first))


def _away(sequence: int, first: int) -> str:
    return (
        f"LEDGER begins at {first}: {sequence} was trimmed away; the archive of that trim has it "
        "(--nats file:ARCHIVE reads it)"
    )
