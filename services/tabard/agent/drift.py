"""Drift: what the dataplane holds against what it should hold."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.dataplane.maps import (
    MAP_NAMES,
    Endpoint,
    Maps,
    PolicyKey,
    PrefixEntry,
    address_text,
)
from tabard.dataplane.port import DataplaneError

log = structlog.get_logger(__name__)

LISTED_MAX = 1_000
"""Most entries that each list of a report names; `count` counts them all."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Entries that differ, as text (`hosts 10.244.1.7: 4711`), at most LISTED_MAX in each list."""

    sequence: int
    missing: tuple[str, ...] = ()
    """Should be there and are not."""
    extra: tuple[str, ...] = ()
    """Are there and should not be."""
    different: tuple[str, ...] = ()
    """Are there with another value."""
    count: int = 0


def compare(sequence: int, actual: Maps, desired: Maps) -> Drift:
    """How `actual` differs from `desired`, the maps for `sequence`."""
    missing: list[str] = []
    extra: list[str] = []
    different: list[str] = []
    for name in MAP_NAMES:
        if getattr(actual, name) == getattr(desired, name):
            continue
        here, wanted = _entries(getattr(actual, name)), _entries(getattr(desired, name))
        missing += (_text(name, key, wanted[key]) for key in wanted.keys() - here.keys())
        extra += (_text(name, key, here[key]) for key in here.keys() - wanted.keys())
        different += (
            f"{_text(name, key, here[key])}, desired {_value(wanted[key])}"
            for key in here.keys() & wanted.keys()
            if here[key] != wanted[key]
        )
    return Drift(
        sequence,
        tuple(sorted(missing)[:LISTED_MAX]),
        tuple(sorted(extra)[:LISTED_MAX]),
        tuple(sorted(different)[:LISTED_MAX]),
        len(missing) + len(extra) + len(different),
    )


def _entries(entries: Mapping[Any, Any] | Iterable[Any]) -> Mapping[Any, Any]:
    return entries if isinstance(entries, Mapping) else dict.fromkeys(entries)


def _text(name: str, key: Any, value: Any) -> str:
    return f"{name} {_key(key)}" + ("" if value is None else f": {_value(value)}")


def _key(key: Any) -> str:
    match key:
        case PolicyKey():
            ports = f" port {key.port}/{key.port_bits}" if key.port_bits else ""
            return (
                f"{key.policy:016x} {key.direction.name.lower()} peer {key.identity} "
                f"{key.protocol.name.lower()}{ports}"
            )
        case (bytes() as network, int() as bits):
            return f"{address_text(network)} (/{bits} of 128)"
        case bytes():
            return address_text(key)
        case _:
            return str(key)


def _value(value: Any) -> str:
    match value:
        case Endpoint():
            return (
                f"identity {value.identity} policy {value.policy:016x} flags {value.flags.value} "
                f"ifindex {value.ifindex} mac {value.mac.hex(':')} host {value.host_mac.hex(':')} "
                f"incarnation {value.incarnation:016x}"
            )
        case PrefixEntry():
            tunnel = f" by {address_text(value.tunnel)}" if value.tunnel else ""
            return f"identity {value.identity} flags {value.flags.value}{tunnel}"
        case _:
            return str(value)


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
                examples=[*drift.missing, *drift.extra, *drift.different][:5],
            )
            reconciler.wake()
        if self._report.drift != drift.count:
            self._report.drift = drift.count
            self._report.changed.set()
        return drift

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
