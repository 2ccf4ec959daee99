"""What the agent measures of itself that no other record holds; read by `page`."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from tabard.ledger.fold import LedgerRecord
from tabard.process.metrics import Histogram

BATCHES_WAITING_MAX = 4_096
"""Batches of events that wait to be enforced and are timed; the oldest make room, untimed."""


class Figures:
    """`clock` gives nanoseconds since the Unix epoch, as events' own times."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.tick_s = Histogram()
        self.tick_failures = 0
        self.attach_s = Histogram()
        self.attach_failures: Counter[str] = Counter()
        """By code of the gate's error."""
        self.enforce_s = Histogram()
        """From an event's decision to its enforcement: of the first event of each batch."""
        self._clock = clock
        self._waiting: deque[tuple[int, int]] = deque(maxlen=BATCHES_WAITING_MAX)

    def came(self, records: Sequence[LedgerRecord]) -> None:
        """Records that wait for a tick."""
        if records:
            self._waiting.append((records[0].sequence, records[0].envelope.occurred_at))

    def ticked(self, took_s: float, watermark: int | None) -> None:
        """A tick ended: all through `watermark` is enforced (None: it failed)."""
        self.tick_s.observe(took_s)
        if watermark is None:
            self.tick_failures += 1
            return
        while self._waiting and self._waiting[0][0] <= watermark:
            _, decided_at = self._waiting.popleft()
            # Two machines' clocks may differ by more than it took.
            self.enforce_s.observe(max(0, self._clock() - decided_at) / 1e9)
