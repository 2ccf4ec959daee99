"""`tabard status`: how far ledger, allocator and each node are."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tabard.bus.port import Bus
from tabard.cli.digests import fold_comparing
from tabard.cli.failing import Exit
from tabard.cli.get import known, named, past
from tabard.cli.moments import At
from tabard.cli.past import sequence_at
from tabard.cli.printing import (
    Output,
    capped,
    coloured,
    show_line,
    show_lines,
    show_next,
    show_value,
    styled,
    table,
    tell_next,
)
from tabard.cli.reach import Target, target, with_bus
from tabard.cli.records import Row, date
from tabard.cli.replicas import found_by_allocators, word
from tabard.cli.selector import LabelSelector
from tabard.cli.tables import VIEWS, Column, chosen, laid_out, trouble
from tabard.cli.views import Reading, status
from tabard.cli.watching import differences, watch
from tabard.cluster.allocators import Allocators
from tabard.cluster.errors import ClusterError
from tabard.cluster.watermarks import Watermark
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

QUARANTINED_SHOWN = 10
LOOK_S = 5.0
"""How often -w asks the bus's servers for what they count."""


def _digest(node: Row) -> str:
    """`3fa9c1d2@881`, loud if it is not the ledger's, with a question mark if not compared."""
    if not node["digest"]:
        return ""
    mark = {True: "", False: " DIFFERS", None: "?"}[node["digest_agrees"]]
    return f"{node['digest'][:8]}@{node['digest_at']}{mark}"


def _stale(node: Row) -> str:
    """What becomes of new flows while the node does not know for too long what the ledger says."""
    if node["stale_since"] is None:
        return ""
    return "denies new" if node["denies_new"] else "holds"


def _holder(node: Row) -> str:
    holder = node["holder"]
    return f"{holder['pid']} on {holder['host']}" if holder else ""


def _age(age_ms: int) -> str:
    return f"{age_ms / 1000:.1f} s"


ALLOCATORS = (
    Column("ALLOCATOR", "name"),
    Column("STATUS", "status"),
    Column("EPOCH", "epoch"),
    Column("SEQUENCE", "sequence"),
    Column("LAG", "lag"),
    Column("CURSOR", "cursor"),
    Column("OBSERVED-LAG", "observed_lag"),
    Column("WAITING", "waiting", wide=True),
    Column("SUPERSEDED", "superseded", wide=True),
    Column("SAID", "age_ms", form=_age),
    Column("HOLDER", "holder", wide=True),
    Column("ERROR", "error"),
)
RESTLESS = frozenset({"said_at", "age_ms"})
"""Keys of an allocator whose change alone is no news."""
COLUMNS = (
    Column("NODE", "name"),
    Column("STATUS", "status"),
    Column("WATERMARK", "watermark"),
    Column("LAG", "lag"),
    Column("LAG-MS", "lag_ms"),
    Column("SAID", "said_at", wide=True, form=date),
    Column("DATAPLANE", "dataplane"),
    Column("ENDPOINTS", "enforced_endpoints"),
    Column("MAP-WRITES", "map_writes", wide=True),
    Column("DRIFT", "drift"),
    Column("FULL", "full"),
    Column("STALE", "stale_since", whole=_stale),
    Column("FRESH", "fresh_at", wide=True, form=date),
    Column("HOLDER", "holder", wide=True, whole=_holder),
    Column("DIGEST", "digest", whole=_digest),
    Column("ADDRESSES", "addresses", wide=True),
    Column("POD-CIDRS", "pod_cidrs", wide=True),
    Column("ERROR", "error", whole=trouble),
)


def show_status(
    selector: LabelSelector,
    at: At | None,
    follow: bool,
    timeout_s: float | None,
    output: Output,
    cluster: str,
    nats: str,
) -> None:
    """`follow`: go on with what changes, for `timeout_s` if not None."""

    # Before the loop enters the bus's network namespace: services' pages are the host's.
    read = _found_by_allocators(cluster, nats) if at is None else {}

    async def work(bus: Bus, reached: Target) -> bool:
        state, trouble, roll = State(), "", Allocators()
        replicas = await word(reached, read) if at is None else None
        digests: dict[int, bytes] = {}
        through = await sequence_at(bus, at)
        try:
            if at is None:
                await fold_comparing(bus, state, digests, through)
            else:
                await catch_up(bus, state, through)
        except Stopped as error:
            # What is known up to there is what an operator needs now.
            trouble = str(error)

        def document(reading: Reading) -> Row:
            if reading.state.sequence not in digests:
                digests[reading.state.sequence] = digest(reading.state)
            reading, view = replace(reading, digests=digests), VIEWS["nodes"]
            rows = chosen(view.rows(reading), view, reading.state, "", selector)
            own = {"cluster": _cluster(reached), "bus": replicas, "error": trouble}
            return status(reading, rows) | own

        async def present(
            bus: Bus, state: State, words: dict[str, Watermark] | None = None
        ) -> Reading:
            said = await roll.heard(bus)
            return replace(await known(bus, state, words), allocators=said)

        found = document(await present(bus, state) if at is None else await past(bus, state))
        if not follow or trouble:
            _print(found, output)
            return bool(trouble or found["diverged"])
        with _showing(output) as show:
            show(found)

            def go_on(reading: Reading) -> None:
                nonlocal found
                # A node takes its digest where the ledger rests, and so is one taken here.
                spoken = {word.status.digest_at for word in reading.words.values()}
                for sequence in digests.keys() - spoken - {reading.state.sequence}:
                    del digests[sequence]
                found = document(reading)
                show(found)

            async def look() -> None:
                nonlocal replicas
                while True:
                    await asyncio.sleep(LOOK_S)
                    replicas = await word(reached, read)

            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(look(), name="status.replicas")
                try:
                    await watch(bus, state, present, go_on, timeout_s)
                finally:
                    looking.cancel()
        return bool(found["diverged"])

    if with_bus("read the cluster's status", cluster, nats, work):
        raise SystemExit(Exit.FAILED)


def _found_by_allocators(cluster: str, nats: str) -> dict[tuple[str, str], int]:
    try:
        return found_by_allocators(target(cluster, nats))
    except ClusterError:
        return {}  # told when the command itself looks for the cluster


def _cluster(chosen: Target) -> Row | None:
    if (profile := chosen.profile) is None:
        return None
    return {
        "name": profile.name,
        "mode": profile.mode,
        "dataplane": profile.dataplane,
        "pods": profile.pods,
        "data": profile.data,
        "http": dict(profile.http),
    }


def _print(found: Row, output: Output) -> None:
    match output:
        case Output.JSON | Output.YAML:
            show_value(found, output)
            return
        case Output.NAME:
            _print_names(found["nodes"])
            return
    show_lines(_lines(found, output is Output.WIDE))
    observed = found["observed"]
    if observed["error"]:
        tell_next(f"tabard events show {observed['cursor'] + 1} --stream OBSERVED")
    if found["bus"] and found["bus"]["faults"]:
        tell_next("tabard bus check")
    if found["error"]:
        tell_next(f"tabard events show {found['ledger']['sequence'] + 1}")
    if found["diverged"]:
        tell_next("tabard events verify")


@contextmanager
def _showing(output: Output) -> Iterator[Callable[[Row], None]]:
    """What takes each status as it changes: drawn anew at a terminal, else what differs printed."""
    wide = output is Output.WIDE
    if (wide or output is Output.TABLE) and coloured(sys.stdout):
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(), auto_refresh=False) as live:
            lines = Text("\n")
            yield lambda found: live.update(
                lines.join(styled(*each) for each in _lines(found, wide)), refresh=True
            )
    else:
        before: list[Row] = []

        def tell(found: Row) -> None:
            old = before[-1] if before else None
            match output:
                case Output.JSON | Output.YAML:
                    if old is None or _news(old, found):
                        show_next(found, output)
                case Output.NAME:
                    _print_names(row for _, row in _changes(old, found))
                case _:
                    _print_changed(old, found, wide)
            before[:] = [found]

        yield tell


def _news(before: Row, after: Row) -> bool:
    """Whether more than the clocks of nodes and allocators went on."""
    rest = any(before[key] != after[key] for key in after if key not in ("nodes", "allocators"))
    return rest or bool(_changes(before, after) or _turns(before, after))


def _turns(before: Row | None, after: Row) -> list[tuple[str, Row]]:
    """Changes of allocators."""
    old = {row["name"]: row for row in before["allocators"]} if before else {}
    return list(differences(old, {row["name"]: row for row in after["allocators"]}, RESTLESS))


def _changes(before: Row | None, after: Row) -> list[tuple[str, Row]]:
    old = {row["name"]: row for row in before["nodes"]} if before else {}
    new = {row["name"]: row for row in after["nodes"]}
    return list(differences(old, new, VIEWS["nodes"].volatile))


def _print_names(rows: Iterable[Row]) -> None:
    for row in rows:
        print(named("nodes", row), flush=True)


def _print_changed(before: Row | None, found: Row, wide: bool) -> None:
    if before is None:
        show_lines(_lines(found, wide))
        return
    known = _head(before, wide)
    for line in _head(found, wide):
        if line not in known:
            show_line(line)
    turned = {row["name"] for event, row in _turns(before, found) if event != "DELETED"}
    _, *rows = _allocators(found, wide)
    for row, line in zip(found["allocators"], rows, strict=True):
        if row["name"] in turned:
            show_line(line)
    _, *rows = _nodes(found, wide)
    changed = {row["name"] for event, row in _changes(before, found) if event != "DELETED"}
    for row, line in zip(found["nodes"], rows, strict=True):
        if row["name"] in changed:
            show_line(line)


def _lines(found: Row, wide: bool) -> list[tuple[str, str]]:
    """Each with its style at a terminal."""
    lines = [(line, "") for line in _head(found, wide)]
    tables = [_nodes(found, wide)]
    if found["allocators"]:
        tables.insert(0, _allocators(found, wide))
    for titles, *rows in tables:
        lines += [("", ""), (titles, "bold"), *((row, "") for row in rows)]
    return lines


def _allocators(found: Row, wide: bool) -> list[str]:
    return table(*laid_out(ALLOCATORS, found["allocators"], wide=wide))


def _nodes(found: Row, wide: bool) -> list[str]:
    return table(*laid_out(COLUMNS, found["nodes"], wide=wide))


def _head(found: Row, wide: bool) -> list[str]:
    lines = []
    if cluster := found["cluster"]:
        lines.append(
            f"cluster    {cluster['name']}: {cluster['mode']}, {cluster['dataplane']} dataplane, "
            f"pods {cluster['pods']}"
        )
        if wide:
            lines.append(f"data       {cluster['data']}")
            width = max(map(len, cluster["http"]), default=0)
            for name, url in cluster["http"].items():
                lines.append(f"service    {name:<{width}}   {url}")
    ledger, observed = found["ledger"], found["observed"]
    if observed["head"] is None:  # the past
        stored = ledger["stored_at"]
        when = "before the first event" if stored is None else f"stored {date(stored)}"
        lines.append(f"ledger     as of {ledger['sequence']}, {when}; head {ledger['head']}")
        lines.append(f"digest     {ledger['digest']}")
        lines.append(f"observed   taken {observed['cursor']}")
    else:
        enforced = "not by every node yet" if found["enforced"] is None else found["enforced"]
        lines.append(f"ledger     head {ledger['head']}, enforced through {enforced}")
        lines.append(f"digest     {ledger['digest']} at {ledger['sequence']}")
        lines.append(
            f"observed   head {observed['head']}, taken {observed['cursor']}, lag {observed['lag']}"
        )
    if bus := found["bus"]:
        # Of a server that gives no answer nothing is known but that.
        is_damaged = len(bus["faults"]) > bus["servers"] - bus["answering"]
        whole = "DAMAGED" if is_damaged else "replicas as they must be, by their counts"
        lines.append(f"bus        {bus['answering']} of {bus['servers']} servers answer, {whole}")
        lines += [f"           {fault}" for fault in bus["faults"]]
    if observed["error"]:
        lines.append(f"           stopped before {observed['error']}")
    allocator = found["allocator"]
    lines.append(f"allocator  {allocator['holder'] or 'none yet'}, epoch {allocator['epoch']}")
    lines.append(f"enforcement {found['enforcement']}")
    counted = ", ".join(f"{count} {what}" for what, count in found["pods"].items())
    lines.append(f"pods       {counted}")
    if exhausted := found["exhausted"]:
        heaviest = ", ".join(f"{each['key']} ({each['values']})" for each in exhausted["heaviest"])
        lines.append(
            f"EXHAUSTED  no identity number is free, {exhausted['identities']} are in use; most "
            f"values: {heaviest}"
        )
    if skipped := found["quarantined"]:
        shown = skipped if wide else capped(skipped, QUARANTINED_SHOWN)
        lines.append(f"quarantined {', '.join(shown)}")
    if found["error"]:
        lines.append(f"error      {found['error']}")
    if found["diverged"]:
        lines.append(
            f"DIVERGED   {', '.join(found['diverged'])}: its state is not what the ledger says; "
            "stop its agent, remove agent.db from its data directory, and start it again"
        )
    return lines
