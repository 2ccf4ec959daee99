"""Queries that were let through and wait for their answer. Pure."""

from collections import OrderedDict
from collections.abc import Hashable

from tabard.agent.dns.frames import Datagram

PENDING_OF_POD_MAX = 512
"""Most queries of a pod that wait for their answer; its oldest make room, and theirs is dropped.

That much memory for each pod that has asked within PENDING_S_MAX, and no pod's flood is another's
loss.
"""
PENDING_S_MAX = 20.0
"""How long a query waits; resolvers give up after 5 s and ask again."""


class Pending:
    """What was asked by whom of whom; times in seconds, which never go back."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, OrderedDict[Hashable, float]] = OrderedDict()
        """By the pod's address, whoever asked longest ago first; then what, and when."""

    def __len__(self) -> int:
        return sum(map(len, self._asked.values()))

    def add(self, query: Datagram, question: Hashable, now: float) -> None:
        """`question` is all that its answer must repeat, the message's id among it."""
        of_pod = self._asked.setdefault(query.source, OrderedDict())
        self._asked.move_to_end(query.source)
        key = (query.source_port, query.destination, query.destination_port, question)
        of_pod[key] = now
        of_pod.move_to_end(key)
        if len(of_pod) > PENDING_OF_POD_MAX:
            of_pod.popitem(last=False)
        self._forget(now)

    def take(self, answer: Datagram, question: Hashable, now: float) -> bool:
        """Whether `answer` is to a query that waits; then that waits no longer."""
        key = (answer.destination_port, answer.source, answer.source_port, question)
        of_pod = self._asked.get(answer.destination)
        asked_at = of_pod.pop(key, None) if of_pod is not None else None
        return asked_at is not None and now - asked_at <= PENDING_S_MAX

    def _forget(self, now: float) -> None:
        """Pods whose every query waits no longer."""
        while True:
            pod, of_pod = next(iter(self._asked.items()))
            if of_pod and now - next(reversed(of_pod.values())) <= PENDING_S_MAX:
                return
            del self._asked[pod]
