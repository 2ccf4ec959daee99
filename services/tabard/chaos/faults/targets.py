"""Whom a fault of the network cuts off or hampers: one process, in its namespace."""

from collections.abc import Mapping
from enum import StrEnum
from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.faults import victims
from tabard.chaos.faults.victims import Victims


class Whom(StrEnum):
    NODE = "a node"
    BUS_LEADER = "the bus's leader"
    BUS_FOLLOWER = "a follower of the bus"
    ALLOCATOR_LEADER = "the leading allocator"
    ALLOCATOR_FOLLOWER = "a following allocator"


async def process_of(whom: Whom, rig: Rig, chance: Random) -> str:
    """The name of the process that is `whom` now; of several, one by chance. Waits for a leader."""
    (process,) = await _VICTIMS[whom](rig, chance)
    return process


_VICTIMS: Mapping[Whom, Victims] = {
    Whom.NODE: victims.an_agent,
    Whom.BUS_LEADER: victims.bus_leader,
    Whom.BUS_FOLLOWER: victims.bus_follower,
    Whom.ALLOCATOR_LEADER: victims.allocator_leader,
    Whom.ALLOCATOR_FOLLOWER: victims.allocator_follower,
}
