"""Who was who at each sequence of the ledger, as far as packets can tell: pods' label sets, who
held an address, which label sets were known, and what policies said."""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import msgpack

from tabard.events import ledger as events
from tabard.identity.labels import LabelSet
from tabard.identity.numbers import is_pod
from tabard.invariants.worlds import World, Worlds
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import Node, State

T = TypeVar("T")


class Window(NamedTuple):
    """Ledger sequences `first` to `last`, one of which a node enforced when it judged a packet."""

    first: int
    last: int


class Series(Generic[T]):
    """What a thing was from each sequence on at which it changed."""

    __slots__ = ("_at", "_values")

    def __init__(self) -> None:
        self._at: list[int] = []
        self._values: list[T] = []

    def put(self, sequence: int, value: T) -> None:
        if self._at and self._at[-1] == sequence:
            self._values[-1] = value
        elif not self._values or self._values[-1] != value:
            self._at.append(sequence)
            self._values.append(value)

    def of(self, sequence: int) -> T | None:
        """What it was then; None before it was anything."""
        at = bisect_right(self._at, sequence)
        return self._values[at - 1] if at else None

    @property
    def earliest(self) -> T | None:
        return self._values[0] if self._values else None

    def changes(self, window: Window) -> Iterable[int]:
        """The sequences after the window's first at which it became another."""
        if not self._at or self._at[-1] <= window.first:
            return ()
        return self._at[bisect_right(self._at, window.first) : bisect_right(self._at, window.last)]

    def values(self, window: Window) -> Iterator[T]:
        """All that it was in the window."""
        before = self.of(window.first)
        if before is not None:
            yield before
        for sequence in self.changes(window):
            if (value := self.of(sequence)) is not None:
                yield value


class Pod:
    """A pod that the ledger bound, or that a node took in ahead of it (`Past.assume`)."""

    __slots__ = ("addresses", "bound_at", "name", "node", "sets", "uid")

    def __init__(self, uid: str, name: str, node: str) -> None:
        self.uid = uid
        self.name = name
        """`namespace/name`"""
        self.node = node
        self.addresses: tuple[str, ...] = ()
        """Those that the ledger bound to it."""
        self.bound_at = 0
        """The ledger sequence at which it was first bound; 0: not yet."""
        self.sets: Series[int] = Series()
        """The number of its label set (`Worlds.number`); 0 once it is unbound."""

    def at(self, sequence: int) -> int:
        """Its label set then; before the ledger spoke of it, the first that it had: it may have
        started ahead of the ledger (ARCHITECTURE.md, decision 14)."""
        found = self.sets.of(sequence)
        return (self.sets.earliest or 0) if found is None else found

    def is_ahead(self, sequence: int) -> bool:
        """Whether the ledger had not bound it yet then."""
        return not 0 < self.bound_at <= sequence


class Past:
    """The ledger so far. `worlds` may be shared by many."""

    def __init__(self, worlds: Worlds | None = None) -> None:
        self.worlds = Worlds() if worlds is None else worlds
        self.sequence = 0
        self.pods: dict[str, Pod] = {}
        self.named: dict[str, list[str]] = {}
        """`namespace/name` → UIDs, oldest first."""
        self.holders: dict[str, Series[str]] = {}
        """Address → UID of the pod that holds it, or "" """
        self.known: dict[int, Series[bool]] = {}
        """By number of a label set: whether the ledger has an identity for it."""
        self._world: Series[World] = Series()
        self._sets: dict[int, int] = {}
        """Identity → number of its label set."""
        self._now = State()
        """Of what policies hang on: nodes, policies, names, settings."""
        self._texts: dict[Hashable, bytes] = {}
        """Policies as bytes."""
        self._renew(0)

    def world(self, sequence: int) -> World:
        found = self._world.of(sequence)
        assert found is not None, "there is one from 0 on"
        return found

    @property
    def turns(self) -> Series[World]:
        """What policies said, by sequence."""
        return self._world

    def assume(self, uid: str, name: str, node: str, labels: LabelSet) -> None:
        """A node takes a pod in ahead of the ledger, as one that has these labels."""
        pod = self.pods.get(uid)
        if pod is None:
            pod = self._add(uid, name, node)
            pod.sets.put(self.sequence, self.worlds.number(labels))

    def take(self, record: LedgerRecord) -> None:
        """The next event of the ledger."""
        sequence = self.sequence = record.sequence
        match record.event:
            case events.IdentityAllocated(number, labels) if is_pod(number):
                self._know(number, LabelSet(labels), sequence)
            case events.IdentityRetired(number) if number in self._sets:
                self.known[self._sets.pop(number)].put(sequence, False)
            case events.EndpointBound() as bound:
                if not bound.host_network:
                    self._bind(bound, sequence)
            case events.EndpointRelabelled(uid, number):
                self._move(uid, number, sequence)
            case events.EndpointsRebound(_, changes):
                for uid, number in changes:
                    self._move(uid, number, sequence)
            case events.EndpointUnbound(uid):
                self._unbind(uid, sequence)
            case events.EndpointTombstoned(uid) | events.PodRefused(uid):
                # One that is bound goes by an event of its own.
                if uid in self.pods and self.pods[uid].is_ahead(sequence):
                    self._unbind(uid, sequence)
            case events.SettingsAdopted() as settings:
                for number, labels in settings.fixed:
                    self._know(number, LabelSet(labels), sequence)
                self._now.settings = settings
                self._renew(sequence)
            case events.PolicyAccepted() as accepted:
                key = (accepted.kind, accepted.namespace, accepted.name)
                self._now.policies[key] = accepted
                self._texts[key] = msgpack.packb(accepted.document)
                self._renew(sequence)
            case events.PolicyForgotten(kind, namespace, name):
                if self._now.policies.pop((kind, namespace, name), None) is not None:
                    del self._texts[kind, namespace, name]
                    self._renew(sequence)
            case events.NodeAdded(name, addresses, cidrs, labels):
                self._now.nodes[name] = Node(name, addresses, cidrs, labels)
                self._renew(sequence)
            case events.NodeRemoved(name):
                if self._now.nodes.pop(name, None) is not None:
                    self._renew(sequence)
            case events.NameResolved(name, stand):
                self._now.names.setdefault(name, {}).update(stand)
                self._renew(sequence)
            case events.NameForgotten(name, gone):
                held = self._now.names.get(name, {})
                for address in gone:
                    held.pop(address, None)
                if not held:
                    self._now.names.pop(name, None)
                self._renew(sequence)
            case _:
                pass

    def _know(self, number: int, labels: LabelSet, sequence: int) -> None:
        of = self._sets[number] = self.worlds.number(labels)
        self.known.setdefault(of, Series()).put(sequence, True)

    def _add(self, uid: str, name: str, node: str) -> Pod:
        self.named.setdefault(name, []).append(uid)
        pod = self.pods[uid] = Pod(uid, name, node)
        return pod

    def _bind(self, bound: events.EndpointBound, sequence: int) -> None:
        uid = bound.uid
        pod = self.pods.get(uid) or self._add(uid, f"{bound.namespace}/{bound.name}", bound.node)
        pod.sets.put(sequence, self._sets.get(bound.identity, 0))
        pod.addresses += tuple(one for one in bound.addresses if one not in pod.addresses)
        pod.bound_at = pod.bound_at or sequence
        for address in bound.addresses:
            self.holders.setdefault(address, Series()).put(sequence, uid)

    def _move(self, uid: str, number: int, sequence: int) -> None:
        if uid in self.pods:
            self.pods[uid].sets.put(sequence, self._sets.get(number, 0))

    def _unbind(self, uid: str, sequence: int) -> None:
        pod = self.pods.get(uid)
        if pod is None:
            return
        pod.sets.put(sequence, 0)
        for address in pod.addresses:
            held = self.holders[address]
            if held.of(sequence) == uid:
                held.put(sequence, "")

    def _renew(self, sequence: int) -> None:
        now = self._now
        key = (
            now.settings and now.settings.enforcement,
            tuple(sorted(self._texts.items())),
            tuple(now.nodes[name] for name in sorted(now.nodes)),
            tuple((name, tuple(sorted(held))) for name, held in sorted(now.names.items())),
        )
        self._world.put(sequence, self.worlds.world(key, now))
