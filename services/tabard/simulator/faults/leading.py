"""Faults of who may write the ledger."""

from tabard.allocator import startup, writer
from tabard.allocator.leading import Leader
from tabard.allocator.saving import Saver
from tabard.allocator.standby import Standby
from tabard.invariants.verdict import Invariant
from tabard.ledger import checkpoint
from tabard.simulator.faults.planting import Edit, Fault

FAULTS = (
    Fault(
        "no-fence",
        "An append goes behind whatever the ledger's last event is",
        Invariant.FENCED,
        (
            Edit(
                writer.append,
                "await bus.append(messages, expected_last)",
                "await bus.append(messages, await bus.last_sequence(Stream.LEDGER))",
            ),
        ),
    ),
    Fault(
        "goes-on-after-takeover",
        "A leader takes what its successor wrote for its own batch",
        Invariant.FENCED,
        (
            Edit(
                writer._stored,
                "if [message.payload for message in found] != ours:",
                "if not found:",
            ),
            Edit(Leader._check_lead, "if last > self._state.sequence:", "if False:"),
        ),
    ),
    Fault(
        "leads-from-behind",
        "A follower claims the lead before it has folded all, wherever the ledger ends",
        Invariant.FENCED,
        (
            Edit(Standby._is_at_head, "if head != self._state.sequence:", "if False:"),
            Edit(
                startup.claim,
                "await append(bus, messages, state.sequence, patience.back_off)",
                "await append(\n"
                "            bus, messages, await bus.last_sequence(Stream.LEDGER), "
                "patience.back_off\n"
                "        )",
            ),
        ),
    ),
    Fault(
        "keeps-what-is-not-written",
        "A leader saves its state before it is in the ledger, and a start believes what was saved",
        Invariant.FENCED,
        (
            Edit(
                Leader._step,
                "await self._append(batch)\n",
                "self._saver.save_if_due(self._state, tasks)\n"
                "            await self._append(batch)\n",
            ),
            Edit(Saver.save_if_due, "if now < self._due_at or", "if"),
            Edit(
                checkpoint.check,
                'return "" if claimed == state.chain else',
                'return "" if True else',
            ),
            Edit(
                checkpoint.check,
                'return f"the ledger ends before LEDGER/{state.sequence}"',
                'return ""',
            ),
        ),
    ),
)
