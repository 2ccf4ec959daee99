"""enforcement outlives control: with its agent gone a node's kernel stays as it is."""

from collections.abc import Iterator

from tabard.dataplane.differences import differences
from tabard.dataplane.maps import Maps
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.world import Node, World


class OutlivesControl:
    invariant = Invariant.ENFORCEMENT_OUTLIVES_CONTROL

    def __init__(self) -> None:
        self._left: dict[str, tuple[int, Maps]] = {}
        """Node whose agent is gone → (starts, maps when it went)."""

    def check(self, world: World) -> Iterator[Violation]:
        for node in world.nodes.values():
            left = self._left.get(node.name)
            if node.running:
                self._left.pop(node.name, None)
            elif left is None or left[0] != node.starts:
                self._left[node.name] = node.starts, node.maps.copy()
            elif world.packets and left[1] != node.maps:
                yield from self._changed(node, left[1], world)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()

    def _changed(self, node: Node, left: Maps, world: World) -> Iterator[Violation]:
        what = "; ".join(map(str, differences(node.maps, left)[:5]))
        yield Violation(
            self.invariant,
            f"{node.name}'s maps are others than when its agent ended, and none ran since: {what}",
            world.now,
        )
