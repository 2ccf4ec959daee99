"""`tabard get` and `tabard status`."""

from dataclasses import replace
from typing import Any

from tabard.bus.port import Bus, Stored, Stream
from tabard.cli.digests import fold_comparing
from tabard.cli.failing import Exit
from tabard.cli.kinds import SHOWN
from tabard.cli.printing import Output, as_json, show_table, tell, tell_next
from tabard.cli.reach import Target, with_bus
from tabard.cli.selector import LabelSelector
from tabard.cli.views import VIEWS, Column, Reading, Row, chosen, status
from tabard.cluster.watermarks import watermarks
from tabard.events.errors import EventError
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import recorded
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

STATUS_COLUMNS = (
    ("NODE", "name"),
    ("WATERMARK", "watermark"),
    ("LAG", "lag"),
    ("DATAPLANE", "dataplane"),
    ("ENDPOINTS", "enforced_endpoints"),
    ("MAP-WRITES", "map_writes"),
    ("DRIFT", "drift"),
    ("FULL", "full"),
    ("DIGEST", "digest"),
    ("ERROR", "error"),
)


async def read(bus: Bus, state: State) -> Reading:
    """Fold the whole ledger into `state`, and hear the nodes. Stopped as `catch_up`."""
    await catch_up(bus, state)
    return await known(bus, state)


async def known(bus: Bus, state: State) -> Reading:
    """`state` as it is, the heads of the streams, and what the nodes and the next event say."""
    observed_head = await bus.last_sequence(Stream.OBSERVED)
    next_event = state.cursors.get(Stream.OBSERVED, 0) + 1
    messages = await bus.read(Stream.OBSERVED, next_event, 1)
    return Reading(
        state,
        await watermarks(bus, state.nodes),
        observed_head,
        await bus.last_sequence(Stream.LEDGER),
        _unreadable(messages[0]) if messages else "",
    )


def _unreadable(message: Stored) -> str:
    try:
        recorded(Stream.OBSERVED, message)
    except EventError as error:
        return str(error)
    return ""


def get(
    kind: str, namespace: str, selector: LabelSelector, output: Output, cluster: str, nats: str
) -> None:
    view = VIEWS[kind]

    async def work(bus: Bus, target: Target) -> Reading:
        return await read(bus, State())

    reading = with_bus(f"get {kind}", cluster, nats, work)
    rows = chosen(view.rows(reading), view, reading.state, namespace, selector)
    match output:
        case Output.JSON:
            print(as_json({"sequence": reading.state.sequence, "items": rows}))
        case Output.NAME:
            for row in rows:
                print("/".join([SHOWN[kind][0], *(str(row[key]) for key in view.name)]))
        case _:
            wide = output is Output.WIDE
            columns = [each for each in view.columns if wide or not each.wide]
            if not rows:
                tell(f"no {kind}" + (f" in namespace {namespace}" if namespace else ""))
                return
            show_table(
                [column.title for column in columns],
                ([_shown(row[column.key], column, wide) for column in columns] for row in rows),
            )


def _shown(value: Any, column: Column, wide: bool) -> Any:
    return value if wide or column.short is None else column.short(value)


def show_status(output: Output, cluster: str, nats: str) -> None:
    async def work(bus: Bus, target: Target) -> tuple[Row, str]:
        state, trouble = State(), ""
        digests: dict[int, bytes] = {}
        try:
            await fold_comparing(bus, state, digests)
        except Stopped as error:
            # What is known up to there is what an operator needs now.
            trouble = str(error)
        reading = replace(await known(bus, state), digests=digests)
        found = status(reading) | {"cluster": _cluster(target), "error": trouble}
        return found, trouble

    found, trouble = with_bus("read the cluster's status", cluster, nats, work)
    if output is Output.JSON:
        print(as_json(found))
    else:
        _print_status(found)
    if trouble or found["diverged"]:
        raise SystemExit(Exit.FAILED)


def _cluster(target: Target) -> Row | None:
    """{name, mode, dataplane, pods, data, http} of a cluster on this machine, else null."""
    if (profile := target.profile) is None:
        return None
    return {
        "name": profile.name,
        "mode": profile.mode,
        "dataplane": profile.dataplane,
        "pods": profile.pods,
        "data": profile.data,
        "http": dict(profile.http),
    }


def _print_status(found: Row) -> None:
    if cluster := found["cluster"]:
        print(
            f"cluster    {cluster['name']}: {cluster['mode']}, {cluster['dataplane']} dataplane, "
            f"pods {cluster['pods']}"
        )
    ledger, observed = found["ledger"], found["observed"]
    enforced = "not by every node yet" if found["enforced"] is None else found["enforced"]
    print(f"ledger     head {ledger['head']}, enforced through {enforced}")
    print(f"digest     {ledger['digest']} at {ledger['sequence']}")
    print(f"observed   head {observed['head']}, taken {observed['cursor']}, lag {observed['lag']}")
    if observed["error"]:
        print(f"           stopped before {observed['error']}")
        tell_next(f"tabard events show {observed['cursor'] + 1} --stream OBSERVED")
    allocator = found["allocator"]
    print(f"allocator  {allocator['holder'] or 'none yet'}, epoch {allocator['epoch']}")
    counted = ", ".join(f"{count} {what}" for what, count in found["pods"].items())
    print(f"pods       {counted}")
    if found["quarantined"]:
        print(f"quarantined {', '.join(found['quarantined'])}")
    if found["error"]:
        print(f"error      {found['error']}")
    if found["diverged"]:
        print(
            f"DIVERGED   {', '.join(found['diverged'])}: its state is not what the ledger says; "
            "stop its agent, remove agent.db from its data directory, and start it again"
        )
        tell_next("tabard events verify")
    print()
    show_table(
        [title for title, _ in STATUS_COLUMNS],
        (
            [row[key] for _, key in STATUS_COLUMNS]
            for row in (node | {"digest": _shown_digest(node)} for node in found["nodes"])
        ),
    )


def _shown_digest(node: Row) -> str:
    """`3fa9c1d2@881`, loud if it is not the ledger's, with a question mark if not compared."""
    if not node["digest"]:
        return ""
    mark = {True: "", False: " DIFFERS", None: "?"}[node["digest_agrees"]]
    return f"{node['digest'][:8]}@{node['digest_at']}{mark}"
