"""Checkers: one object for each invariant, which looks at the world after every step."""

from tabard.simulator.checkers.checker import Checker
from tabard.simulator.checkers.control import OutlivesControl
from tabard.simulator.checkers.convergence import Convergence
from tabard.simulator.checkers.folds import Folds, Same
from tabard.simulator.checkers.ledger import Effects, Fence, Kept, Reuse, Sets
from tabard.simulator.checkers.openness import NeverOpen
from tabard.simulator.checkers.order import Order

__all__ = ["Checker", "every"]


def every() -> list[Checker]:
    """A new checker of each kind."""
    return [
        Fence(),
        Sets(),
        Effects(),
        Reuse(),
        Kept(),
        Order(),
        Folds(),
        NeverOpen(),
        OutlivesControl(),
        Same(),
        Convergence(),
    ]
