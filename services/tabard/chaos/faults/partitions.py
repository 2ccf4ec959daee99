"""Partitions: a node, a server of the bus or an allocator that no packet reaches or leaves.

What is cut off goes on running, and so does its loopback. A partition may be one-way, and may come
and go.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.faults.ongoing import Ongoing
from tabard.chaos.faults.ports import BOTH, Port, Way, drop, pass_all, port_of, table_name
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster.settings import BUS_PORT
from tabard.cluster.tasks import wholly


@dataclass(frozen=True, slots=True)
class Flaps:
    """How a partition comes and goes: each time for as long as is drawn between these bounds."""

    cut_s: tuple[float, float] = (0.3, 1.5)
    open_s: tuple[float, float] = (0.2, 1.0)


class Partition:
    """Cuts one process off, `ways`; a node wholly, so also from other nodes' pods, or from the bus
    alone."""

    def __init__(
        self,
        whom: Whom,
        ways: Sequence[Way] = BOTH,
        *,
        flaps: Flaps | None = None,
        bus_alone: bool = False,
    ) -> None:
        assert whom is Whom.NODE or not bus_alone, "others have nothing but the bus"
        self.name = _name(whom, ways, flaps is not None, bus_alone)
        self._whom = whom
        self._rules = {way: _TO_BUS[way] if bus_alone else "" for way in ways}
        self._flaps = flaps
        self._cut: tuple[Port, str] | None = None
        self._flapping = Ongoing()

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(self._whom, rig, chance)
        port = await wholly(port_of, rig, process)
        self._cut = port, table_name(rig, "cut", port, chance)
        await wholly(drop, *self._cut, self._rules)
        if self._flaps is not None:
            flap = self._flap(*self._cut, self._flaps, Random(chance.getrandbits(64)))
            self._flapping.begin(flap, f"chaos.flapping.{process}")
        return process

    async def heal(self, rig: Rig) -> None:
        if self._cut is None:
            return
        try:
            await self._flapping.end()
        finally:
            await wholly(pass_all, *self._cut)
            self._cut = None

    async def _flap(self, port: Port, table: str, flaps: Flaps, chance: Random) -> None:
        while True:
            await asyncio.sleep(chance.uniform(*flaps.cut_s))
            await wholly(pass_all, port, table)
            await asyncio.sleep(chance.uniform(*flaps.open_s))
            await wholly(drop, port, table, self._rules)


_TO_BUS = {Way.OUT: f"tcp dport {BUS_PORT}", Way.IN: f"tcp sport {BUS_PORT}"}


def _name(whom: Whom, ways: Sequence[Way], flapping: bool, bus_alone: bool) -> str:
    match tuple(ways):
        case (Way.IN,):
            how = ", which hears nothing"
        case (Way.OUT,):
            how = ", which nobody hears"
        case _:
            how = ""
    kind = "flapping partition" if flapping else "partition"
    return f"{kind} of {whom}{' from the bus' if bus_alone else ''}{how}"
