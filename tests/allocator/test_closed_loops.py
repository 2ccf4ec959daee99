"""Random lives of a cluster whose nodes lag, fall silent, are lost and come back, and whose
allocators crash and are taken over, held against a model that sees what nodes really enforce."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import GRACE_MS, LIMITS, MS, joined, tiny_space
from scenarios import well_formed
from tabard.allocator.numbering import FreeNumbers
from tabard.allocator.plan import Indexes
from tabard.events import ledger as events
from tabard.events.codec import decode
from tabard.events.ledger import BEHIND_MAX, LedgerEvent
from tabard.identity.labels import LabelSet
from tabard.identity.numbers import NumberSpace, is_cidr

NODES = ("n1", "n2", "n3")
WAITS_MS = (1, GRACE_MS, LIMITS.relabel_timeout_ms, LIMITS.node_lost_ms + 1)


@dataclass
class Model:
    """What holds at each event, by means of its own."""

    numbers: int
    """How many pods' numbers there are."""
    enforced: dict[str, int] = field(default_factory=dict)
    """Node → what its kernel is at."""
    live: set[str] = field(default_factory=set)
    lost: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Node → the sequence that it was lost at, and its watermark there."""
    sets: dict[int, LabelSet] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)
    """Live number → sequence of its allocation."""
    quarantine: dict[int, int] = field(default_factory=dict)
    mistaken: dict[int, set[str]] = field(default_factory=dict)
    """Free number → lost nodes that may take it for what it was."""
    identities: dict[str, int] = field(default_factory=dict)
    """Pod → its number."""
    waits_since: dict[str, int] = field(default_factory=dict)
    """Pod → time of the first plan that is not carried out."""
    doubtfully_drawn: int = 0

    def take(self, sequence: int, at: int, event: LedgerEvent) -> None:
        match event:
            case events.NodeAdded(name):
                self.live |= {name} - self.lost.keys()
            case events.NodeRemoved(name):
                self.live.discard(name)
                self._back(name)
            case events.NodeLost(name, watermark):
                assert watermark <= self.enforced.get(name, 0)
                self.live.remove(name)
                self.lost[name] = sequence, watermark
            case events.NodeReturned(name):
                assert self.enforced[name] >= self.lost[name][0], "it may mistake numbers"
                self._back(name)
                self.live.add(name)
            case events.IdentityAllocated(number, labels):
                self._allocate(number, LabelSet(labels), sequence)
            case events.IdentityRetired(number):
                assert number not in {*self.identities.values()}, "a pod has it"
                del self.sets[number], self.since[number]
                self.quarantine[number] = sequence
            case events.IdentityReleased(number):
                retired_at = self.quarantine.pop(number)
                behind = {name for name in self.live if self.enforced.get(name, 0) < retired_at}
                assert not behind, f"{behind} take {number} for what it was"
                self.mistaken[number] = {
                    name for name, (_, watermark) in self.lost.items() if watermark < retired_at
                }
            case events.EndpointBound():
                self.identities[event.uid] = event.identity
            case events.EndpointUnbound(uid):
                del self.identities[uid]
                self.waits_since.pop(uid, None)
            case events.RelabelPlanned(uid):
                self.waits_since.setdefault(uid, at)
            case events.RebindPlanned(_, changes):
                for uid, _ in changes:
                    self.waits_since.setdefault(uid, at)
            case events.EndpointRelabelled(uid, number, _, behind):
                self._move(uid, number, behind, at)
            case events.EndpointsRebound(_, changes, behind):
                for uid, number in changes:
                    self._move(uid, number, behind, at)

    def _back(self, name: str) -> None:
        self.lost.pop(name, None)
        for nodes in self.mistaken.values():
            nodes.discard(name)

    def _allocate(self, number: int, labels: LabelSet, sequence: int) -> None:
        assert number not in self.sets
        assert labels not in self.sets.values()
        assert number not in self.quarantine
        if self.mistaken.pop(number, None):
            clear = [free for free, nodes in self.mistaken.items() if not nodes]
            assert all(map(is_cidr, clear)), "another was free"
            held = [one for one in (*self.sets, *self.quarantine, *self.mistaken, number)]
            assert sum(not is_cidr(one) for one in held) == self.numbers, "one was never used"
            self.doubtfully_drawn += 1
        self.sets[number], self.since[number] = labels, sequence

    def _move(self, uid: str, number: int, behind: tuple[str, ...], at: int) -> None:
        since = self.waits_since.pop(uid, None)
        if number != self.identities[uid]:
            allocated_at = self.since.get(number, 0)
            late = {name for name in self.live if self.enforced.get(name, 0) < allocated_at}
            assert late <= set(behind), f"{late - set(behind)} do not know {number}"
            assert len(behind) <= BEHIND_MAX
            if behind:
                assert since is not None
                assert at - since >= LIMITS.relabel_timeout_ms * MS
        self.identities[uid] = number


class Cluster:
    def __init__(self, numbers: int) -> None:
        self.desk = tiny_space(numbers, checked=False)
        self.model = Model(numbers)
        self._numbers = numbers
        self._read = 0
        self.observe(joined("n1"))
        self.observe(joined("n2"))

    def happen(self, what: Any) -> None:
        match what:
            case "wait", ms:
                self.desk.tick({}, after_ms=ms)
            case "say", node, share:
                end = self.desk.state.sequence
                before = self.model.enforced.get(node, 0)
                self._says(node, before + (end - before) * share // 3)
            case "all say":
                for node in self.desk.state.nodes:
                    self._says(node, self.desk.state.sequence)
            case "foreign", node:
                end = self.desk.state.sequence
                self.desk.indexes.watermarks.say(node, end + 5, end)
            case "take over":
                self._take_over()
            case "crash", event, stored:
                self.desk.observe(event, stored=stored)
                self._take_over()
                self.desk.tick({})
                self.observe(event)
            case event:
                self.observe(event)
        self._check()

    def observe(self, event: Any) -> None:
        self.desk.observe(event)

    def _says(self, node: str, sequence: int) -> None:
        self.model.enforced[node] = sequence
        self.desk.indexes.watermarks.say(node, sequence, self.desk.state.sequence)

    def _take_over(self) -> None:
        """A new leader knows the ledger and has heard nobody."""
        desk = self.desk
        state = desk.state = desk.refolded()
        desk.indexes = Indexes(state)
        space = NumberSpace()
        taken = range(space.first, space.last + 1 - self._numbers)
        used = (*taken, *state.identities, *state.retired)
        desk.indexes.numbering.cluster = FreeNumbers(space.first, space.last, used, state.doubtful)

    def _check(self) -> None:
        desk, model = self.desk, self.model
        for message in desk.messages[self._read :]:
            self._read += 1
            record = decode(message.payload, "LEDGER", self._read)
            model.take(self._read, record.envelope.occurred_at, record.event)
        state = desk.state
        assert set(state.doubtful) == {free for free, nodes in model.mistaken.items() if nodes}
        assert set(state.lost) == set(model.lost)
        assert {uid: plan.since for uid, plan in state.relabels.items()} == model.waits_since


_nodes = st.sampled_from(NODES)
_happenings = st.one_of(
    well_formed,
    well_formed,
    st.builds(joined, _nodes),
    st.tuples(st.just("wait"), st.sampled_from(WAITS_MS)),
    st.tuples(st.just("say"), _nodes, st.integers(0, 3)),
    st.just("all say"),
    st.tuples(st.just("foreign"), _nodes),
    st.just("take over"),
    st.tuples(st.just("crash"), well_formed, st.integers(0, 3)),
)


@given(story=st.lists(_happenings, min_size=20, max_size=60), numbers=st.integers(2, 6))
@settings(deadline=None, max_examples=80)
def test_numbers_and_relabels_wait_for_every_live_node_whatever_happens(
    story: list[Any], numbers: int
) -> None:
    cluster = Cluster(numbers)
    for what in story:
        cluster.happen(what)
    # Once all nodes are there, nothing is left open.
    for _ in range(12):
        cluster.happen("all say")
        cluster.happen(("wait", GRACE_MS))
    state = cluster.desk.state
    assert not state.relabels
    assert not state.lost
    assert not state.doubtful
    assert not state.retired
    is_full = not len(cluster.desk.indexes.numbering.cluster)
    assert not state.waiting or is_full
    assert is_full if state.exhausted else not state.waiting
    assert cluster.desk.refolded() == state
