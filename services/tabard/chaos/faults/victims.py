"""Whom a fault hits, by what it does in the cluster at that moment."""

from collections.abc import Awaitable, Callable
from random import Random

from tabard.bus.port import Stream
from tabard.chaos.fault import Rig
from tabard.cluster.programs import SOURCE

Victims = Callable[[Rig, Random], Awaitable[tuple[str, ...]]]
"""Process names, one at least."""


async def bus_leader(rig: Rig, chance: Random) -> tuple[str, ...]:
    """The bus server that leads LEDGER."""
    return (await rig.bus_leader(),)


async def bus_follower(rig: Rig, chance: Random) -> tuple[str, ...]:
    """A bus server that leads neither LEDGER nor OBSERVED, if there is one."""
    leads = await rig.bus_leader()
    also = await rig.bus_leader(Stream.OBSERVED)
    others = [server for server in rig.bus_servers if server != leads]
    return (chance.choice([server for server in others if server != also] or others),)


async def bus_servers(rig: Rig, chance: Random) -> tuple[str, ...]:
    return _shuffled(rig.bus_servers, chance)


async def allocator_leader(rig: Rig, chance: Random) -> tuple[str, ...]:
    return (await rig.allocator_leader(),)


async def allocator_follower(rig: Rig, chance: Random) -> tuple[str, ...]:
    leads = await rig.allocator_leader()
    return (chance.choice([name for name in rig.allocators if name != leads]),)


async def an_agent(rig: Rig, chance: Random) -> tuple[str, ...]:
    return (chance.choice(rig.agents),)


async def source(rig: Rig, chance: Random) -> tuple[str, ...]:
    return (SOURCE,)


async def everything(rig: Rig, chance: Random) -> tuple[str, ...]:
    return _shuffled((*rig.bus_servers, *rig.allocators, *rig.agents, SOURCE), chance)


def _shuffled(names: tuple[str, ...], chance: Random) -> tuple[str, ...]:
    return tuple(chance.sample(names, len(names)))
