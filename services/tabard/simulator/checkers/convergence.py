"""convergence: once all is healed, every node comes to the ledger's end."""

from collections.abc import Iterator

from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.world import World


class Convergence:
    invariant = Invariant.CONVERGENCE

    def check(self, world: World) -> Iterator[Violation]:
        yield from ()

    def finish(self, world: World) -> Iterator[Violation]:
        if not world.converged:
            return  # whoever waited for it says so, and why
        end = len(world.ledger)
        for node in world.nodes.values():
            if node.enforced != end:
                what = f"{node.name} enforces LEDGER/{node.enforced}, the ledger ends at {end}"
                yield Violation(self.invariant, what, world.now)
