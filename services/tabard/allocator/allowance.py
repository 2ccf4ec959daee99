"""How much of the ledger each node may cause by what it says itself. Pure.

LEDGER has a bound and keeps what it has, and every node folds it: without an allowance one node in
other hands, which may join with ever other labels or send junk as fast as it likes, could fill it.
"""

from dataclasses import dataclass

EVENTS_MAX = 4_096
"""Most ledger events at once; a node that was quiet for long has as many."""
EVENTS_PER_S = 20
"""What is had back. All names' addresses, at their bound, come and are renewed by fewer."""
REFUSAL_COST = 100
"""What a refusal counts as: one tells as much as many, and nobody needs any."""
NODES_MAX = 65_536
"""Nodes that are kept; the oldest makes room, and counts as one that was quiet."""

_NS_PER_EVENT = 1_000_000_000 // EVENTS_PER_S


@dataclass(slots=True)
class _Account:
    spent_ns: int
    """Events that were taken and are not had back, in the time that it takes."""
    at: int


class Allowance:
    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self.spent: set[str] = set()
        """Nodes that asked for more than they had, and have been given nothing since."""

    def take(self, node: str, events: int, now: int) -> bool:
        """Whether `node` may cause so many events at `now` (nanoseconds, of any clock)."""
        account = self._accounts.pop(node, _Account(0, now))
        spent = max(0, account.spent_ns - max(0, now - account.at))
        cost = events * _NS_PER_EVENT
        given = spent + cost <= EVENTS_MAX * _NS_PER_EVENT
        self._accounts[node] = _Account(spent + cost if given else spent, now)
        (self.spent.discard if given else self.spent.add)(node)
        if len(self._accounts) > NODES_MAX:
            oldest = next(iter(self._accounts))
            del self._accounts[oldest]
            self.spent.discard(oldest)
        return given
