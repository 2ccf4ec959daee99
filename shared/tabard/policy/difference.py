"""Two readings of one question: who may speak to whom in one state and in another, and why.

Semantic, not textual: policies that say the same in other words differ in nothing.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product

from tabard.dataplane.maps import Direction, Protocol
from tabard.ledger.state import State, enforcement_of
from tabard.policy.engine import Engine
from tabard.policy.model import Policy
from tabard.policy.parties import Who
from tabard.policy.rulings import Decision
from tabard.policy.traffic import NOTHING, Traffic, difference, intersection, joined


@dataclass(frozen=True, slots=True)
class Counterpart:
    """Who a name stands for on each side: those of its pods that any policy tells apart."""

    name: str
    before: tuple[Who, ...]
    after: tuple[Who, ...]
    same: bool = False
    """Nothing that policies see of it is another on the other side."""
    alone: bool = False
    """There is but one, which does not speak to itself."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Traffic from one to the other whose verdict changed for one reason."""

    source: str
    destination: str
    allowed: bool
    """Whether it is so now."""
    traffic: Traffic
    before: Decision
    """On the first port of it."""
    after: Decision


class Side:
    """One of the two states, with what is asked of it."""

    def __init__(self, state: State, engine: Engine | None = None) -> None:
        self.state = state
        self.engine = engine or Engine(state)

    def sort(self, whom: Sequence[Who]) -> Hashable:
        """Equal for those that no policy tells apart, nor their nodes."""
        return tuple(
            tuple(
                (self.engine.alike(party), party.address and party.address.version, party.nodes)
                for party in self.engine.parties.find(who)
            )
            for who in whom
        )

    def said(self, whom: Sequence[Who], direction: Direction) -> Hashable:
        """What policies say of each in this direction, in the order in which they are judged."""
        said = []
        for who in whom:
            for party in self.engine.parties.find(who):
                policies = self.engine.selecting(direction, party)
                said.append(tuple(_said(policy, direction) for policy in policies))
        return tuple(said)

    def cuts(self, whom: Sequence[Who]) -> set[tuple[Protocol, int]]:
        """Where the rules of any of them begin to say something else."""
        return {
            (port.protocol, at)
            for who in whom
            for party in self.engine.parties.find(who)
            for direction in Direction
            for policy in self.engine.selecting(direction, party)
            for rule in policy.rules
            for port in rule.ports
            for at in (port.first, port.last + 1)
        }

    def reach(self, sources: Sequence[Who], destinations: Sequence[Who]) -> tuple[Traffic, Traffic]:
        """(what every one may send to every other, what some may send to some)"""
        found = [
            traffic
            for one, other in product(sources, destinations)
            for traffic in (
                [self.engine.allowed(*ends) for ends in self.engine.parties.pairs(one, other)]
                or [NOTHING]
            )
        ]
        return reduce(intersection, found), joined(found)

    def meet(self, sources: Sequence[Who], destinations: Sequence[Who]) -> bool:
        """Whether any two have addresses of one family; else nothing passes, and not by policy."""
        return any(
            self.engine.parties.pairs(one, other) for one, other in product(sources, destinations)
        )


def _said(policy: Policy, direction: Direction) -> Hashable:
    rules = tuple(rule for rule in policy.rules if rule.direction is direction)
    return policy.tier, policy.priority, policy.key, direction in policy.isolates, rules


def differences(before: Side, after: Side, parties: Sequence[Counterpart]) -> Iterator[Piece]:
    """Each piece of traffic between two of `parties` that one side alone allows."""
    sorts: dict[Hashable, list[Counterpart]] = {}
    for party in parties:
        sort = (before.sort(party.before), after.sort(party.after), party.same, party.alone)
        sorts.setdefault(sort, []).append(party)
    moved = [_moved(before, after, members[0]) for members in sorts.values()]
    for (sources, out), (destinations, into) in product(
        zip(sorts.values(), moved, strict=True), repeat=2
    ):
        if Direction.EGRESS not in out and Direction.INGRESS not in into:
            continue
        for piece in _between(before, after, sources[0], destinations[0]):
            for one, other in product(sources, destinations):
                if one is not other or not one.alone:
                    yield replace(piece, source=one.name, destination=other.name)


def _moved(before: Side, after: Side, party: Counterpart) -> frozenset[Direction]:
    """The directions in which something of its own may have changed: its policies, or itself."""
    if not party.same or enforcement_of(before.state) != enforcement_of(after.state):
        return frozenset(Direction)
    return frozenset(
        direction
        for direction in Direction
        if before.said(party.before, direction) != after.said(party.after, direction)
    )


def _between(
    before: Side, after: Side, source: Counterpart, destination: Counterpart
) -> Iterator[Piece]:
    if not before.meet(source.before, destination.before):
        return
    if not after.meet(source.after, destination.after):
        return
    every, some = before.reach(source.before, destination.before)
    every_now, some_now = after.reach(source.after, destination.after)
    changes: Mapping[bool, Traffic] = {
        True: joined([difference(every_now, every), difference(some_now, some)]),
        False: joined([difference(every, every_now), difference(some, some_now)]),
    }
    for allowed, changed in changes.items():
        if not changed:
            continue
        cuts = before.cuts([*source.before, *destination.before])
        cuts |= after.cuts([*source.after, *destination.after])
        found: dict[Hashable, tuple[Decision, Decision, list[tuple[Protocol, int, int]]]] = {}
        for protocol, first, last in _split(changed, cuts):
            was, now = (
                _decided(side, ends, protocol, first, wanted)
                for side, ends, wanted in (
                    (before, (source.before, destination.before), not allowed),
                    (after, (source.after, destination.after), allowed),
                )
            )
            reason = (_reason(was), _reason(now))
            found.setdefault(reason, (was, now, []))[2].append((protocol, first, last))
        for was, now, pieces in found.values():
            traffic = joined({protocol: ((first, last),)} for protocol, first, last in pieces)
            yield Piece(source.name, destination.name, allowed, traffic, was, now)


def _decided(
    side: Side,
    ends: tuple[Sequence[Who], Sequence[Who]],
    protocol: Protocol,
    port: int,
    wanted: bool,
) -> Decision:
    """Of the pods that the names stand for, the first two whose verdict is `wanted`."""
    found = None
    for pair in product(*ends):
        for one, other in side.engine.parties.pairs(*pair):
            found = side.engine.decide(one, other, protocol, port)
            if found.allowed is wanted:
                return found
    assert found is not None, "ends without a common family have no traffic"
    return found


def _reason(decision: Decision) -> Hashable:
    return tuple(
        (half.direction, half.reason, half.rule and (half.rule.policy, half.rule.rule))
        for half in decision.halves
    )


def _split(
    traffic: Traffic, cuts: set[tuple[Protocol, int]]
) -> Iterator[tuple[Protocol, int, int]]:
    for protocol, first, last in runs(traffic):
        inside = sorted(at for of, at in cuts if of is protocol and first < at <= last)
        yield from (
            (protocol, begin, end - 1)
            for begin, end in zip([first, *inside], [*inside, last + 1], strict=True)
        )


def runs(traffic: Traffic) -> Iterator[tuple[Protocol, int, int]]:
    """(protocol, first port, last port) of each run."""
    for protocol, ranges in traffic.items():
        for first, last in ranges:
            yield protocol, first, last
