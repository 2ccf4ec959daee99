"""`tabard ledger trim`: remove the ledger's oldest events, behind a snapshot and into a file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tabard.bus.port import Bus, Stream
from tabard.cli.failing import Failure
from tabard.cli.past import stored_by
from tabard.cli.printing import Output, show_value, tell
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row
from tabard.cli.snapshots import process
from tabard.cluster.allocators import allocator_word
from tabard.cluster.errors import NotReached
from tabard.cluster.publish import publish
from tabard.cluster.watermarks import silent, taken, watermark
from tabard.events.observed import TrimRequested
from tabard.ledger.export import ExportError
from tabard.ledger.snapshot import SnapshotError
from tabard.ledger.trimming import Cut, TrimRefused, finish, prepare, resume

PROGRESS_EVENTS = 50_000
DAY_NS = 86_400 * 1_000_000_000


def trim(
    before: int | None,
    keep_days: float | None,
    directory: Path,
    timeout_s: float,
    output: Output,
    cluster: str,
    nats: str,
) -> None:
    """Exactly one of `before` and `keep_days` is given."""

    async def work(bus: Bus, target: Target) -> Row:
        try:
            return await _trimmed(bus, before, keep_days, directory, timeout_s)
        except TrimRefused as error:
            raise Failure(str(error), "tabard snapshots list") from error
        except (ExportError, SnapshotError) as error:
            raise Failure(str(error), "tabard ledger trim --help") from error

    found = with_bus("trim the ledger", cluster, nats, work, as_admin=True)
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
        case Output.NAME:
            print(f"{Stream.LEDGER}/{found['first']}")
    if found["archive"] is None:
        tell(f"nothing to remove: all that LEDGER holds, from {found['first']} on, is to be kept")
        return
    tell(
        f"LEDGER begins at {found['first']}; {found['removed']} events before it are in "
        f"{found['archive']}"
    )


async def _trimmed(
    bus: Bus, before: int | None, keep_days: float | None, directory: Path, timeout_s: float
) -> Row:
    if (first := await resume(bus)) is not None:
        tell(f"finished a trim that was broken off: LEDGER begins at {first}")
    cut_at = await _wanted(bus, before, keep_days)
    if cut_at <= (begins := await bus.first_sequence(Stream.LEDGER)):
        return {"first": begins, "removed": 0, "archive": None, "sha256": None}
    async for place, through in _progress(bus):
        if through < cut_at:
            tell(f"{place} stands at {through}: no further")
            cut_at = through
    told = 0

    def tell_progress(at: int, end: int) -> None:
        nonlocal told
        if at - told >= PROGRESS_EVENTS:
            told = at
            tell(f"{at} of {end} events folded and written")

    cut, state = await prepare(bus, cut_at, directory, process("ledger trim"), tell_progress)
    request = TrimRequested(cut.before, cut.digest, cut.path.name, cut.sha256)
    published = await publish(bus, [request])
    try:
        async with asyncio.timeout(timeout_s):
            await taken(bus, state, published.sequences[0])
    except TimeoutError:
        raise NotReached(
            f"no allocator recorded the trim within {timeout_s:g} s; nothing was removed",
            "tabard status",
        ) from None
    return _row(cut, await finish(bus, cut))


def _row(cut: Cut, first: int) -> Row:
    return {
        "first": first,
        "removed": first - cut.first,
        "archive": str(cut.path),
        "sha256": cut.sha256.hex(),
    }


async def _wanted(bus: Bus, before: int | None, keep_days: float | None) -> int:
    """The sequence at which the ledger is to begin."""
    info = await bus.info(Stream.LEDGER)
    if before is not None:
        if before > info.last:
            raise Failure(f"LEDGER ends at {info.last}, before {before}", "tabard status")
        return before
    assert keep_days is not None
    return await stored_by(bus, Stream.LEDGER, info.now - int(keep_days * DAY_NS)) + 1


async def _progress(bus: Bus) -> AsyncIterator[tuple[str, int]]:
    """How far each live reader is that says so: what it has not seen yet must stay."""
    now = (await bus.info(Stream.LEDGER)).now
    next_word, last_word = 1, await bus.last_sequence(Stream.STATUS)
    allocators = {}
    while next_word <= last_word and (messages := await bus.read(Stream.STATUS, next_word)):
        next_word = messages[-1].sequence + 1
        for message in messages:
            word = watermark(message)
            if word is not None and not silent(word, now):
                yield f"node {word.status.node}", word.status.sequence
            if (said := allocator_word(message)) is not None:
                allocators[said.status.name] = said
    for name, said in allocators.items():
        if said.status.role != "stopped" and not said.silent(now):
            yield f"allocator {name}", said.status.sequence
