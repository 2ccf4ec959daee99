"""`tabard doctor`: is it the machine, is it the cluster, and what is to be typed?"""

import asyncio
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tabard.bus.port import Bus, BusError, Stream
from tabard.cli import reach
from tabard.cli.failing import Exit, fail, run
from tabard.cli.metrics import rows as services
from tabard.cli.printing import Output, show_table, show_value, tell, tell_next
from tabard.cli.reach import Target, target
from tabard.cli.replicas import found_by_allocators, word
from tabard.cluster import guard, health, machine, profile
from tabard.cluster.checkup import Check, Outcome, fault, ok, warn
from tabard.cluster.errors import ClusterError, NoCluster
from tabard.netns.enter import NamespaceError

BUS_S_MAX = 3.0
"""Longest wait for a connection."""
CLUSTER_S_MAX = 60.0
COLUMNS = ("CHECK", "OUTCOME", "FACT", "NEXT")
"""The last is shown by `-o wide`; stderr says it in any case."""
BUS_LOGS = "**/nats-server.log"
"""Of its only server, or of each, below the bus's directory."""
_STANDS = re.compile(r"stands before (LEDGER|OBSERVED)/(\d+)")
"""In a service's reason: what it waits for an operator's word about."""


def doctor(output: Output, cluster: str, nats: str) -> None:
    """Exit.FAILED if a check found a fault."""
    chosen: Target | None = None
    without: Check | None = None
    try:
        chosen = target(cluster, nats)
    except NoCluster as error:
        if cluster:
            fail("examine the cluster", error)
        # A dead one, several, or another user's: something is to be typed.
        some = profile.names(profile.run_directory()) or profile.roots_may_run()
        without = warn("cluster", str(error), error.next) if some else ok("cluster", str(error))
    except ClusterError as error:
        fail("examine the cluster", error)
    checks = list(machine.examine())
    if without is not None:
        checks.append(without)
    if chosen is not None:
        checks += _guard(chosen)
        checks += _cluster(chosen)
        checks += _services(chosen)
    _print(checks, output)
    if any(check.outcome is Outcome.FAULT for check in checks):
        raise SystemExit(Exit.FAILED)


def _guard(chosen: Target) -> Iterable[Check]:
    """Of a cluster's own bus; whoever guards another one sees to it by `tabard auth list`."""
    if chosen.profile is not None and (at := guard.place(Path(chosen.profile.data))).exists():
        try:
            yield guard.examined(guard.given(at), datetime.now(UTC))
        except ClusterError as error:
            yield fault("guard", str(error), error.next)


def _cluster(chosen: Target) -> list[Check]:
    # Before the loop enters the bus's network namespace: services' pages are the host's.
    read = found_by_allocators(chosen)
    try:
        with chosen.inside():
            return run("examine the cluster", _examined(chosen, read))
    except NamespaceError as error:
        return [fault("bus", str(error), "tabard down")]


async def _examined(chosen: Target, read: Mapping[tuple[str, str], int]) -> list[Check]:
    """What is found, as far as the bus answers."""
    found: list[Check] = []
    try:
        async with asyncio.timeout(CLUSTER_S_MAX), reach.connected(chosen, BUS_S_MAX) as bus:
            async for check in health.examine(bus):
                found.append(check)
            found += await _replicas(bus, chosen, read)
    except (BusError, TimeoutError) as error:
        reason = str(error) or f"no end within {CLUSTER_S_MAX:g} s"
        found.append(fault("bus", reason, _bus_log(chosen)))
    return found


async def _replicas(
    bus: Bus, chosen: Target, read: Mapping[tuple[str, str], int]
) -> Iterable[Check]:
    """What each of the bus's servers stores, as far as it is known where to ask them."""
    found = await word(chosen, read)
    if found is None:
        if (await bus.info(Stream.LEDGER)).replicas > 1:
            fact = "only the leaders' were examined: where servers are monitored is not known"
            return [warn("replicas", fact, "tabard bus check --monitoring http://HOST:8222,…")]
        return []
    if found["faults"]:
        return [fault("replicas", "; ".join(found["faults"]), "tabard bus check")]
    return [ok("replicas", f"{found['servers']} servers count what they must")]


def _bus_log(chosen: Target) -> str:
    if chosen.profile is not None:
        logs = sorted((Path(chosen.profile.data) / "bus").glob(BUS_LOGS))
        if logs:
            return f"less {' '.join(map(str, logs))}"
    return f"nats server check connection -s {','.join(chosen.nats)}"


def _services(chosen: Target) -> Iterable[Check]:
    if chosen.profile is None:
        return
    for row in services(chosen.profile):
        name = f"service {row['name']}"
        if row["ready"]:
            yield ok(name, f"ready at {row['url']}")
        elif stands := _STANDS.search(row["reason"]):
            shown = f"tabard events show {stands[2]} --stream {stands[1]}"  # tells how to go on
            yield fault(name, row["reason"], shown)
        else:
            yield fault(name, row["reason"], f"less {chosen.profile.data}/logs/{row['name']}.log")


def _print(checks: list[Check], output: Output) -> None:
    match output:
        case Output.JSON | Output.YAML:
            show_value({"checks": [asdict(check) for check in checks]}, output)
            return
        case Output.NAME:
            for check in checks:
                print(check.name)
            return
    rows = [[check.name, check.outcome.value, check.fact, check.next] for check in checks]
    shown = len(COLUMNS) if output is Output.WIDE else len(COLUMNS) - 1
    show_table(COLUMNS[:shown], (row[:shown] for row in rows))
    sys.stdout.flush()
    for check in checks:
        if check.next:
            tell(f"{check.outcome.value} {check.name}:")
            tell_next(check.next)
    told = {each: sum(check.outcome is each for check in checks) for each in Outcome}
    tell(", ".join(f"{count} {outcome.value}" for outcome, count in told.items()))
