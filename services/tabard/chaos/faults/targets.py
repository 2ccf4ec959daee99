"""Whom a fault hits: a role, and the process that has it at the moment."""

from enum import StrEnum
from random import Random
from typing import assert_never

from tabard.chaos.fault import Rig


class Whom(StrEnum):
    NODE = "a node"
    BUS_LEADER = "the bus's leader"
    BUS_FOLLOWER = "a follower of the bus"
    ALLOCATOR_LEADER = "the leading allocator"
    ALLOCATOR_FOLLOWER = "a following allocator"


async def process_of(whom: Whom, rig: Rig, chance: Random) -> str:
    """The name of the process that is `whom` now; of several, one by chance. Waits for a leader."""
    match whom:
        case Whom.NODE:
            return chance.choice(rig.agents)
        case Whom.BUS_LEADER:
            return await rig.bus_leader()
        case Whom.BUS_FOLLOWER:
            leader = await rig.bus_leader()
            return chance.choice([name for name in rig.bus_servers if name != leader])
        case Whom.ALLOCATOR_LEADER:
            return await rig.allocator_leader()
        case Whom.ALLOCATOR_FOLLOWER:
            leader = await rig.allocator_leader()
            return chance.choice([name for name in rig.allocators if name != leader])
        case _:
            assert_never(whom)
