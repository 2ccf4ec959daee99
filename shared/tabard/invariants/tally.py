"""What a checker has judged and found so far."""

from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Invariant, Verdict, Violation


class Tally:
    """Counts, and keeps the first VIOLATIONS_SHOWN_MAX violations."""

    def __init__(self, invariant: Invariant, unit: str) -> None:
        self.invariant = invariant
        self.unit = unit
        self.judged = 0
        self.violations = 0
        self._told: list[Violation] = []

    def found(self, what: str, at: int = 0) -> Violation:
        """One more violation."""
        violation = Violation(self.invariant, what, at)
        self.violations += 1
        if len(self._told) < VIOLATIONS_SHOWN_MAX:
            self._told.append(violation)
        return violation

    def verdict(self, note: str = "") -> Verdict:
        told = tuple(self._told)
        return Verdict(self.invariant, self.judged, self.unit, self.violations, told, note)
