"""fold: each kernel holds what the ledger compiles to, once the cluster has converged."""

import time

from tabard.bus.port import Bus
from tabard.chaos.record import Dump, Record
from tabard.cluster.kernels import read, wanted
from tabard.cluster.profile import Profile
from tabard.dataplane.differences import differences, listed
from tabard.dataplane.maps import Mode
from tabard.dataplane.plain import entries
from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Invariant, Verdict, Violation
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State


async def dumps(bus: Bus, profile: Profile) -> list[Dump]:
    """What each node's kernel holds beside what the ledger compiles to. Call it once the cluster
    has converged: what a node is about to write differs. ClusterError if one cannot be asked."""
    found = []
    state = State()
    for name in profile.nodes:
        kernel = await read(profile.socket(name))
        if state.sequence > kernel.sequence:
            state = State()
        await catch_up(bus, state, kernel.sequence)
        at = time.time_ns()
        differing = differences(
            kernel.maps, wanted(state, name, Mode[profile.mode.upper()], kernel)
        )
        told = tuple(f"{each.kind}: {each}" for each in listed(differing))
        found.append(Dump(name, kernel.sequence, entries(kernel.maps), told, at))
    return found


def fold(record: Record) -> Verdict:
    """Judged are the entries of all dumps."""
    told = tuple(
        Violation(Invariant.FOLD, f"{dump.node} at LEDGER/{dump.sequence}: {difference}", dump.at)
        for dump in record.dumps
        for difference in dump.differences
    )
    return Verdict(
        Invariant.FOLD,
        judged=sum(dump.entries for dump in record.dumps),
        unit="map entries",
        violations=len(told),
        told=told[:VIOLATIONS_SHOWN_MAX],
        note=f"{len(record.dumps)} kernels were read",
    )
