"""never-open: no packet passed that no state in its window of uncertainty would have allowed."""

from collections.abc import Sequence

from tabard.chaos.record import Record
from tabard.invariants.verdict import Verdict
from tabard.ledger.fold import LedgerRecord


def never_open(record: Record, ledger: Sequence[LedgerRecord]) -> Verdict:
    """Hold each stamped packet against the whole ledger, from its first event on."""
    raise NotImplementedError
