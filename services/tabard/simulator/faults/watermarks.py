"""Faults of what a node says and of what it keeps."""

from tabard.agent import takeover
from tabard.agent.checkpoints import Checkpoints
from tabard.agent.reconciler import Reconciler
from tabard.invariants.verdict import Invariant
from tabard.simulator.faults.planting import Edit, Fault

FAULTS = (
    Fault(
        "says-before-it-writes",
        "A node says that it enforces what it is only about to write",
        Invariant.FOLD,
        (
            Edit(
                Reconciler._enforce,
                "self.expected, self.expected_at = desired, sequence\n",
                "self.expected, self.expected_at = desired, sequence\n"
                "        self.report.enforced(sequence, self._pods)\n",
            ),
        ),
    ),
    Fault(
        "says-more-than-it-saved",
        "A node says that it is past a retirement which its checkpoint does not have",
        Invariant.SAFE_REUSE,
        (
            Edit(
                Checkpoints.acknowledged,
                "if self._reconciler.refolding:\n",
                "return sequence\n        if self._reconciler.refolding:\n",
            ),
        ),
    ),
    Fault(
        "restart-forgets-the-kernel",
        "A restarted agent takes its maps for empty: what went meanwhile stays in them",
        Invariant.FOLD,
        (
            Edit(
                takeover.take_over,
                "reconciler.actual = reconciler.expected = actual",
                "reconciler.actual = reconciler.expected = type(actual)()",
            ),
        ),
    ),
)
