"""A history: a seed and the choices that were made by it, and what came of them.

`run` draws the choices from the seed; `replay` takes a list of them, of which those that are not
possible any more are passed over. Both end by healing everything and letting the cluster converge
(which draws nothing), then the checkers' `finish`. The same seed and choices give the same history,
byte for byte, in any process: `Outcome.digest` says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tabard.invariants.verdict import Violation
from tabard.simulator.checkers import Checker, every
from tabard.simulator.choices import Choice


@dataclass(frozen=True, slots=True)
class Found:
    """A violation, and the step after which it was seen: 1 for the first choice's; one more than
    there were choices if it was seen at the end, after healing."""

    step: int
    violation: Violation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a history."""

    seed: int
    choices: tuple[Choice, ...]
    """Those that were carried out, in order; up to and with the step of the first violation."""
    passed_over: int
    """Choices of a replay that were not possible."""
    found: tuple[Found, ...]
    """Empty if all held. A history ends at the first step with a violation."""
    digest: str
    """Of all that happened: equal for an exact replay."""
    counts: dict[str, int]
    """What happened, by a name for it."""
    trace: tuple[str, ...] = ()
    """One line for each step, if it was asked for."""


def run(
    seed: int,
    steps: int,
    *,
    checkers: Callable[[], list[Checker]] = every,
    traced: bool = False,
) -> Outcome:
    """The history of `seed`, `steps` long or until a violation."""
    raise NotImplementedError


def replay(
    seed: int,
    choices: Sequence[Choice],
    *,
    checkers: Callable[[], list[Checker]] = every,
    traced: bool = False,
) -> Outcome:
    """The history that `choices` make of the cluster that `seed` sets up."""
    raise NotImplementedError
