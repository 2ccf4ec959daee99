"""The ledger's past with the pods that nodes may have taken in ahead of it. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache

from tabard.bus.port import Stored, Stream
from tabard.events.errors import EventError
from tabard.events.ledger import NamespaceForgotten, NamespaceLabelled, SettingsAdopted
from tabard.events.observed import Pairs, PodStarted, PodStopped
from tabard.identity.labels import LabelFilter, pod_labels
from tabard.invariants.past import Past
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import recorded

Observed = tuple[int, PodStarted | PodStopped]
"""When it was stored (Unix nanoseconds), and what was observed of a pod."""


def pods_observed(messages: Iterable[Stored]) -> Iterator[Observed]:
    """The starts and stops of pods; what cannot be read started and stopped none."""
    for message in messages:
        with suppress(EventError):
            event = recorded(Stream.OBSERVED, message).event
            if isinstance(event, PodStarted | PodStopped):
                yield message.stored_at, event


class Starts:
    """Pods as they were started, and what their labels hang on beside themselves."""

    def __init__(self, observed: Iterable[Observed]) -> None:
        self._to_come = deque(
            (at, event)
            for at, event in observed
            if isinstance(event, PodStarted) and not event.host_network
        )
        self._settings: SettingsAdopted | None = None
        self._namespaces: dict[str, Pairs] = {}

    def note(self, record: LedgerRecord) -> None:
        match record.event:
            case SettingsAdopted() as settings:
                self._settings = settings
            case NamespaceLabelled(name, labels):
                self._namespaces[name] = labels
            case NamespaceForgotten(name):
                self._namespaces.pop(name, None)
            case _:
                pass

    def assume(self, past: Past, until: int | None = None) -> None:
        """Tell `past` of those that were started by `until` (Unix ns; None: all that are left)."""
        while self._to_come and (until is None or self._to_come[0][0] <= until):
            _, pod = self._to_come.popleft()
            if self._settings is None:
                continue  # no node takes a pod in before there is an identity for it
            labels = pod_labels(
                namespace=pod.namespace,
                labels=dict(pod.labels),
                namespace_labels=dict(self._namespaces.get(pod.namespace, ())),
                service_account=pod.service_account,
                cluster=self._settings.cluster,
                ports=pod.ports,
                label_filter=_filter(self._settings.include, self._settings.exclude),
            )
            past.assume(pod.uid, f"{pod.namespace}/{pod.name}", pod.node, labels)


def past_of(ledger: Iterable[LedgerRecord], observed: Iterable[Observed]) -> Past:
    """The whole of it: each pod has the labels that it was started with until the ledger says
    others."""
    past, starts = Past(), Starts(observed)
    for record in ledger:
        starts.assume(past, record.stored_at)
        past.take(record)
        starts.note(record)
    starts.assume(past)
    return past


@lru_cache(maxsize=4)
def _filter(include: tuple[str, ...], exclude: tuple[str, ...]) -> LabelFilter:
    return LabelFilter(include, exclude)
