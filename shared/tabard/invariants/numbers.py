"""one-number-one-set: at no sequence do two label sets hold one identity, or one label set two; and
a pod has the identity of its own labels, which nobody takes from it while it has it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from tabard.events import ledger as events
from tabard.events.observed import Pairs, Ports
from tabard.identity.labels import LabelFilter, LabelSet, pod_labels
from tabard.identity.numbers import Reserved
from tabard.invariants.tally import Tally
from tabard.invariants.verdict import Invariant, Verdict, Violation
from tabard.ledger.fold import LedgerRecord

LABEL_SETS_MAX = 65_536
"""Label sets of pods that are remembered, of all histories."""


@dataclass(frozen=True, slots=True)
class _Pod:
    namespace: str
    labels: Pairs
    service_account: str
    ports: Ports
    host_network: bool
    number: int


class OneNumberOneSet:
    invariant = Invariant.ONE_NUMBER_ONE_SET

    def __init__(self) -> None:
        self._tally = Tally(self.invariant, "ledger events")
        self._sets: dict[int, LabelSet] = {}
        self._numbers: dict[LabelSet, int] = {}
        self._users: Counter[int] = Counter()
        self._pods: dict[str, _Pod] = {}
        self._namespaces: dict[str, Pairs] = {}
        self._planned: set[str] = set()
        """Pods that are to have another number."""
        self._settings: events.SettingsAdopted | None = None

    def take(self, record: LedgerRecord) -> list[Violation]:
        """The next event of the ledger."""
        self._tally.judged += 1
        at = record.envelope.occurred_at
        return [self._tally.found(f"{record.place} {what}", at) for what in self._faults(record)]

    def settled(self) -> list[Violation]:
        """Hold every pod for which nothing is planned to its labels: once the ledger is at rest."""
        return [
            self._tally.found(f"at the end the ledger {what}")
            for uid, pod in self._pods.items()
            if uid not in self._planned
            for what in self._misfits(uid, pod)
        ]

    def verdict(self) -> Verdict:
        return self._tally.verdict()

    def _faults(self, record: LedgerRecord) -> Iterator[str]:
        match record.event:
            case events.SettingsAdopted() as settings:
                self._settings = settings
                for number, labels in settings.fixed:
                    if self._sets.get(number) != LabelSet(labels):
                        yield from self._hold(number, LabelSet(labels))
            case events.IdentityAllocated(number, labels):
                yield from self._hold(number, LabelSet(labels))
            case events.IdentityRetired(number):
                yield from self._let_go(number)
            case events.NamespaceLabelled(name, pairs):
                self._namespaces[name] = pairs
            case events.NamespaceForgotten(name):
                self._namespaces.pop(name, None)
            case events.EndpointBound() as bound:
                self._drop(bound.uid)
                pod = _Pod(
                    bound.namespace,
                    bound.labels,
                    bound.service_account,
                    bound.ports,
                    bound.host_network,
                    bound.identity,
                )
                yield from self._has(bound.uid, pod)
            case events.EndpointRelabelled(uid, number, pairs) if uid in self._pods:
                before = self._drop(uid)
                yield from self._has(uid, replace(before, labels=pairs, number=number))
            case events.EndpointsRebound(_, changes):
                for uid, number in changes:
                    if uid in self._pods:
                        yield from self._has(uid, replace(self._drop(uid), number=number))
            case events.RelabelPlanned(uid):
                self._planned.add(uid)
            case events.RebindPlanned(_, changes):
                self._planned.update(uid for uid, _ in changes)
            case events.EndpointUnbound(uid) if uid in self._pods:
                self._drop(uid)
            case _:
                pass

    def _hold(self, number: int, labels: LabelSet) -> Iterator[str]:
        held = self._sets.get(number)
        if held is not None:
            yield f"gives {number} to {_shown(labels)}, but {_shown(held)} holds it"
        other = self._numbers.get(labels)
        if other is not None and other != number:
            yield f"gives {number} to {_shown(labels)}, which holds {other}"
        self._sets[number] = labels
        self._numbers[labels] = number

    def _let_go(self, number: int) -> Iterator[str]:
        labels = self._sets.pop(number, None)
        if labels is None:
            yield f"retires {number}, which no label set holds"
            return
        self._numbers.pop(labels, None)
        if self._users[number]:
            yield f"retires {number}, which {self._users[number]} pods have"

    def _has(self, uid: str, pod: _Pod) -> Iterator[str]:
        self._pods[uid] = pod
        self._users[pod.number] += 1
        yield from self._misfits(uid, pod)

    def _misfits(self, uid: str, pod: _Pod) -> Iterator[str]:
        """What is wrong with a pod's having its number."""
        if pod.host_network:
            if pod.number != Reserved.HOST:
                yield f"gives {pod.number} to pod {uid}, which is its node"
            return
        held = self._sets.get(pod.number)
        if held is None:
            yield f"gives {pod.number} to pod {uid}, but no label set holds it"
        elif self._settings is not None:
            own = _label_set(
                pod.namespace,
                pod.labels,
                self._namespaces.get(pod.namespace, ()),
                pod.service_account,
                pod.ports,
                self._settings.cluster,
                self._settings.include,
                self._settings.exclude,
            )
            if held != own:
                yield (
                    f"gives {pod.number} to pod {uid}, but it stands for {_shown(held)} and the "
                    f"pod is {_shown(own)}"
                )

    def _drop(self, uid: str) -> _Pod:
        self._planned.discard(uid)
        pod = self._pods.pop(uid, None) or _Pod("", (), "", (), False, 0)
        self._users[pod.number] -= 1
        return pod


def _shown(labels: LabelSet) -> str:
    return "{" + ", ".join(labels) + "}"


@lru_cache(maxsize=64)
def _filter(include: tuple[str, ...], exclude: tuple[str, ...]) -> LabelFilter:
    return LabelFilter(include, exclude)


@lru_cache(maxsize=LABEL_SETS_MAX)
def _label_set(
    namespace: str,
    labels: Pairs,
    namespace_labels: Pairs,
    service_account: str,
    ports: Ports,
    cluster: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
) -> LabelSet:
    return pod_labels(
        namespace=namespace,
        labels=dict(labels),
        namespace_labels=dict(namespace_labels),
        service_account=service_account,
        cluster=cluster,
        ports=ports,
        label_filter=_filter(include, exclude),
    )
