"""A violation's history made short: what is left are choices without which it does not come about.

After Zeller's ddmin: choices are left out in ever smaller pieces, as long as the same invariant is
still violated, and it is told in like words. Nothing is random and no clock is read, so the same
violation is always shrunk to the same history.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.choices import Choice
from tabard.simulator.history import Outcome, replay

STEPS_MAX = 40_000
"""Most steps that are carried out to shrink one history, in all tries together: about half a
minute."""

LIKE_MAX = 50
"""Characters in which what is said of two violations must agree, for them to be of one cause."""
_NUMBERED = re.compile(r"\S*\d\S*")

Replay = Callable[[int, Sequence[Choice]], Outcome]


@dataclass(frozen=True, slots=True)
class Shrunk:
    outcome: Outcome
    """Of the shortest history that was found."""
    tries: int
    is_minimal: bool
    """No single choice can be left out; False if STEPS_MAX ended the search."""


def shrink(outcome: Outcome, again: Replay = replay, steps_max: int = STEPS_MAX) -> Shrunk:
    """The shortest history found that violates what `outcome` (which has a violation) does first.

    `again` carries out a list of choices. The given history is the answer if none is shorter.
    """
    wanted = outcome.found[0].violation
    best, tries, steps = outcome, 0, 0

    def without(start: int, size: int) -> bool:
        """Whether it is still violated without these choices; if so that is the best now."""
        nonlocal best, tries, steps
        choices = best.choices[:start] + best.choices[start + size :]
        tried = again(best.seed, choices)
        tries, steps = tries + 1, steps + len(choices)
        if not _is_alike(tried, wanted) or len(tried.choices) >= len(best.choices):
            return False
        best = tried
        return True

    size = max(1, len(best.choices) // 2)
    while True:
        # From the end: what led to the violation stands there, and what stands before it is free.
        start, is_shorter = len(best.choices) - size, False
        while start > -size:
            if steps >= steps_max:
                return Shrunk(best, tries, False)
            if without(max(start, 0), size + min(start, 0)):
                is_shorter = True
            start = min(start - size, len(best.choices) - size)
        if size == 1 and not is_shorter:
            return Shrunk(best, tries, True)
        size = max(1, size // 2)


def _is_alike(outcome: Outcome, wanted: Violation) -> bool:
    """Whether `outcome` has a violation like `wanted`."""
    return any(_kind(found.violation) == _kind(wanted) for found in outcome.found)


def _kind(violation: Violation) -> tuple[Invariant, str]:
    """The invariant, and how what is said begins without the words that hold digits: those are
    names, times and counts, which are others in a shorter history."""
    return violation.invariant, _NUMBERED.sub("", violation.what)[:LIKE_MAX]
