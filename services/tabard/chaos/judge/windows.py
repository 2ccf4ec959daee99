"""Windows of uncertainty: between which sequences of the ledger a node was at some moment. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from tabard.chaos.record import Record, Seen, Word
from tabard.invariants.past import Window
from tabard.ledger.fold import LedgerRecord

SEEN_LATE_NS = 2_000_000_000
"""How long after it was stored an event may have been seen first. It counts where the bus's clock
runs ahead, so that when an event was stored is only known from when it was seen."""


class Steps:
    """A number that only grows, and when."""

    def __init__(self, points: Iterable[tuple[int, int]]) -> None:
        """`points`: (Unix nanoseconds, number), in any order."""
        ordered = sorted(points)
        self._at = [at for at, _ in ordered]
        self._numbers = list(accumulate((number for _, number in ordered), max))

    def of(self, at: int) -> int:
        """What it was by then; 0 before the first point."""
        place = bisect_right(self._at, at)
        return self._numbers[place - 1] if place else 0


def head(ledger: Sequence[LedgerRecord], seen: Iterable[Seen]) -> Steps:
    """The ledger's last sequence over time, told too early rather than too late."""
    first_seen: dict[int, int] = {}
    for one in seen:
        first_seen[one.sequence] = min(one.at, first_seen.get(one.sequence, one.at))
    points = []
    for record in ledger:
        at = record.stored_at
        if (known := first_seen.get(record.sequence)) is not None and known < at:
            at = known - SEEN_LATE_NS
        points.append((at, record.sequence))
    return Steps(points)


def enforced(words: Iterable[Word]) -> dict[str, Steps]:
    """By node, the sequence that it had said it enforces, over time, as the run heard it."""
    heard: dict[str, list[tuple[int, int]]] = {}
    for word in words:
        if word.kind == "node":
            heard.setdefault(word.name, []).append((word.heard_at, word.sequence))
    return {name: Steps(points) for name, points in heard.items()}


class Windows:
    """Windows of a run, by node and time."""

    def __init__(self, record: Record, ledger: Sequence[LedgerRecord]) -> None:
        self._head = head(ledger, record.seen)
        self._enforced = enforced(record.words)

    def of(self, node: str, began: int, ended: int) -> Window:
        """From what the node had said before `began` to all that there was at `ended`."""
        known = self._enforced.get(node)
        first = known.of(began) if known is not None else 0
        return Window(first, max(first, self._head.of(ended)))
