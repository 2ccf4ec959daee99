"""fold: each kernel holds what the ledger compiles to, once the cluster has converged."""

import asyncio
import time

from tabard.bus.port import Bus, BusUnavailable
from tabard.chaos.record import Dump, Record
from tabard.cluster.errors import NotReached
from tabard.cluster.kernels import read, wanted
from tabard.cluster.profile import Profile
from tabard.dataplane.differences import differences, listed
from tabard.dataplane.maps import Mode
from tabard.dataplane.plain import entries
from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Invariant, Verdict, Violation
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State

BUS_S_MAX = 30.0
"""Longest wait for a bus that converged, and may still choose leaders."""
ASK_AGAIN_S = 0.2


async def dumps(bus: Bus, profile: Profile, state: State) -> list[Dump]:
    """What each node's kernel holds beside what the ledger compiles to, from its first event on.

    Call it once the cluster has converged, with an empty `state` first and then with the same one:
    it goes on where the last call ended. NotReached if the bus gives no answer for BUS_S_MAX;
    ClusterError if an agent cannot be asked.
    """
    found = []
    for name in profile.nodes:
        kernel = await read(profile.socket(name))
        known = state if state.sequence <= kernel.sequence else State()
        await _fold(bus, known, kernel.sequence)
        at = time.time_ns()
        differing = differences(
            kernel.maps, wanted(known, name, Mode[profile.mode.upper()], kernel)
        )
        told = tuple(f"{each.kind}: {each}" for each in listed(differing))
        found.append(Dump(name, kernel.sequence, entries(kernel.maps), told, at))
    return found


async def _fold(bus: Bus, state: State, through: int) -> None:
    """Fold the ledger into `state`; no snapshot stands for what comes before it."""
    end = time.monotonic() + BUS_S_MAX
    reason = "a server that was behind answered"
    while time.monotonic() < end:
        try:
            if (await catch_up(bus, state, through, lambda record: None)).sequence >= through:
                return
        except BusUnavailable as error:
            reason = str(error)
        await asyncio.sleep(ASK_AGAIN_S)
    raise NotReached(f"LEDGER/{through} was not read within {BUS_S_MAX:g} s: {reason}")


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
