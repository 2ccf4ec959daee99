"""enforcement-outlives-control: what was allowed went on passing while control alone was down."""

from collections.abc import Sequence

from tabard.chaos.record import Record
from tabard.invariants.verdict import Verdict
from tabard.ledger.fold import LedgerRecord


def outlives_control(record: Record, ledger: Sequence[LedgerRecord]) -> Verdict:
    """Hold the stamped packets of pairs that stayed allowed against each fault of control."""
    raise NotImplementedError
