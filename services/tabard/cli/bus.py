"""`tabard bus status | check | repair`: the bus's servers, and each one's replicas."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import UNBROKEN, Bus, Stream
from tabard.cli import replicas
from tabard.cli.failing import Exit, fail, run
from tabard.cli.printing import Output, show_table, show_value, tell, tell_next
from tabard.cli.reach import Target, target, with_bus
from tabard.cluster.errors import ClusterError
from tabard.cluster.repair import Hands, SupervisedHands, check, damaged, repair, steps
from tabard.ledger.replicas import Survey, examine, read_all, survey

COLUMNS = ("SERVER", "STREAM", "ROLE", "FIRST", "LAST", "MESSAGES", "HOLES", "BEHIND", "FAULTS")
WIDE = ("ACCOUNT", "BYTES")


def show_status(output: Output, monitoring: str, cluster: str, nats: str) -> None:
    """Exit.FAILED if a server gives no answer or a replica is not as it must be."""
    what = "ask the bus's servers"
    try:
        chosen = target(cluster, nats)
        urls = replicas.monitored(chosen, monitoring)
    except ClusterError as error:
        fail(what, error)
    found = run(what, survey(urls), chosen.inside())
    _print(found, output)
    _end(found, monitoring)


def check_replicas(
    streams: Sequence[Stream], output: Output, monitoring: str, cluster: str, nats: str
) -> None:
    """Exit.FAILED as `show_status`, with what reading every replica of `streams` shows."""

    async def work(bus: Bus, chosen: Target) -> Survey:
        found = await survey(replicas.monitored(chosen, monitoring))
        for stream in streams:
            audits = await read_all(_jetstream(bus), found, stream, tell)
            found = found.read(stream, audits)
            whole = [each for each in found.of(stream) if each.good and each.server in audits]
            if not whole:
                continue
            audited = audits[whole[0].server]
            tell(
                f"{stream}/{audited.start}-{audited.through}: {len(whole)} of "
                f"{len(found.of(stream))} replicas hold the same {audited.messages} messages"
            )
            if audited.broken:
                # Nothing that a repair could mend.
                tell(f"{stream}/{audited.broken[0]} does not follow from the one before, in each")
                tell_next("tabard events verify")
        return found

    found = with_bus("read the bus's replicas", cluster, nats, work, as_admin=True)
    _print(found, output)
    _end(found, monitoring)


def repair_server(
    server: str, streams: Sequence[Stream], monitoring: str, cluster: str, nats: str
) -> None:
    """Repair `streams` at `server`, those that are damaged if none is named."""

    async def work(bus: Bus, chosen: Target) -> Survey | None:
        urls = replicas.monitored(chosen, monitoring)
        found = await examine(_jetstream(bus), urls, UNBROKEN, tell)
        hurt = damaged(found, server)
        wanted = [each for each in hurt if not streams or each in streams]
        if not wanted:
            check(found, server, ())
            named = ", ".join(streams) or "any stream"
            tell(f"the replica of {named} at {server} is whole: nothing to repair")
            return None
        for each in found.standings:
            if each.server == server and each.stream in wanted:
                tell(f"{server} {each.stream}: {'; '.join(each.faults)}")
        check(found, server, wanted)
        hands = _hands(chosen, found, server)
        if hands is None:
            print("\n".join(steps(found, server, wanted)))
            tell_next(_following("check", monitoring))
            return None
        return await repair(_jetstream(bus), urls, found, server, wanted, hands, tell)

    after = with_bus(f"repair {server}", cluster, nats, work, as_admin=True)
    if after is None:
        return
    tell(f"repaired: {server} holds what the others hold")
    _print(after, Output.TABLE)


def _hands(chosen: Target, found: Survey, server: str) -> Hands | None:
    """What stops the server, if it is one of this machine's cluster; ClusterError if it only says
    so."""
    if chosen.profile is None:
        return None
    hands = SupervisedHands(Path(chosen.profile.data))
    if not hands.runs(server):
        return None
    hands.check(found, server)
    return hands


def _jetstream(bus: Bus) -> JetStreamBus:
    assert isinstance(bus, JetStreamBus), "a command's bus has servers"
    return bus


def _print(found: Survey, output: Output) -> None:
    document = replicas.document(found)
    match output:
        case Output.JSON | Output.YAML:
            show_value(document, output)
            return
        case Output.NAME:
            for each in document["replicas"]:
                print(f"{each['server']}/{each['stream']}")
            return
    titles = COLUMNS if output is Output.TABLE else (*COLUMNS[:-1], *WIDE, COLUMNS[-1])
    show_table(titles, (_cells(each, titles) for each in document["replicas"]))


def _cells(row: dict[str, Any], titles: Sequence[str]) -> list[Any]:
    return [row[title.lower()] for title in titles]


def _following(command: str, monitoring: str) -> str:
    """A command on the bus, of the same servers that this one was told of."""
    return f"tabard bus {command}" + (f" --monitoring {monitoring}" if monitoring else "")


def _end(found: Survey, monitoring: str) -> None:
    faults = replicas.faults(found)
    for fault in faults:
        tell(fault)
    hurt = [each.server for each in found.standings if each.holes or (each.faults and each.replica)]
    if hurt:
        tell_next(_following(f"repair {hurt[0]}", monitoring))
    if faults or hurt or any(each.faults for each in found.standings):
        raise SystemExit(Exit.FAILED)
