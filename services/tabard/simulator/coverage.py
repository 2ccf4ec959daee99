"""What happened in a history, counted: one in which nobody ever led twice proves nothing."""

from collections import Counter

from tabard.events import ledger
from tabard.simulator.world import World


class Coverage:
    """Adds to `world.counts` what the ledger and the nodes show."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._read = 0
        self._released: set[int] = set()
        self._unwaited: dict[str, int] = {}
        self._standing: dict[str, str] = {}

    def look(self) -> None:
        world = self._world
        for record in world.records[self._read :]:
            self._take(record.event, world.counts)
        self._read = len(world.records)
        for node in world.nodes.values():
            world.counts["refolds"] += node.unwaited - self._unwaited.get(node.name, 0)
            self._unwaited[node.name] = node.unwaited
            if node.standing != self._standing.get(node.name):
                self._standing[node.name] = node.standing
                world.counts["stands offline"] += node.standing == "offline"

    def _take(self, event: ledger.LedgerEvent, counts: Counter[str]) -> None:
        match event:
            case ledger.EpochClaimed():
                counts["claims"] += 1
            case ledger.IdentityAllocated(number):
                if number in self._released:
                    counts["numbers reused"] += 1
            case ledger.IdentityReleased(number):
                self._released.add(number)
                counts["numbers released"] += 1
            case ledger.NumbersExhausted():
                counts["numbers exhausted"] += 1
            case ledger.NodeLost():
                counts["nodes lost"] += 1
            case ledger.NodeReturned():
                counts["nodes returned"] += 1
            case ledger.NodeRemoved():
                counts["nodes removed"] += 1
            case ledger.EndpointBound():
                counts["endpoints bound"] += 1
            case ledger.EndpointRelabelled(behind=behind):
                counts["relabels late" if behind else "relabels"] += 1
            case ledger.EndpointsRebound():
                counts["namespaces rebound"] += 1
            case ledger.PolicyAccepted():
                counts["policies accepted"] += 1
            case ledger.PolicyRefused():
                counts["policies refused"] += 1
            case ledger.PodRefused():
                counts["pods refused"] += 1
            case _:
                pass
