"""Faults of an observed event's effect: twice, or not at all."""

from tabard.allocator import superseding, writer
from tabard.allocator.leading import Leader
from tabard.invariants.verdict import Invariant
from tabard.simulator.faults.planting import Edit, Fault

_APPEND = "await append(self._bus, batch.messages, batch.expected_last, self._patience.back_off)"

FAULTS = (
    Fault(
        "cursor-behind-its-batch",
        "The input cursor is appended after the effects, not with them",
        Invariant.EXACTLY_ONCE,
        (
            Edit(
                Leader._append,
                "batch.close(self._cursor)\n",
                "if batch.messages:\n"
                f"            {_APPEND}\n"
                "        batch.expected_last = self._state.sequence\n"
                "        batch.messages = []\n"
                "        batch.close(self._cursor)\n",
            ),
        ),
    ),
    Fault(
        "cursor-before-its-effects",
        "The input cursor is appended before the effects: acknowledged, then done",
        Invariant.EXACTLY_ONCE,
        (
            Edit(
                Leader._step,
                "batch = Batch(self._state, self._indexes, self._clock())\n",
                "batch = Batch(self._state, self._indexes, self._clock())\n"
                "        come = self._inbox.head\n"
                "        if come is not None and come.message.sequence > self._cursor:\n"
                "            batch.close(come.message.sequence)\n"
                f"            {_APPEND}\n"
                "            batch = Batch(self._state, self._indexes, self._clock())\n",
            ),
        ),
    ),
    Fault(
        "append-repeated",
        "An append whose answer was lost is done again, though it is seen to be stored",
        Invariant.FENCED,
        (
            Edit(
                writer.append,
                "messages, expected_last = messages[stored:], expected_last + stored",
                "expected_last += stored",
            ),
        ),
    ),
    Fault(
        "superseded-too-widely",
        "A pod's label change is passed over for another pod's that comes next",
        Invariant.EXACTLY_ONCE,
        (Edit(superseding.is_pair, "return uid == other", "return True"),),
    ),
    Fault(
        "starts-passed-over",
        "A pod's start is left out if anything else waits behind it",
        Invariant.EXACTLY_ONCE,
        (
            Edit(
                Leader._never_ran,
                "if not isinstance(pod, PodStarted) or not self._inbox.stops(pod.uid):",
                "if not isinstance(pod, PodStarted) or self._inbox.next is None:",
            ),
        ),
    ),
)
