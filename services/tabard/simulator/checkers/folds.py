"""fold: a node's maps equal compile(fold(ledger, S)) for its watermark S. deterministic: states
that were come to on different ways are the same."""

from collections.abc import Iterator, Mapping

from tabard.dataplane.differences import differences
from tabard.invariants.same import Deterministic
from tabard.invariants.verdict import Invariant, Violation
from tabard.ledger.digest import digest
from tabard.policy.compile import Attachment
from tabard.simulator.checkers.mirror import Mirror
from tabard.simulator.world import Node, World

SHOWN_MAX = 5
"""Most differences that are named."""


class Folds:
    """fold"""

    invariant = Invariant.FOLD

    def __init__(self) -> None:
        self._mirrors: dict[str, Mirror] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        """Node → (writes begun, watermark) when it was looked at last."""
        self._told: dict[str, tuple[int, int, bool]] = {}
        """Node → the same at the step before, and whether a write was under way."""
        self._settled: dict[str, tuple[int, int, Mapping[str, Attachment]]] = {}
        """Node → the same when it was settled last, or was held against that since, and the pods
        that were attached then."""

    def check(self, world: World) -> Iterator[Violation]:
        for node in world.nodes.values():
            now = node.writes, node.enforced
            yield from self._rises_amid_a_write(node, world)
            yield from self._rises_before_a_write(node, world)
            if node.settled and self._seen.get(node.name) != now:
                self._seen[node.name] = now
                yield from self._differs(node, world)

    def finish(self, world: World) -> Iterator[Violation]:
        for node in world.nodes.values():
            if node.settled:
                yield from self._differs(node, world)

    def _rises_amid_a_write(self, node: Node, world: World) -> Iterator[Violation]:
        writes, enforced, was_writing = self._told.get(node.name, (0, 0, False))
        self._told[node.name] = node.writes, node.enforced, node.is_writing
        if was_writing and node.is_writing and writes == node.writes and enforced < node.enforced:
            # A write that was broken off, and whose rest nobody needs, is no harm.
            yield from self._differs(node, world)

    def _rises_before_a_write(self, node: Node, world: World) -> Iterator[Violation]:
        """In the first write since it was settled a node enforces no more than it did then, unless
        that asks for the same maps for the pods that it had."""
        if node.settled:
            self._settled[node.name] = node.writes, node.enforced, dict(node.attached)
            return
        writes, enforced, attached = self._settled.get(node.name, (node.writes, 0, {}))
        if not node.is_writing or node.writes != writes + 1 or node.enforced <= enforced:
            return
        self._settled[node.name] = node.writes, node.enforced, dict(node.attached)
        mirror = Mirror()
        before = mirror.wanted(node, enforced, world, attached)
        if before is not None and before != mirror.wanted(node, node.enforced, world, attached):
            yield Violation(
                self.invariant,
                f"{node.name} takes its kernel to enforce LEDGER/{node.enforced}, of which it has "
                f"only begun to write what came after LEDGER/{enforced}",
                world.now,
            )

    def _differs(self, node: Node, world: World) -> Iterator[Violation]:
        mirror = self._mirrors.setdefault(node.name, Mirror())
        wanted = mirror.wanted(node, node.enforced, world)
        if wanted is not None and wanted != node.maps:
            found = differences(node.maps, wanted)
            shown = "; ".join(map(str, found[:SHOWN_MAX]))
            yield Violation(
                self.invariant,
                f"{node.name}'s maps are not those of LEDGER/{node.enforced}, its watermark, in "
                f"{len(found)} entries: {shown}",
                world.now,
            )


class Same:
    """deterministic: by way of a snapshot of half of the ledger, and in every process."""

    invariant = Invariant.DETERMINISTIC

    def __init__(self) -> None:
        self._of = Deterministic()
        self._mirror = Mirror()

    def check(self, world: World) -> Iterator[Violation]:
        yield from ()

    def finish(self, world: World) -> Iterator[Violation]:
        end = len(world.records)
        mirror = self._mirror
        if not mirror.go_to(end // 2, world):
            return
        self._of.freeze(mirror.state)
        if not mirror.go_to(end, world):
            return
        yield from self._of.hold(mirror.state, world.records[end // 2 :])
        folded = [(node.name, node.state) for node in world.nodes.values()]
        folded += [(one.name, one.state) for one in world.allocators.values()]
        for name, other in folded:
            if other.sequence == end:
                yield from self._of.says(name, end, digest(other), mirror.state)
