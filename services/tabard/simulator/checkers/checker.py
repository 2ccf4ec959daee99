"""What a checker is."""

from collections.abc import Iterable
from typing import Protocol

from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.world import World


class Checker(Protocol):
    """Made anew for each history; it may remember what it saw."""

    invariant: Invariant

    def check(self, world: World) -> Iterable[Violation]:
        """Called after each step: what must not be, and is there since the last call."""
        ...

    def finish(self, world: World) -> Iterable[Violation]:
        """Called once, after all faults were healed and the cluster had time to converge."""
        ...
