"""Faults of identity numbers."""

from tabard.allocator import relabels, retirement
from tabard.allocator.numbering import Allotment, Numbering
from tabard.allocator.watermarks import Watermarks
from tabard.invariants.verdict import Invariant
from tabard.ledger import fold
from tabard.simulator.faults.planting import Edit, Fault

FAULTS = (
    Fault(
        "number-reused-at-once",
        "A retired number is free before any node knows that it retired",
        Invariant.SAFE_REUSE,
        (Edit(retirement.release, " or retired_at > passed", ""),),
    ),
    Fault(
        "first-node-decides",
        "A retired number is free once one node enforces its retirement, not all",
        Invariant.SAFE_REUSE,
        (Edit(Watermarks.passed, "min(map(", "max(map("),),
    ),
    Fault(
        "silence-is-consent",
        "A node of which a new leader has heard nothing counts as one that is up to date",
        Invariant.SAFE_REUSE,
        (Edit(Watermarks.of, "return 0 if word is None", "return 1 << 62 if word is None"),),
    ),
    Fault(
        "one-set-two-numbers",
        "A label set whose number is idle gets a second number",
        Invariant.ONE_NUMBER_ONE_SET,
        (
            Edit(
                Allotment.known,
                "number = self._state.numbers.get(labels)",
                "number = self._state.numbers.get(labels)\n"
                "        if number in self._state.idle:\n"
                "            number = None",
            ),
            Edit(
                fold._check_free,
                "if number in state.identities or labels in state.numbers:",
                "if number in state.identities:",
            ),
        ),
    ),
    Fault(
        "one-number-two-sets",
        "A new leader hands out numbers that are in use",
        Invariant.ONE_NUMBER_ONE_SET,
        (
            Edit(Numbering.__init__, "used = (*state.identities, *state.retired)", "used = ()"),
            Edit(
                fold._check_free,
                "if number in state.identities or labels in state.numbers:",
                "if labels in state.numbers:",
            ),
        ),
    ),
    Fault(
        "swaps-without-waiting",
        "A running pod is another before the nodes know its new identity",
        Invariant.SAFE_REUSE,
        (
            Edit(relabels.is_known, "return not live_nodes(state)", "return True"),
            Edit(
                relabels.is_known,
                "held.allocated_at <= plan.indexes.watermarks.passed(state)",
                "True",
            ),
        ),
    ),
)
