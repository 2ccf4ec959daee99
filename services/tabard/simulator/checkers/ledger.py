"""The checkers of ledgers (`tabard.invariants`) on a simulated cluster's, event by event."""

from collections.abc import Iterator

from tabard.events.chain import GENESIS, chain_of
from tabard.events.ledger import (
    CursorAdvanced,
    EndpointRelabelled,
    EndpointsRebound,
    EndpointUnbound,
    RebindPlanned,
    RelabelPlanned,
)
from tabard.invariants.fence import Fenced
from tabard.invariants.lost import NothingLost, payload_hash
from tabard.invariants.numbers import OneNumberOneSet
from tabard.invariants.once import ExactlyOnce
from tabard.invariants.reuse import SafeReuse
from tabard.invariants.verdict import Invariant, Violation
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import speaker
from tabard.simulator.world import Node, World


class Sets:
    """one-number-one-set"""

    invariant = Invariant.ONE_NUMBER_ONE_SET

    def __init__(self) -> None:
        self._of = OneNumberOneSet()
        self._taken = 0

    def check(self, world: World) -> Iterator[Violation]:
        for record in world.records[self._taken :]:
            yield from self._of.take(record)
        self._taken = len(world.records)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from self._of.settled()


class Fence:
    """fenced"""

    invariant = Invariant.FENCED

    def __init__(self) -> None:
        self._of = Fenced()
        self._taken = self._appends = self._words = 0

    def check(self, world: World) -> Iterator[Violation]:
        for record in world.records[self._taken :]:
            yield from self._of.take(record, world.ledger[record.sequence - 1].payload)
        self._taken = len(world.records)
        for one in world.appends[self._appends :]:
            if one.stored:
                yield from self._of.wrote(
                    one.expected_last, one.messages, one.holder, one.epoch, world.now
                )
        self._appends = len(world.appends)
        for word in world.words[self._words :]:
            if word.role == "leading":
                yield from self._of.leads(word.holder, word.epoch, word.at)
        self._words = len(world.words)
        for each in world.allocators.values():
            state = each.state
            if each.role == "following" and not _is_written(world, state.sequence, state.chain):
                yield self._of.found(
                    f"{each.holder}, which follows, holds LEDGER/{state.sequence} for another "
                    "event than was written there",
                    world.now,
                )

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()


class Effects:
    """exactly once"""

    invariant = Invariant.EXACTLY_ONCE

    def __init__(self) -> None:
        self._of = ExactlyOnce(lambda event: True)
        self._taken = self._heard = self._appends = 0

    def check(self, world: World) -> Iterator[Violation]:
        for heard in world.heard[self._heard :]:
            stored = world.observed[heard.sequence - 1]
            self._of.observe(heard.sequence, heard.event, speaker(stored))
        self._heard = len(world.heard)
        for record in world.records[self._taken :]:
            yield from self._of.take(record)
        self._taken = len(world.records)
        for one in world.appends[self._appends :]:
            last = one.expected_last + one.messages
            if one.stored and not isinstance(world.records[last - 1].event, CursorAdvanced):
                yield self._of.found(
                    f"{one.holder} appended LEDGER/{one.expected_last + 1} to {last} without the "
                    "cursor that tells what of OBSERVED that was for",
                    world.now,
                )
        self._appends = len(world.appends)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from self._of.undecided(len(world.observed))


class Reuse:
    """safe reuse: by what nodes said, and by what they enforce and have saved."""

    invariant = Invariant.SAFE_REUSE

    def __init__(self) -> None:
        self._of: SafeReuse | None = None
        self._taken = self._words = 0
        self._saved: dict[str, int] = {}
        self._planned: dict[str, int] = {}
        """Pod that is to be another → when its leader planned the first change that still waits."""

    def check(self, world: World) -> Iterator[Violation]:
        if self._of is None:
            self._of = SafeReuse(world.numbers)
        for word in world.words[self._words :]:
            if word.kind == "node":
                self._of.said(word.name, word.sequence)
        self._words = len(world.words)
        for node in world.nodes.values():
            # A checkpoint that a fault damaged is not the node's doing.
            saved = self._saved[node.name] = max(node.saved, self._saved.get(node.name, 0))
            self._of.knows(node.name, min(node.enforced, saved) if saved else node.enforced)
        for record in world.records[self._taken :]:
            yield from self._of.take(record)
            yield from self._impatient(record, world)
            for number in self._of.reused:
                for node in world.nodes.values():
                    if node.reached >= record.sequence or number not in _held(node):
                        continue
                    if self._of.waited_for(node.name, number):
                        yield self._of.found(
                            f"{record.place} allocates {number} again, which live node "
                            f"{node.name} still has in its maps",
                            world.now,
                        )
        self._taken = len(world.records)
        yield from self._agree(world)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()

    def _impatient(self, record: LedgerRecord, world: World) -> Iterator[Violation]:
        """Who makes a running pod another while nodes are behind has waited for them first. Known
        where no clock has jumped: leaders go by their own."""
        at = record.envelope.occurred_at
        moved: tuple[str, ...] = ()
        behind: tuple[str, ...] = ()
        match record.event:
            case RelabelPlanned(uid):
                self._planned.setdefault(uid, at)
            case RebindPlanned(_, changes):
                for uid, _ in changes:
                    self._planned.setdefault(uid, at)
            case EndpointRelabelled(uid, _, _, behind):
                moved = (uid,)
            case EndpointsRebound(_, changes, behind):
                moved = tuple(uid for uid, _ in changes)
            case EndpointUnbound(uid):
                self._planned.pop(uid, None)
            case _:
                pass
        for uid in moved:
            waited = at - self._planned.pop(uid, at)
            if behind and not world.counts["skew"] and waited < world.relabel_timeout_ms * 1e6:
                assert self._of is not None
                yield self._of.found(
                    f"{record.place} makes running pod {uid} another after {waited / 1e9:.1f} s, "
                    f"and did not wait for {', '.join(behind)} as long as it should",
                    at,
                )

    def _agree(self, world: World) -> Iterator[Violation]:
        """Whoever has folded all has the same holders of addresses."""
        assert self._of is not None
        for node in world.nodes.values():
            if node.running and node.read == len(world.records):
                yield from self._of.agree(node.state)
                return


def _held(node: Node) -> frozenset[int]:
    """Every number that the node's kernel knows."""
    return frozenset(node.maps.identities).union(node.maps.hosts.values())


class Kept:
    """nothing lost"""

    invariant = Invariant.NOTHING_LOST

    def __init__(self) -> None:
        self._of = NothingLost()
        self._acknowledged = self._observed = self._taken = 0

    def check(self, world: World) -> Iterator[Violation]:
        for one in world.acknowledged[self._acknowledged :]:
            yield from self._of.acknowledged(one.sequence, payload_hash(one.payload), one.at)
        self._acknowledged = len(world.acknowledged)
        for node in world.nodes.values():
            if node.read:
                yield from self._shown(world, node.read, node.state.chain)

    def finish(self, world: World) -> Iterator[Violation]:
        for stored in world.observed:
            yield from self._of.observed(stored.sequence, stored.payload)
        for stored in world.ledger:
            yield from self._of.ledger(stored.sequence, stored.payload)
        yield from self._of.missing()

    def _shown(self, world: World, sequence: int, chain: bytes) -> Iterator[Violation]:
        """A node has folded through `sequence`, as it says."""
        if not _is_written(world, sequence, chain):
            yield from self._of.seen(sequence, chain, world.now)


def _is_written(world: World, sequence: int, chain: bytes) -> bool:
    """Whether the ledger has an event with this chain hash there (GENESIS before the first)."""
    if not sequence:
        return chain == GENESIS
    ledger = world.ledger
    return sequence <= len(ledger) and chain_of(ledger[sequence - 1].payload) == chain
