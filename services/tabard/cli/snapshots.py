"""`tabard snapshots list | take | verify`: the ledger's state as the bus keeps it."""

import os
import socket

from tabard.bus.port import Bus, Stream
from tabard.cli.failing import Exit, Failure
from tabard.cli.printing import Output, show_table, show_value, tell, tell_next
from tabard.cli.reach import Target, with_bus
from tabard.cli.records import Row, date
from tabard.cli.tables import Column, laid_out
from tabard.ledger import archive
from tabard.ledger.archive import Entry, Frozen
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.reader import Stopped
from tabard.ledger.snapshot import SnapshotError
from tabard.ledger.start import begin
from tabard.ledger.state import State


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"


COLUMNS = (
    Column("SEQUENCE", "sequence"),
    Column("STORED", "stored_at", form=date),
    Column("SIZE", "bytes", form=_size),
    Column("KEPT", "kept"),
    Column("BY", "by"),
    Column("RELEASE", "release", wide=True),
    Column("SCHEMA", "schema", wide=True),
    Column("DIGEST", "digest", wide=True),
)
VERIFIED = (
    Column("SEQUENCE", "sequence"),
    Column("GOOD", "good", form=lambda good: "yes" if good else "no"),
    Column("FROM", "proven_from"),
    Column("REASON", "reason"),
)


def _row(entry: Entry) -> Row:
    return {
        "sequence": entry.sequence,
        "stored_at": entry.info.stored_at,
        "bytes": entry.info.size,
        "kept": entry.kept,
        "by": entry.by,
        "release": entry.release,
        "schema": entry.schema,
        "digest": entry.digest,
    }


def listing(output: Output, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> Row:
        info = await bus.info(Stream.LEDGER)
        rows = [_row(entry) for entry in await archive.listed(bus)]
        return {"first": info.first, "head": info.last, "snapshots": rows}

    found = with_bus("list the snapshots", cluster, nats, work)
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
        case Output.NAME:
            for each in found["snapshots"]:
                print(each["sequence"])
        case _:
            if found["snapshots"]:
                show_table(*laid_out(COLUMNS, found["snapshots"], wide=output is Output.WIDE))
            tell(f"LEDGER holds {found['first']} to {found['head']}")


def take(output: Output, cluster: str, nats: str) -> None:
    """A snapshot of the ledger's end, folded here."""

    async def work(bus: Bus, target: Target) -> Row:
        state = await catch_up(bus, State())
        if state.sequence == 0:
            raise Failure("LEDGER is empty: there is nothing to keep", "tabard status")
        try:
            entry = await archive.store(bus, Frozen.of(state), process("snapshots take"))
        except SnapshotError as error:
            raise Failure(str(error), "tabard events verify") from error
        for old in await archive.prune(bus):
            tell(f"removed {old.place}: {archive.NEWEST_KEPT} newer ones are there")
        return _row(entry)

    found = with_bus("take a snapshot", cluster, nats, work, as_admin=True)
    _show(found, [found], COLUMNS, output)


def process(command: str) -> str:
    """Who makes a snapshot by a command."""
    return f"tabard {command}, {socket.gethostname()}/{os.getpid()}"


def verify(output: Output, cluster: str, nats: str) -> None:
    """Exit.FAILED if one must not be taken, or is not what the ledger comes to there."""

    async def work(bus: Bus, target: Target) -> Row:
        return {"snapshots": await _verified(bus)}

    found = with_bus("verify the snapshots", cluster, nats, work)
    _show(found, found["snapshots"], VERIFIED, output)
    if not all(each["good"] for each in found["snapshots"]):
        tell_next("tabard snapshots take")
        raise SystemExit(Exit.FAILED)


async def _verified(bus: Bus) -> list[Row]:
    """Each snapshot, oldest first, held against the log folded from its first event or, if that is
    trimmed away, from the first snapshot that is good by itself."""
    first = await bus.first_sequence(Stream.LEDGER)
    state = State()
    start = 0
    rows = []
    for entry in reversed(await archive.listed(bus)):
        row: Row = {"sequence": entry.sequence, "good": False, "proven_from": None, "reason": ""}
        rows.append(row)
        try:
            found = await archive.load(bus, entry)
        except SnapshotError as error:
            row["reason"] = str(error)
            continue
        try:
            if first == 1 or state.sequence:
                await catch_up(bus, state, entry.sequence, observe=lambda record: None)
            else:
                begun = await begin(bus, state, entry.sequence)
                start = begun.sequence if begun is not None else 0
        except Stopped as error:
            row["reason"] = f"the ledger cannot be folded up to it: {error}"
            continue
        if digest(state) != digest(found):
            row["reason"] = f"the ledger folded from {start + 1} on comes to another digest"
            continue
        row |= {"good": True, "proven_from": start}
    return rows


def _show(found: Row, rows: list[Row], columns: tuple[Column, ...], output: Output) -> None:
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
        case Output.NAME:
            for each in rows:
                print(each["sequence"])
        case _ if rows:
            show_table(*laid_out(columns, rows, wide=output is Output.WIDE))
        case _:
            tell("there is no snapshot")
