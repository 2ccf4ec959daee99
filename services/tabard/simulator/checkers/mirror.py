"""A fold of the ledger of the checkers' own, and what a node should enforce by it."""

from collections.abc import Mapping

from tabard.dataplane.maps import Maps
from tabard.ledger.fold import FoldError, evolve
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler
from tabard.simulator.world import Node, World


class Mirror:
    """At one sequence at a time; cheapest if that never goes back."""

    def __init__(self) -> None:
        self.state = State()
        self._is_broken = False
        """The ledger contradicts itself: others say so."""

    def go_to(self, sequence: int, world: World) -> bool:
        """Whether `state` is the one through `sequence` now: the ledger could be folded so far."""
        if sequence < self.state.sequence:
            self.state, self._is_broken = State(), False
        while self.state.sequence < sequence and not self._is_broken:
            record = world.records[self.state.sequence]
            try:
                evolve(self.state, record)
            except FoldError:
                self._is_broken = True
            else:
                self.state.chain = world.ledger[record.sequence - 1].payload[-16:]
        return self.state.sequence == sequence

    def wanted(
        self,
        node: Node,
        sequence: int,
        world: World,
        attached: Mapping[str, Attachment] | None = None,
    ) -> Maps | None:
        """What the node should enforce of the ledger through `sequence`, compiled in one go, with
        these pods `attached` (None: those that are)."""
        if not self.go_to(sequence, world):
            return None
        attached = node.attached if attached is None else attached
        return Compiler().compile(self.state, node.name, node.mode, attached)
