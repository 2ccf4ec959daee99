"""Drift: what the dataplane holds against what it should hold."""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from tabard.agent.errors import Code, GateError
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.dataplane.differences import Difference, differences, listed
from tabard.dataplane.maps import Maps
from tabard.dataplane.plain import entries, plain
from tabard.dataplane.port import DataplaneError

log = structlog.get_logger(__name__)

CONTENTS_ENTRIES_MAX = 65_536
"""Most entries of a dataplane that are handed out: an answer of 3 MiB, whose JSON keeps the event
loop for 15 to 50 ms."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs: at most LISTED_MAX entries of each kind; `count` counts them all."""

    sequence: int
    entries: tuple[Difference, ...] = ()
    count: int = 0


def compare(sequence: int, actual: Maps, desired: Maps) -> Drift:
    """How `actual` differs from `desired`, the maps for `sequence`."""
    found = differences(actual, desired)
    return Drift(sequence, listed(found), len(found))


class DriftCheck:
    """Looks for drift on demand and from time to time, and has it repaired."""

    def __init__(self, reconciler: Reconciler, report: Report, interval_s: float) -> None:
        self._reconciler = reconciler
        self._report = report
        self._interval_s = interval_s

    async def check(self) -> Drift:
        """Read the dataplane back; what differs is put right by the next tick.

        Raises DataplaneError if it cannot be read.
        """
        reconciler = self._reconciler

        def look() -> tuple[Maps, Drift]:
            actual = reconciler.dataplane.read()
            return actual, compare(reconciler.expected_at, actual, reconciler.expected)

        async with reconciler.lock:
            actual, drift = await reconciler.worker.call(look)
            if drift.count:
                reconciler.actual = actual
        if drift.count:
            log.error(
                "agent.drift",
                sequence=drift.sequence,
                count=drift.count,
                examples=[f"{each.kind}: {each}" for each in drift.entries[:5]],
            )
            reconciler.wake()
        if self._report.drift != drift.count:
            self._report.drift = drift.count
            self._report.changed.set()
        return drift

    async def contents(self) -> dict[str, Any]:
        """{sequence, maps, attached}: what the dataplane holds, and each attached pod as
        [uid, ifindex, mac, host mac].

        Raises DataplaneError if it cannot be read, and GateError if it is too much to hand out.
        """
        reconciler = self._reconciler
        _bounded(reconciler.expected)

        def look() -> dict[str, list[Any]]:
            actual = reconciler.dataplane.read()
            _bounded(actual)
            return plain(actual)

        async with reconciler.lock:
            sequence = reconciler.expected_at
            attached = [
                (each.uid, each.ifindex, each.mac.hex(), each.host_mac.hex())
                for each in reconciler.attachments.attached.values()
            ]
            maps = await reconciler.worker.call(look)
        return {"sequence": sequence, "maps": maps, "attached": attached}

    async def run(self) -> None:
        """Check for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self._reconciler.in_sync.wait()
            try:
                await self.check()
            except DataplaneError as error:
                if self._report.fail("drift", str(error)):
                    log.error("agent.drift_unknown", error=str(error))
            else:
                self._report.clear("drift")


def _bounded(maps: Maps) -> None:
    if (count := entries(maps)) > CONTENTS_ENTRIES_MAX:
        raise GateError(
            Code.REFUSED,
            f"the dataplane holds {count} entries, and at most {CONTENTS_ENTRIES_MAX} are handed "
            "out; `tabard drift` without --at compares them where they are",
        )
