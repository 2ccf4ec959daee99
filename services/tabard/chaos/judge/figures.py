"""Figures of a run over time, for its report: how far behind nodes were, and what passed. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tabard.chaos.judge.windows import Steps, enforced, head
from tabard.chaos.record import Packet, Record
from tabard.ledger.fold import LedgerRecord

POINTS_MAX = 1_000
"""Most points of one line."""
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a node was behind the ledger's head. `at`: Unix nanoseconds."""

    at: int
    events: int
    seconds: float
    """Since the oldest event was stored that it did not say it enforces; 0 if there is none."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What became of the probes that ended in one second. `at`: its beginning, Unix nanoseconds."""

    at: int
    passed: int
    denied: int


def lags(record: Record, ledger: Sequence[LedgerRecord]) -> Mapping[str, Sequence[Lag]]:
    """Each node's lag from its first word on, at most POINTS_MAX points; of points that fall
    together the one furthest behind."""
    stored = {each.sequence: each.stored_at for each in ledger}
    heads = head(ledger, record.seen)
    words = enforced(record.words)
    heard = {
        name: [word.heard_at for word in record.words if word.kind == "node" and word.name == name]
        for name in words
    }
    # Lag only grows between two words, and only falls at one: the moments before words, and the
    # steps of an even grid, show both.
    ended = record.ended or max((word.heard_at for word in record.words), default=record.began)
    step = max(1, (ended - record.began) // POINTS_MAX)
    return {
        name: _furthest(
            record.began,
            step,
            (
                _lag(at, heads, said, stored)
                for at in sorted(
                    (*(at - 1 for at in heard[name]), *range(record.began, ended, step))
                )
                if heard[name][0] <= at < record.began + step * POINTS_MAX
            ),
        )
        for name, said in sorted(words.items())
    }


def _lag(at: int, heads: Steps, said: Steps, stored: Mapping[int, int]) -> Lag:
    last, enforced_through = heads.of(at), said.of(at)
    if enforced_through >= last:
        return Lag(at, 0, 0.0)
    oldest = stored.get(enforced_through + 1, at)
    return Lag(at, last - enforced_through, max(0, at - oldest) / NANOSECONDS)


def _furthest(began: int, step: int, points: Iterable[Lag]) -> list[Lag]:
    """Of the points of each step the one with most events behind."""
    found: dict[int, Lag] = {}
    for point in points:
        place = (point.at - began) // step
        if place not in found or point.events > found[place].events:
            found[place] = point
    return list(found.values())


def traffic(record: Record) -> Sequence[Traffic]:
    """What became of pods' probes, second by second, without a gap."""
    counts = Counter((_second(packet), packet.passed) for packet in record.packets)
    seconds = [second for second, _ in counts]
    return [
        Traffic(second * NANOSECONDS, counts[second, True], counts[second, False])
        for second in range(min(seconds, default=0), max(seconds, default=-1) + 1)
    ]


def _second(packet: Packet) -> int:
    return packet.ended // NANOSECONDS
