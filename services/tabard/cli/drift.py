"""`tabard drift`: does each node's kernel hold what the ledger says, or said?"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from tabard.bus.port import Bus, Stream
from tabard.cli import since
from tabard.cli.failing import Exit, Failure, fail, run
from tabard.cli.get import named, none
from tabard.cli.moments import At
from tabard.cli.past import as_of, sequence_at, stored_at
from tabard.cli.printing import Output, show_line, show_next, show_table, show_value, table, tell
from tabard.cli.reach import Target, target, with_bus
from tabard.cli.records import Row
from tabard.cli.selector import LabelSelector
from tabard.cli.tables import Column, laid_out
from tabard.cli.watching import differences, lasting
from tabard.cluster.errors import ClusterError
from tabard.cluster.gate import ask
from tabard.cluster.kernels import TIMEOUT_S
from tabard.cluster.profile import Profile
from tabard.cluster.watermarks import Watermark, watermark, watermarks
from tabard.dataplane.differences import KINDS, Difference
from tabard.identity.labels import HOSTNAME

WHAT = "look for drift"
SPACING_S = 1.0
"""Shortest time between two questions to one node: each reads all of its maps."""


def _counted(kind: str) -> Callable[[Row], Any]:
    """How many entries are of `kind`; nothing of a node that could not be asked."""
    return lambda row: None if row["error"] else len(row[kind])


COLUMNS = (
    Column("NODE", "node"),
    Column("SEQUENCE", "sequence"),
    *(Column(kind.upper(), kind, whole=_counted(kind)) for kind in KINDS),
    Column("ERROR", "error"),
)
ENTRIES = tuple(Column(key.upper(), key) for key in ("node", "map", "key", "held", "wanted"))
VOLATILE = frozenset({"sequence"})


def drift(
    node: str,
    selector: LabelSelector,
    at: At | None,
    follow: bool,
    timeout_s: float | None,
    output: Output,
    cluster: str,
) -> None:
    """Exit.FAILED if a node differs, or could not be asked.

    `follow`: go on with what changes, for `timeout_s` if not None.
    """
    try:
        profile = target(cluster, "").profile
        if profile is None:
            raise Failure(
                "agents are asked on their own machine, and no cluster of this one is meant"
            )
        names = _chosen(profile, node, selector)
    except ClusterError as error:
        fail(WHAT, error)

    if not names:
        tell(none("nodes", "", len(profile.nodes)))

    async def compared(bus: Bus, _: Target) -> list[Row]:
        through = await sequence_at(bus, at)
        if output in (Output.TABLE, Output.WIDE):
            tell(await as_of(bus, through))
        found = await since.compared(bus, profile, names, through)
        _show(found, output, through, await stored_at(bus, through))
        return found

    async def watched(bus: Bus, _: Target) -> list[Row]:
        return await _watch(bus, profile, names, timeout_s, output)

    if at is not None or follow:
        found = with_bus(WHAT, cluster, "", compared if at is not None else watched)
    else:
        found = run(WHAT, asked(profile, names))
        _show(found, output)
    if any(each["error"] or each["count"] for each in found):
        raise SystemExit(Exit.FAILED)


def _chosen(profile: Profile, node: str, selector: LabelSelector) -> tuple[str, ...]:
    if node and node not in profile.nodes:
        raise Failure(
            f"cluster {profile.name} has no node {node!r}: {', '.join(profile.nodes)}",
            "tabard get nodes",
        )
    names = (node,) if node else profile.nodes
    return tuple(name for name in names if selector({HOSTNAME: name}))


async def asked(profile: Profile, names: Iterable[str]) -> list[Row]:
    """What each node's agent finds, in order."""

    async def one(node: str) -> Row:
        try:
            answer = await ask(profile.socket(node), "drift", TIMEOUT_S)
        except ClusterError as error:
            return since.row(node, error=str(error))
        found = [Difference(**each) for each in answer["entries"]]
        return since.row(node, answer["sequence"], found, answer["count"])

    return list(await asyncio.gather(*map(one, names)))


async def _watch(
    bus: Bus, profile: Profile, names: tuple[str, ...], timeout_s: float | None, output: Output
) -> list[Row]:
    """Show all nodes, then each again whose answer changed; what was found last.

    One is asked again when its watermark moved, its agent tells of drift or trouble, or it speaks
    and could not be asked before.
    """
    start = await bus.last_sequence(Stream.STATUS) + 1
    said = {name: _mark(word) for name, word in (await watermarks(bus, names)).items()}
    found = {each["node"]: each for each in await asked(profile, names)}
    _show_news({}, found, output)
    async with lasting(timeout_s), aclosing(bus.tail(Stream.STATUS, start)) as batches:
        async for messages in batches:
            words = {word.status.node: word for word in filter(None, map(watermark, messages))}
            marks = {name: _mark(words[name]) for name in names if name in words}
            moved = [
                name
                for name, mark in marks.items()
                if said.get(name) != mark or found[name]["error"]
            ]
            said |= marks
            if not moved:
                continue
            before = found
            found = found | {each["node"]: each for each in await asked(profile, moved)}
            _show_news(before, found, output)
            await asyncio.sleep(SPACING_S)
    return list(found.values())


def _mark(word: Watermark) -> tuple[int, int, str]:
    return word.status.sequence, word.status.drift, word.status.error


def _show_news(before: Mapping[str, Row], after: Mapping[str, Row], output: Output) -> None:
    """Print the nodes that differ from before to after, by name."""
    names = [row["node"] for _, row in differences(before, after, VOLATILE)]
    news = [after[name] for name in names]
    if not news:
        return
    match output:
        case Output.JSON | Output.YAML:
            show_next(_document(list(after.values())), output)
        case Output.TABLE if before:
            _, *lines = table(*laid_out(COLUMNS, after.values(), wide=False))
            for name, line in zip(after, lines, strict=True):
                if name in names:
                    show_line(line)
            _tell_entries(news)
        case _:
            _show(news, output)


def _document(found: list[Row], through: int | None = None, stored: int | None = None) -> Row:
    return {"sequence": through, "stored_at": stored, "nodes": found}


def _show(
    found: list[Row], output: Output, through: int | None = None, stored: int | None = None
) -> None:
    match output:
        case Output.JSON | Output.YAML:
            show_value(_document(found, through, stored), output)
        case Output.NAME:
            for each in found:
                if each["count"]:
                    print(named("nodes", {"name": each["node"]}), flush=True)
        case Output.WIDE:
            rows = [{"node": each["node"], **one} for each in found for one in each["entries"]]
            if rows:
                show_table(*laid_out(ENTRIES, rows, wide=True))
            for each in found:
                if not each["count"] and not each["error"]:
                    tell(f"{each['node']}: no entry differs at {each['sequence']}")
        case _:
            show_table(*laid_out(COLUMNS, found, wide=False))
            _tell_entries(found)
    for each in found:
        if each["error"] and output in (Output.WIDE, Output.NAME):
            tell(f"{each['node']}: {each['error']}")


def _tell_entries(found: Iterable[Row]) -> None:
    for each in found:
        for kind in KINDS:
            for entry in each[kind]:
                tell(f"{each['node']}: {kind}: {entry}")
        if each["count"] > len(each["entries"]):
            tell(f"{each['node']}: {each['count']} entries differ; not all are listed")
