"""Whether the leader is gone, told by a follower's own clock. Pure."""

from dataclasses import dataclass, field

Signs = tuple[int, int]
"""What a look at the bus shows of the leader: where LEDGER ends, and where on STATUS its last word
stands. While it lives, one of them changes."""


@dataclass(slots=True)
class Vigil:
    """Silence counts only while the follower itself has looked, often enough, and was answered: one
    that was cut off or paused heard nothing either, and so did all others in an outage of the bus.

    Times in seconds, of any clock that never goes back.
    """

    silence_s: float
    gap_s: float
    """Longest between two looks for which the one may vouch for the other."""
    _signs: Signs | None = field(default=None, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _since: float = field(default=0.0, init=False)

    def look(self, now: float, signs: Signs | None) -> bool:
        """Take note of `signs` (None: the bus gave no answer); whether the leader has been silent
        for too long."""
        if signs is None or signs != self._signs or now - self._looked_at > self.gap_s:
            self._since = now
        self._signs, self._looked_at = signs, now
        return signs is not None and now - self._since >= self.silence_s
