"""Figures of a run over time, for its report: how far behind each node was, and what passed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabard.chaos.record import Record
from tabard.ledger.fold import LedgerRecord

POINTS_MAX = 1_000
"""Most points of one line."""


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
    """Each node's lag over the run, at most POINTS_MAX points; of points that fall together the
    largest lag."""
    raise NotImplementedError


def traffic(record: Record) -> Sequence[Traffic]:
    raise NotImplementedError
