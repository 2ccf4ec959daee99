"""safe reuse: a number is another label set's only after every live node's watermark has passed its
retirement, and a running pod's only once every live node knows it; an address's binding is replaced
only by a newer incarnation, and a late unbind of an older one changes nothing.

A number that some lost node may still take for what it was is drawn only when no other is free
(ARCHITECTURE.md, decision 37). A node that joined after a number's release has enforced nothing of
before.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tabard.events import ledger as events
from tabard.identity.numbers import NumberSpace, is_pod
from tabard.invariants.tally import Tally
from tabard.invariants.verdict import Invariant, Verdict, Violation
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State


@dataclass(slots=True)
class _Node:
    joined_at: int
    lost_at: int = 0
    """The sequence of its loss; 0: it is live."""
    watermark: int = 0
    """What it enforced last when it was lost, as far as the ledger knows."""


@dataclass(frozen=True, slots=True)
class _Gone:
    """A number that nobody has."""

    retired_at: int
    released_at: int = 0
    """0: it is in quarantine."""


class SafeReuse:
    invariant = Invariant.SAFE_REUSE

    def __init__(self, numbers: int | None = None) -> None:
        """`numbers`: how many there are for pods; None: as many as the settings say."""
        self._tally = Tally(self.invariant, "ledger events")
        self._count = numbers
        self._nodes: dict[str, _Node] = {}
        self._said: dict[str, int] = {}
        self._knows: dict[str, int] = {}
        self._live: dict[int, int] = {}
        """Number → the sequence of its allocation."""
        self._gone: dict[int, _Gone] = {}
        self._doubtful: dict[int, int] = {}
        """Free numbers that a lost node may take for what they were → their retirement."""
        self._started: dict[str, int] = {}
        """Bound pod → when it started."""
        self._numbers: dict[str, int] = {}
        """Bound pod → its number."""
        self.bindings: dict[str, str] = {}
        """Address → UID, as it should be."""
        self._held: dict[str, set[str]] = {}
        self._touched: set[str] = set()
        self.reused: dict[int, int] = {}
        """Numbers that the last event allocated again, and where they had been released."""

    def said(self, node: str, sequence: int) -> None:
        """A node said on STATUS that it enforces the ledger through `sequence`."""
        self._said[node] = max(sequence, self._said.get(node, 0))

    def knows(self, node: str, sequence: int) -> None:
        """A node does enforce the ledger through `sequence`, and would after a crash. Whoever is
        told of is not taken at its word alone."""
        self._knows[node] = sequence

    def waited_for(self, node: str, number: int) -> bool:
        """Whether the node is live, and was in the ledger when `number`, which the last event
        allocated again, had been released."""
        known = self._nodes.get(node)
        released_at = self.reused.get(number, 0)
        return known is not None and not known.lost_at and known.joined_at <= released_at

    def take(self, record: LedgerRecord) -> list[Violation]:
        """The next event of the ledger. What nodes said or did before it was written must have been
        told before."""
        self._tally.judged += 1
        self.reused.clear()
        at = record.envelope.occurred_at
        return [self._tally.found(f"{record.place} {what}", at) for what in self._faults(record)]

    def agree(self, state: State) -> list[Violation]:
        """Hold the addresses that were touched since the last time against a folded state."""
        touched, self._touched = self._touched, set()
        return [
            self._tally.found(
                f"address {address} is {state.bindings.get(address) or 'nobody'}'s in the state "
                f"folded through LEDGER/{state.sequence}, and should be "
                f"{self.bindings.get(address) or 'nobody'}'s"
            )
            for address in sorted(touched)
            if state.bindings.get(address) != self.bindings.get(address)
        ]

    def found(self, what: str, at: int = 0) -> Violation:
        """A violation that somebody else saw."""
        return self._tally.found(what, at)

    def verdict(self) -> Verdict:
        return self._tally.verdict()

    def _faults(self, record: LedgerRecord) -> Iterator[str]:
        sequence = record.sequence
        match record.event:
            case events.SettingsAdopted() as settings:
                if self._count is None:
                    space = NumberSpace(settings.cluster_id, settings.cluster_bits)
                    self._count = space.last + 1 - space.first
            case events.NodeAdded(name):
                self._nodes.setdefault(name, _Node(sequence))
            case events.NodeRemoved(name):
                self._nodes.pop(name, None)
                self._clear_doubts()
            case events.NodeLost(name, watermark) if name in self._nodes:
                self._nodes[name].lost_at, self._nodes[name].watermark = sequence, watermark
            case events.NodeReturned(name, watermark) if name in self._nodes:
                node = self._nodes[name]
                if watermark < node.lost_at:
                    yield (
                        f"takes node {name} back at LEDGER/{watermark}, before its loss at "
                        f"LEDGER/{node.lost_at}"
                    )
                if (said := self._said.get(name, 0)) < watermark:
                    yield f"takes node {name} back at LEDGER/{watermark}, but it said {said}"
                node.lost_at = 0
                self._clear_doubts()
            case events.IdentityAllocated(number):
                yield from self._allocate(number, sequence)
            case events.IdentityRetired(number):
                self._live.pop(number, None)
                self._gone[number] = _Gone(sequence)
            case events.IdentityReleased(number):
                yield from self._release(number, sequence)
            case events.EndpointBound() as bound:
                yield from self._bind(bound)
            case events.EndpointUnbound(uid):
                self._unbind(uid)
            case events.EndpointRelabelled(uid, number, _, behind):
                yield from self._move(uid, number, behind)
            case events.EndpointsRebound(_, changes, behind):
                for uid, number in changes:
                    yield from self._move(uid, number, behind)
            case _:
                pass

    # Numbers

    def _behind(self, sequence: int, since: int) -> Iterator[str]:
        """Live nodes, of before `since`, that are not known to have passed `sequence`."""
        for name, node in self._nodes.items():
            if node.lost_at or node.joined_at > since:
                continue
            said = self._said.get(name, 0)
            if said < sequence:
                yield f"live node {name} said {said} last"
            elif name in self._knows and self._knows[name] < sequence:
                yield f"live node {name}, which said {said}, enforces or keeps {self._knows[name]}"

    def _allocate(self, number: int, sequence: int) -> Iterator[str]:
        gone = self._gone.pop(number, None)
        doubted = self._doubtful.pop(number, None)
        if gone is not None:
            self.reused[number] = gone.released_at
            if not gone.released_at:
                yield f"allocates {number}, retired at LEDGER/{gone.retired_at} and not released"
            for behind in self._behind(gone.retired_at, gone.released_at):
                yield f"allocates {number}, retired at LEDGER/{gone.retired_at}, but {behind}"
        if doubted is not None and is_pod(number) and (clear := self._clear()) > 0:
            yield (
                f"allocates {number}, which a lost node may take for what it was at "
                f"LEDGER/{doubted - 1}, while {clear} other numbers are free"
            )
        self._live[number] = sequence

    def _move(self, uid: str, number: int, behind: tuple[str, ...]) -> Iterator[str]:
        """A running pod is another: who does not know `number` drops what it sends."""
        before = self._numbers.get(uid)
        self._numbers[uid] = number
        if number == before or len(behind) == events.BEHIND_MAX:
            return
        allocated_at = self._live.get(number, 0)
        for name, node in self._nodes.items():
            said = self._said.get(name, 0)
            if not node.lost_at and said < allocated_at and name not in behind:
                yield (
                    f"gives {number}, allocated at LEDGER/{allocated_at}, to running pod {uid}, "
                    f"but live node {name} said {said} last"
                )

    def _clear(self) -> int:
        """How many numbers of pods are free and nobody's doubt."""
        assert self._count is not None, "settings come before numbers"
        held = {*self._live, *self._doubtful}
        held |= {number for number, gone in self._gone.items() if not gone.released_at}
        return self._count - sum(map(is_pod, held)) - 1

    def _release(self, number: int, sequence: int) -> Iterator[str]:
        gone = self._gone.get(number)
        if gone is None or gone.released_at:
            yield f"releases {number}, which is not in quarantine"
            return
        for behind in self._behind(gone.retired_at, sequence):
            yield f"releases {number}, retired at LEDGER/{gone.retired_at}, but {behind}"
        self._gone[number] = _Gone(gone.retired_at, sequence)
        if self._is_doubtful(gone.retired_at):
            self._doubtful[number] = gone.retired_at

    def _is_doubtful(self, retired_at: int) -> bool:
        return any(node.lost_at and node.watermark < retired_at for node in self._nodes.values())

    def _clear_doubts(self) -> None:
        self._doubtful = {
            number: retired_at
            for number, retired_at in self._doubtful.items()
            if self._is_doubtful(retired_at)
        }

    # Addresses

    def _bind(self, bound: events.EndpointBound) -> Iterator[str]:
        uid = bound.uid
        for address in bound.addresses:
            holder = self.bindings.get(address)
            if holder is not None and self._started[holder] > bound.started_at:
                yield (
                    f"binds {address} to pod {uid}, which started before pod {holder}, whose it is"
                )
            if holder is not None:
                self._held[holder].discard(address)
            self.bindings[address] = uid
            self._touched.add(address)
        self._started[uid] = bound.started_at
        self._held[uid] = set(bound.addresses)
        self._numbers[uid] = bound.identity

    def _unbind(self, uid: str) -> None:
        for address in self._held.pop(uid, ()):
            del self.bindings[address]
            self._touched.add(address)
        self._started.pop(uid, None)
        self._numbers.pop(uid, None)
