"""A ledger in memory with the allocator's decisions, for tests: given, when, then."""

from collections.abc import Collection, Mapping
from typing import Any

from tabard.allocator.batch import Batch
from tabard.allocator.commands import Limits, Tick
from tabard.allocator.decide import answer, decide
from tabard.allocator.numbering import FreeNumbers
from tabard.allocator.plan import Indexes
from tabard.bus.port import Outgoing, Stored
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import EpochClaimed, LedgerEvent, SettingsAdopted
from tabard.events.observed import (
    NamespaceLabelsSet,
    NodeJoined,
    Pairs,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
)
from tabard.identity.numbers import NumberSpace
from tabard.ledger.fold import apply
from tabard.ledger.messages import observed
from tabard.ledger.reader import take_all
from tabard.ledger.snapshot import freeze
from tabard.ledger.state import State

MS = 1_000_000
TICK = "tick"
START = 1_700_000_000_000_000_000
GRACE_MS = 1_000
LIMITS = Limits(node_lost_ms=60_000, relabel_timeout_ms=3_000)

SETTINGS = SettingsAdopted(
    cluster="default",
    cluster_id=0,
    cluster_bits=8,
    include=(),
    exclude=(),
    fixed=(),
    retire_grace_ms=GRACE_MS,
)


class Desk:
    """Answers observed events one by one; `now` is its clock in nanoseconds.

    `checked` holds each decision to leaving its state alone, which costs time in large states.
    """

    def __init__(self, settings: SettingsAdopted = SETTINGS, *, checked: bool = True) -> None:
        self._checked = checked
        self.state = State()
        apply(self.state, settings, 1, 0)
        self.indexes = Indexes(self.state)
        self.observed = 0
        self.now = 0
        self.messages: list[Outgoing] = []
        self._settings = settings

    def observe(self, event: Any, *, stored: int | None = None) -> list[LedgerEvent]:
        """What the allocator answers, after it (or as much of it as is `stored`) was applied."""
        self.observed += 1
        envelope = Envelope(self.observed.to_bytes(16), "", self.now, "", b"story-of-16bytes")
        record = Recorded("OBSERVED", self.observed, envelope, event)
        before = freeze(self.state) if self._checked else None
        events = answer(self.state, self.indexes, record, self.now)
        if self._checked:
            assert freeze(self.state) == before, "a decision changed the state that it was given"
        self._append(events[:stored], record)
        return events

    def write(self, *events: LedgerEvent) -> None:
        """Append events that no observation led to."""
        self._append(list(events), None)

    def tick(
        self,
        watermarks: Mapping[str, int] | None = None,
        after_ms: int = 0,
        silent: Collection[str] = (),
    ) -> list[LedgerEvent]:
        """All that one tick calls for; every node keeps up to date if nothing else is said, but the
        `silent` ones, which say nothing."""
        self.now += after_ms * MS
        heard = self.indexes.watermarks
        heard.listen(self.state, after_ms * MS)
        said: list[LedgerEvent] = []
        while True:
            end = self.state.sequence
            spoken = (name for name in self.state.nodes if name not in silent)
            words = dict.fromkeys(spoken, end) if watermarks is None else watermarks
            for node, sequence in words.items():
                heard.say(node, sequence, end)
            events = decide(self.state, self.indexes, Tick(self.now, LIMITS))
            if not events:
                return said
            self._append(events, None)
            said += events

    def _append(self, events: list[LedgerEvent], cause: Any) -> None:
        while events:
            batch = Batch(self.state, self.indexes, self.now)
            room = batch.room
            batch.add(events[:room], cause)
            events = events[room:]
            batch.close(self.observed)
            self.messages += batch.messages

    def refolded(self) -> State:
        """The state that the written ledger gives, chain and all."""
        state = self._begun()
        stored = [
            Stored(sequence, message.subject, message.payload, 0)
            for sequence, message in enumerate(self.messages, 1)
        ]
        take_all(state, stored)
        return state

    def _begun(self) -> State:
        """The state before the first message: the settings are taken for granted."""
        state = State()
        apply(state, self._settings, 1, 0)
        return state


class Teller(Desk):
    """A desk whose messages are a whole ledger, from the claim of the first epoch on.

    `numbers` are free for pods.
    """

    def __init__(self, settings: SettingsAdopted = SETTINGS, numbers: int = 60_000) -> None:
        super().__init__(settings, checked=False)
        # Nothing is written yet; the indexes know the object.
        self.state.__init__()  # type: ignore[misc]
        self.now = START
        self.grace_ms = settings.retire_grace_ms
        self.told: list[bytes] = []
        """What was observed, as it stands on the bus."""
        space = NumberSpace(settings.cluster_id, settings.cluster_bits)
        taken = range(space.first, space.last + 1 - numbers)
        self.indexes.numbering.cluster = FreeNumbers(space.first, space.last, taken)
        self.claim(1, settings)

    def claim(self, epoch: int, *more: SettingsAdopted) -> None:
        """Another allocator takes the lead."""
        batch = Batch(self.state, self.indexes, self.now)
        batch.add([EpochClaimed(epoch, f"story-{epoch}"), *more])
        batch.close(self.observed)
        self.messages += batch.messages

    def tell(self, *story: Any) -> None:
        """Observe each event of the story, or let the grace go by where it says TICK."""
        for event in story:
            self.now += MS
            if event == TICK:
                self.tick(after_ms=self.grace_ms)
            else:
                number = len(self.told) + 1
                envelope = Envelope(number.to_bytes(16, "big"), "", self.now)
                self.told.append(observed(event, envelope).payload)
                self.observe(event)

    def _begun(self) -> State:
        return State()


def pairs(labels: Mapping[str, str] | None = None) -> Pairs:
    return tuple(sorted((labels or {}).items()))


def started(
    uid: str,
    labels: Mapping[str, str] | None = None,
    *addresses: str,
    namespace: str = "default",
    node: str = "n1",
    at: int = 0,
    **more: Any,
) -> PodStarted:
    return PodStarted(uid, namespace, uid, node, addresses, pairs(labels), at, **more)


def relabelled(uid: str, **labels: str) -> PodLabelsChanged:
    return PodLabelsChanged(uid, pairs(labels))


def stopped(uid: str) -> PodStopped:
    return PodStopped(uid)


def namespace(name: str, **labels: str) -> NamespaceLabelsSet:
    return NamespaceLabelsSet(name, pairs(labels))


def joined(name: str) -> NodeJoined:
    return NodeJoined(name, (), ())


def kinds(events: list[LedgerEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def tiny_space(numbers: int, *, checked: bool = True) -> Desk:
    """A desk whose number space has only its last `numbers` numbers left."""
    desk = Desk(SETTINGS, checked=checked)
    space = NumberSpace()
    taken = range(space.first, space.last + 1 - numbers)
    desk.indexes.numbering.cluster = FreeNumbers(space.first, space.last, taken)
    return desk
