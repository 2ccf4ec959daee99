"""What must hold of a whole ledger, checked event by event and by other means than the fold's.

Violations are raised as AssertionError, with the place in the ledger.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tabard.bus.port import Bus, Stream
from tabard.dataplane.maps import Maps, Mode
from tabard.events import chain, ledger
from tabard.events.chain import GENESIS
from tabard.events.envelope import Recorded
from tabard.events.observed import PodStarted, PodStopped
from tabard.identity.labels import LabelFilter, pod_labels
from tabard.ledger.messages import recorded
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler
from tabard.policy.diff import diff

FILTER = LabelFilter()


@dataclass(slots=True)
class Ledger:
    """What has been read so far; `take` checks the next event against it."""

    cluster: str
    observed: Mapping[str, Recorded[Any]]
    """Place → the observed event there."""
    sets: dict[int, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[tuple[str, ...], int] = field(default_factory=dict)
    quarantine: set[int] = field(default_factory=set)
    bound: dict[str, ledger.EndpointBound] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    """UID → sequence of its binding, of all that ever were bound."""
    stopped: dict[str, int] = field(default_factory=dict)
    passed_over: set[str] = field(default_factory=set)
    """UIDs of pods whose stop was known before their start was decided."""
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(cause, kind of effect) → how often."""
    reused: int = 0
    """Identity numbers that were given out a second time."""
    given: set[int] = field(default_factory=set)
    cursor: int = 0

    def take(self, record: Recorded[Any]) -> None:
        event, place = record.event, record.place
        self.effects[record.envelope.cause, type(event).__name__] += 1
        match event:
            case ledger.IdentityAllocated(number, labels):
                assert number not in self.sets, f"{place}: {number} stands for two label sets"
                assert labels not in self.numbers, f"{place}: {labels} has two numbers"
                assert number not in self.quarantine, f"{place}: {number} is reused too early"
                self.sets[number], self.numbers[labels] = labels, number
                self.reused += number in self.given
                self.given.add(number)
            case ledger.IdentityRetired(number):
                users = [pod.uid for pod in self.bound.values() if pod.identity == number]
                assert not users, f"{place}: {number} retires, but {users} have it"
                del self.numbers[self.sets.pop(number)]
                self.quarantine.add(number)
            case ledger.IdentityReleased(number):
                assert number in self.quarantine, f"{place}: {number} was not retired"
                self.quarantine.remove(number)
            case ledger.EndpointBound():
                self._bind(event, record)
            case ledger.EndpointUnbound(uid):
                cause = self.observed[record.envelope.cause].event
                assert cause == PodStopped(uid), f"{place}: unbound because of {cause}"
                pod = self.bound.pop(uid)
                for address in pod.addresses:
                    if self.holders.get(address) == uid:
                        del self.holders[address]
                self.stopped[uid] = record.sequence
            case ledger.EndpointTombstoned(uid):
                cause = self.observed[record.envelope.cause].event
                assert cause == PodStopped(uid), f"{place}: stopped because of {cause}"
                assert uid not in self.started, f"{place}: {uid} was bound"
                self.passed_over.add(uid)
            case ledger.CursorAdvanced(_, sequence):
                assert sequence >= self.cursor, f"{place}: the cursor goes back"
                self.cursor = sequence
            case ledger.PodRefused() | ledger.PolicyRefused():
                raise AssertionError(f"{place}: {event}")

    def _bind(self, event: ledger.EndpointBound, record: Recorded[Any]) -> None:
        place = record.place
        cause = self.observed[record.envelope.cause].event
        assert isinstance(cause, PodStarted), f"{place}: bound because of {cause}"
        same = ("uid", "namespace", "name", "node", "addresses", "labels", "started_at")
        for name in same:
            assert getattr(event, name) == getattr(cause, name), f"{place}: another {name}"
        labels = pod_labels(
            namespace=cause.namespace,
            labels=dict(cause.labels),
            namespace_labels={},
            service_account=cause.service_account,
            cluster=self.cluster,
            ports=cause.ports,
            label_filter=FILTER,
        )
        assert self.sets.get(event.identity) == labels, f"{place}: not the pod's own identity"
        assert event.uid not in self.started, f"{place}: {event.uid} is bound twice"
        assert event.uid not in self.passed_over, f"{place}: {event.uid} is bound after its stop"
        for address in event.addresses:
            holder = self.bound.get(self.holders.get(address, ""))
            assert holder is None or holder.started_at < event.started_at, (
                f"{place}: {address} goes to an older pod"
            )
            self.holders[address] = event.uid
        self.bound[event.uid] = event
        self.started[event.uid] = record.sequence


async def read_ledger(bus: Bus, cluster: str) -> Ledger:
    """The whole ledger, every invariant checked at every event."""
    observed = {record.place: record for record in await _all(bus, Stream.OBSERVED)}
    found = Ledger(cluster, observed)
    for record in await _all(bus, Stream.LEDGER):
        found.take(record)
    starts = {r.event.uid: r for r in observed.values() if isinstance(r.event, PodStarted)}
    stops = {r.event.uid: r for r in observed.values() if isinstance(r.event, PodStopped)}
    # Nothing lost, and nothing done twice.
    assert found.passed_over <= starts.keys() & stops.keys()
    assert found.started.keys() == starts.keys() - found.passed_over
    assert found.stopped.keys() == stops.keys() - found.passed_over
    assert found.bound.keys() == starts.keys() - stops.keys()
    ran = {uid: record for uid, record in starts.items() if uid not in found.passed_over}
    ended = {uid: record for uid, record in stops.items() if uid not in found.passed_over}
    gone = {uid: stops[uid] for uid in found.passed_over}
    for records, kind in (
        (ran, "EndpointBound"),
        (ended, "EndpointUnbound"),
        (gone, "EndpointTombstoned"),
    ):
        wrong = {r.place for r in records.values() if found.effects[r.place, kind] != 1}
        assert not wrong, f"{kind} not exactly once for {sorted(wrong)[:5]}"
    last = max(record.sequence for record in observed.values())
    assert found.cursor == last, f"the cursor stands at {found.cursor}, OBSERVED ends at {last}"
    return found


async def _all(bus: Bus, stream: Stream) -> list[Recorded[Any]]:
    """All events of a stream, its sequences contiguous, and on LEDGER its chain whole."""
    records, before = [], GENESIS
    while messages := await bus.read(stream, len(records) + 1):
        for message in messages:
            assert message.sequence == len(records) + 1, (
                f"{stream} has a hole at {len(records) + 1}"
            )
            if stream is Stream.LEDGER:
                before = chain.follow(before, message.payload, f"{stream}/{message.sequence}")
            records.append(recorded(stream, message))
    return records


def check_fold(
    state: State, node: str, mode: Mode, attachments: Mapping[str, Attachment], maps: Maps
) -> None:
    """What the node's maps hold is what follows from the folded ledger, and from nothing else."""
    assert attachments.keys() == state.by_node.get(node, {}).keys(), f"{node}: pods are missing"
    drift = diff(maps, Compiler().compile(state, node, mode, attachments))
    assert not drift, f"{node} has drifted at LEDGER/{state.sequence}: {drift}"
