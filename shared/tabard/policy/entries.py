"""A rule set's entries in the policy map.

Peers of whom the same rules speak have the same entries, which are found once for all of them.

Under one policy id the entries for anyone never change, and those for a peer change only while no
packet can be that peer's: before its identity is known (of a CIDR's: before a prefix leads to it),
and after. Whatever says something else of a known peer is another rule set with another id: a
changed policy, group or mode, other ports under the subject's names. The one exception is a CIDR
whose `except` had no identity: what it says begins when that comes, under the same id. There the
order of writes (`dataplane.port.Change`: the most specific first, removed last) shows each packet
the old or the new answer within a tier.
"""

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from tabard.dataplane.maps import (
    AT_CIDR,
    Direction,
    EndpointFlag,
    PolicyKey,
    Protocol,
    Strength,
    Tier,
)
from tabard.identity.labels import NamedPorts
from tabard.policy.matching import NO_PORTS, IdentityIndex, Matched
from tabard.policy.model import Cidr
from tabard.policy.painting import Part, painted
from tabard.policy.prefixes import Universe, members
from tabard.policy.rules import RuleSet

SHAPES_MAX = 4_096
"""Shapes that one rule set remembers; it begins anew with one more."""


class Entry(NamedTuple):
    """A policy entry without its policy id and identity."""

    direction: Direction
    tier: Tier
    protocol: Protocol
    port: int
    bits: int
    strength: Strength


Side = tuple[Direction, Tier]
Shape = tuple[Entry, ...]
"""A peer's entries; those of egress come last."""


class Entries:
    """A rule set's entries, by their peer."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.subjects: set[int] = set()
        """The identities here that have this rule set."""
        self.clauses = tuple(rules.clauses())
        self.masks: dict[Matched | Cidr, int] = {}
        """Whom rules name → a bit for each clause about them."""
        self._anyone = 0
        self._naming = 0
        """The clauses whose meaning depends on the peer's named ports."""
        for at, clause in enumerate(self.clauses):
            self._anyone |= clause.anyone << at
            self._naming |= bool(clause.names) << at
            for peer in clause.peers:
                self.masks[peer] = self.masks.get(peer, 0) | 1 << at
        self._of_anyone = self._said(self._anyone, NO_PORTS)
        self._shapes: dict[tuple[int, NamedPorts], Shape] = {}
        self._by_peer: dict[int, Shape] = {}
        self.egress_peers: set[int] = {0} if self.is_open else set()
        """Whom the node must know for it, by identity: whom an egress entry names, those at CIDRs
        and, lest a pod be taken for it, the world; 0 is every pod."""

    @property
    def is_open(self) -> bool:
        """Whether egress is enforced and yet whatever no rule denies is allowed.

        Unknown peers drop, so every pod must be known then.
        """
        flags = self.rules.flags
        return EndpointFlag.EGRESS_ENFORCED in flags and EndpointFlag.EGRESS_ISOLATED not in flags

    def fill(self, index: IdentityIndex, universe: Universe) -> dict[PolicyKey, Strength | None]:
        """Find the entries for all peers, at first."""
        masks = {0: self._anyone} if self._anyone else {}
        for peer, mask in self.masks.items():
            for number in peer.numbers if isinstance(peer, Matched) else members(universe, peer):
                masks[number] = masks.get(number, 0) | mask
        found: dict[PolicyKey, Strength | None] = {}
        for number, mask in masks.items():
            if shape := self._shape(number, mask, index):
                self._put(number, shape)
                found.update(self._keyed(number, shape))
        return found

    def refresh(
        self, index: IdentityIndex, naming: Mapping[int, Iterable[Matched | Cidr]]
    ) -> dict[PolicyKey, Strength | None]:
        """Make them right for some peers; what changed, None for what is gone.

        `naming` is everything in a rule that names each: nothing if it is not live.
        """
        changed: dict[PolicyKey, Strength | None] = {}
        for number, peers in naming.items():
            mask = 0
            for peer in peers:
                mask |= self.masks.get(peer, 0)
            before, after = self._by_peer.get(number, ()), self._shape(number, mask, index)
            if before != after:
                changed.update(dict.fromkeys(dict(self._keyed(number, before))))
                changed.update(self._keyed(number, after))
                self._put(number, after)
        return changed

    def as_of(self, number: int, other: int) -> Iterator[tuple[PolicyKey, Strength]]:
        """Entries that say of the CIDR `number` what is said of `other`'s, and who is there."""
        for flag in (0, AT_CIDR):
            yield from self._keyed(number | flag, self._by_peer.get(other | flag, ()))

    def keys(self) -> Iterator[PolicyKey]:
        for number, shape in self._by_peer.items():
            for key, _ in self._keyed(number, shape):
                yield key

    def _keyed(self, number: int, shape: Shape) -> Iterator[tuple[PolicyKey, Strength]]:
        policy = self.rules.id
        for direction, tier, protocol, port, bits, value in shape:
            yield PolicyKey(policy, direction, number, protocol, port, bits, tier), value

    def _put(self, number: int, shape: Shape) -> None:
        if shape:
            self._by_peer[number] = shape
        else:
            self._by_peer.pop(number, None)
        if shape and shape[-1].direction is Direction.EGRESS:
            self.egress_peers.add(number)
        elif number:
            self.egress_peers.discard(number)

    def _shape(self, number: int, mask: int, index: IdentityIndex) -> Shape:
        """Of a peer (0: anyone) of whom these clauses speak."""
        ports = index.ports(number) if mask & self._naming else NO_PORTS
        found = self._shapes.get((mask, ports))
        if found is None:
            if len(self._shapes) == SHAPES_MAX:
                self._shapes.clear()
            said = self._said(mask, ports)
            others = self._of_anyone if number else {}
            found = self._shapes[mask, ports] = tuple(
                Entry(*side, block.protocol, block.port, block.bits, block.strength)
                for side, parts in sorted(said.items(), key=itemgetter(0))
                for block in painted(parts, others.get(side, frozenset()))
            )
        return found

    def _said(self, mask: int, ports: NamedPorts) -> dict[Side, frozenset[Part]]:
        """What these clauses say of a peer with these named ports."""
        said: dict[Side, set[Part]] = {}
        while mask:
            at = mask.bit_length() - 1
            mask ^= 1 << at
            clause = self.clauses[at]
            said.setdefault((clause.rule.direction, clause.policy.tier), set()).update(
                clause.of(ports)
            )
        return {side: frozenset(parts) for side, parts in said.items()}
