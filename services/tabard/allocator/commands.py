"""What the allocator is asked to do: mostly what was observed, as it was observed."""

from collections.abc import Mapping
from dataclasses import dataclass

from tabard.events.observed import ObservedEvent


@dataclass(frozen=True, slots=True)
class Reject:
    """Go on past an observed event that cannot have an effect; the ledger says why."""

    stream: str
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by. `now` in nanoseconds since the Unix epoch; `watermarks` by node."""

    now: int
    watermarks: Mapping[str, int]


Command = ObservedEvent | Reject | Tick
