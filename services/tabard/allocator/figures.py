"""What the allocator measures of itself that no other record holds; read by `page`."""

from collections import Counter
from collections.abc import Sequence

from prometheus_client import Histogram

from tabard.bus.port import Outgoing
from tabard.process.metrics import seconds

EVENTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Bounds of the sizes of batches; the last is the most that one takes."""


class Figures:
    def __init__(self) -> None:
        self.append_s = seconds(
            "tabard_allocator_append_seconds", "An append, until it is durable, retries included."
        )
        self.batch_events = Histogram(
            "tabard_allocator_batch_events",
            "Ledger events in one atomic append.",
            registry=None,
            buckets=EVENTS,
        )
        self._appended: Counter[str] = Counter()
        self.takeovers = 0
        """How often it took the lead."""
        self.fenced = 0
        """How often it lost the lead to another."""
        self.superseded = 0
        """Observed events that it passed over, for later ones that undid them."""
        self.unheeded = 0
        """Observed events that it passed over, since their node had used up its allowance."""

    def appended(self, messages: Sequence[Outgoing], took_s: float) -> None:
        """A batch is in the ledger."""
        self.append_s.observe(took_s)
        self.batch_events.observe(len(messages))
        self._appended.update(message.subject for message in messages)

    def decisions(self) -> Counter[str]:
        """Events appended, by their type's name."""
        found: Counter[str] = Counter()
        for subject, count in self._appended.items():
            # `tabard.ledger.<kind>.<what>`; quarantines' subjects say more after it.
            found[".".join(subject.split(".")[2:4])] += count
        return found
