"""Whom a fault hits: a role, and the processes that have it at the moment."""

from enum import StrEnum
from random import Random
from typing import assert_never

from tabard.bus.port import Stream
from tabard.chaos.fault import Rig
from tabard.cluster.programs import SOURCE


class Whom(StrEnum):
    NODE = "a node"
    AGENT = "an agent"
    BUS_LEADER = "the bus's leader"
    BUS_FOLLOWER = "a follower of the bus"
    BUS = "all servers of the bus"
    ALLOCATOR_LEADER = "the leading allocator"
    ALLOCATOR_FOLLOWER = "a following allocator"
    SOURCE = "the source"
    EVERYTHING = "everything"


async def process_of(whom: Whom, rig: Rig, chance: Random) -> str:
    """The name of the process that is `whom` now; of several, one by chance. Waits for a leader."""
    (process,) = await processes_of(whom, rig, chance)
    return process


async def processes_of(whom: Whom, rig: Rig, chance: Random) -> tuple[str, ...]:
    """The same of those who may be several, in an order by chance."""
    match whom:
        case Whom.NODE | Whom.AGENT:
            return (chance.choice(rig.agents),)
        case Whom.BUS_LEADER:
            return (await rig.bus_leader(),)
        case Whom.BUS_FOLLOWER:
            leader, also = await rig.bus_leader(), await rig.bus_leader(Stream.OBSERVED)
            others = [name for name in rig.bus_servers if name != leader]
            return (chance.choice([name for name in others if name != also] or others),)
        case Whom.BUS:
            return _shuffled(rig.bus_servers, chance)
        case Whom.ALLOCATOR_LEADER:
            return (await rig.allocator_leader(),)
        case Whom.ALLOCATOR_FOLLOWER:
            leader = await rig.allocator_leader()
            return (chance.choice([name for name in rig.allocators if name != leader]),)
        case Whom.SOURCE:
            return (SOURCE,)
        case Whom.EVERYTHING:
            every = (*rig.bus_servers, *rig.allocators, *rig.agents, SOURCE)
            return _shuffled(every, chance)
        case _:
            assert_never(whom)


def _shuffled(names: tuple[str, ...], chance: Random) -> tuple[str, ...]:
    return tuple(chance.sample(names, len(names)))
