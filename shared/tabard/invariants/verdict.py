"""What a checker says."""

from dataclasses import dataclass
from enum import StrEnum

VIOLATIONS_SHOWN_MAX = 50
"""Most violations that one verdict tells; all are counted."""


class Invariant(StrEnum):
    """The invariants by the names that ARCHITECTURE gives them."""

    ONE_NUMBER_ONE_SET = "one-number-one-set"
    NEVER_OPEN = "never-open"
    ORDER = "order"
    FENCED = "fenced"
    EXACTLY_ONCE = "exactly-once"
    SAFE_REUSE = "safe-reuse"
    FOLD = "fold"
    NOTHING_LOST = "nothing-lost"
    DETERMINISTIC = "deterministic"
    ENFORCEMENT_OUTLIVES_CONTROL = "enforcement-outlives-control"
    CONVERGENCE = "convergence"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be. `at`: Unix nanoseconds, 0 where it has no time of its own."""

    invariant: Invariant
    what: str
    """One sentence: what was seen, what should have been, and by which sequences that is known."""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A checker's word on a whole run."""

    invariant: Invariant
    judged: int
    """How many things were judged (events, packets, dumps …): 0 proves nothing, and is no pass."""
    unit: str
    """What they are: `ledger events`, `packets` …"""
    violations: int = 0
    told: tuple[Violation, ...] = ()
    """The first VIOLATIONS_SHOWN_MAX of them."""
    note: str = ""

    @property
    def held(self) -> bool:
        return self.judged > 0 and self.violations == 0
