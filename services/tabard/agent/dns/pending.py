"""Queries that were let through and wait for their answer. Pure."""

from collections import OrderedDict
from collections.abc import Hashable

from tabard.agent.dns.frames import Datagram

PENDING_MAX = 4_096
"""Most queries that wait for their answer; the oldest make room, and theirs is dropped."""
PENDING_S_MAX = 20.0
"""How long a query waits; resolvers give up after 5 s and ask again."""


class Pending:
    """What was asked by whom of whom; times in seconds."""

    def __init__(self) -> None:
        self._asked: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def add(self, query: Datagram, question: Hashable, now: float) -> None:
        """`question` is all that its answer must repeat, the message's id among it."""
        key = (query.source, query.source_port, query.destination, query.destination_port, question)
        self._asked[key] = now
        self._asked.move_to_end(key)
        if len(self._asked) > PENDING_MAX:
            self._asked.popitem(last=False)

    def take(self, answer: Datagram, question: Hashable, now: float) -> bool:
        """Whether `answer` is to a query that waits; then that waits no longer."""
        ends = (answer.destination, answer.destination_port, answer.source, answer.source_port)
        asked_at = self._asked.pop((*ends, question), None)
        return asked_at is not None and now - asked_at <= PENDING_S_MAX
