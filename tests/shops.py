"""The example shop, decided by the real source and allocator, as a ledger on a memory bus."""

import random
from pathlib import Path

from deciding import Desk
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.events.observed import NodeJoined
from tabard.manifests.events import applied
from tabard.manifests.objects import Manifest
from tabard.manifests.reading import read
from tabard.manifests.workloads import read_workload
from tabard.source.planning import plan

SHOP = Path(__file__).parents[1] / "compose" / "shop"


def decided(objects: tuple[Manifest, ...], nodes: int = 2) -> Desk:
    """What becomes of `objects` on nodes n1, n2 …, one observed event after the other."""
    desk = Desk(checked=False)
    for number in range(1, nodes + 1):
        cidrs = (f"10.244.{number}.0/24", f"fd00:{number}::/64")
        desk.observe(NodeJoined(f"n{number}", (f"192.0.2.{number}",), cidrs))
    for event in applied(objects):
        desk.observe(event)
    workloads = [read_workload(each.document) for each in desk.state.workloads.values()]
    for started in plan(desk.state, workloads, now=1, draw=random.Random(1).randbytes).started:
        desk.observe(started)
    return desk


async def opened(store: MemoryStore) -> Desk:
    """The shop's ledger on the bus."""
    desk = decided(read([SHOP]).objects)
    await MemoryBus(store).append(desk.messages, 0)
    return desk
