"""A parser of outside input, with real inputs to begin from and the errors that it may give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuzzing.parsers.mutation import Form


@dataclass(frozen=True)
class Target:
    """`take` returns for an input that is taken, and raises one of `errors` for a refused one.

    Whatever else it raises is a finding, its own AssertionErrors too: they say what must hold of an
    input that was taken, or of one that was not.
    """

    name: str
    form: Form
    seeds: Callable[[], Sequence[bytes]]
    take: Callable[[bytes], object]
    errors: tuple[type[BaseException], ...] = ()
    short: int = 300
    """How many inputs a quick test tries."""
