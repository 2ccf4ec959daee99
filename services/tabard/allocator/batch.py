"""Decisions collected into one atomic append: envelopes, chain and cursor."""

from tabard.allocator.envelopes import Cause, envelope
from tabard.allocator.plan import Indexes
from tabard.bus.port import BATCH_MESSAGES_MAX, Outgoing, Stream
from tabard.events.ledger import CursorAdvanced, LedgerEvent
from tabard.ledger.fold import apply
from tabard.ledger.messages import sealed
from tabard.ledger.state import State

BATCH_BYTES_MAX = 8 << 20
"""A batch that has reached this many bytes takes no further decision."""


class Batch:
    """A batch in the making on `state`, which runs ahead of the ledger until it is stored.

    Each decision is applied as it is added, so that the next one sees it.
    """

    def __init__(self, state: State, indexes: Indexes, at: int) -> None:
        """`at` is the time of all events in it, in nanoseconds since the Unix epoch."""
        self.at = at
        self.expected_last = state.sequence
        self.messages: list[Outgoing] = []
        self._state = state
        self._indexes = indexes
        self._bytes = 0

    @property
    def room(self) -> int:
        """How many more events it takes; the last place is the cursor's."""
        if self._bytes >= BATCH_BYTES_MAX:
            return 0
        return BATCH_MESSAGES_MAX - 1 - len(self.messages)

    def add(self, decision: list[LedgerEvent], cause: Cause = None) -> None:
        """Apply a decision and add it; it has at most `room` events."""
        for event in decision:
            self._seal(event, cause)

    def close(self, cursor: int, cause: Cause = None) -> None:
        """End the batch: all of OBSERVED through `cursor` has had its effect by now."""
        self._seal(CursorAdvanced(Stream.OBSERVED.value, cursor), cause)
        assert len(self.messages) <= BATCH_MESSAGES_MAX

    def _seal(self, event: LedgerEvent, cause: Cause) -> None:
        state = self._state
        sequence = state.sequence + 1
        enveloped = (event, envelope(event, sequence, self.at, cause))
        messages, state.chain = sealed(state.chain, [enveloped])
        apply(state, event, sequence, self.at)
        state.sequence = sequence
        self._indexes.note(event)
        self.messages += messages
        self._bytes += len(messages[0].payload)
