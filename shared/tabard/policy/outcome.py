"""What a set of policies lets pass for the pods that they select: one comparable value.

Two sets of policies mean the same for a pod if their outcomes, over the same atoms, are equal.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.identity.labels import NamedPorts
from tabard.policy.atoms import Atoms
from tabard.policy.items import Item, Place, items
from tabard.policy.landscape import Landscape
from tabard.policy.model import Policy
from tabard.policy.traffic import PORT_MAX


class Passing(NamedTuple):
    """Who may pass: freely, and through the DNS proxy by the names that they may ask for."""

    freely: int
    proxied: tuple[tuple[tuple[str, ...], int], ...] = ()

    @property
    def anyhow(self) -> int:
        found = self.freely
        for _, who in self.proxied:
            found |= who
        return found


class Run(NamedTuple):
    """Ports that no rule tells apart; ANY is the protocols that no rule names."""

    protocol: Protocol
    first: int = 0
    last: int = PORT_MAX

    def within(self, item: Item) -> bool:
        if item.protocol is Protocol.ANY:
            return True
        return item.protocol is self.protocol and item.first <= self.first <= item.last


@dataclass(frozen=True, slots=True)
class Outcome:
    """`runs` are those where not the same may pass as by protocols that no rule names (`others`).

    Without `enforced` unknown peers may pass too.
    """

    enforced: bool
    others: Passing
    runs: tuple[tuple[Run, Passing], ...] = ()

    def who(self, protocol: Protocol, port: int) -> int:
        """Who may pass on this port, proxied or not."""
        for run, passing in self.runs:
            if run.protocol is protocol and run.first <= port <= run.last:
                return passing.anyhow
        return self.others.anyhow

    @property
    def anyone(self) -> int:
        """Who may pass on some port."""
        found = self.others.anyhow
        for _, passing in self.runs:
            found |= passing.anyhow
        return found


class Board:
    """The policies that select a pod with these named ports, ready to be judged in `direction`."""

    def __init__(
        self,
        land: Landscape,
        direction: Direction,
        policies: Sequence[Policy],
        ports: NamedPorts,
        atoms: Atoms,
    ) -> None:
        if land.enforcement == "never":
            policies = ()
        self._always = land.enforcement == "always"
        self.items = items(land, direction, policies, ports, atoms)
        self.everyone = land.possible(direction, atoms)
        self.isolating = {
            index for index, policy in enumerate(policies) if direction in policy.isolates
        }
        """The places of the policies that isolate it."""
        self._enforcing = {Place(index) for index in self.isolating} | {
            Place(index, at)
            for index, policy in enumerate(policies)
            for at, rule in enumerate(policy.rules)
            if rule.direction is direction
        }
        self._met: dict[Run, list[Item]] | None = None

    @property
    def met(self) -> Mapping[Run, list[Item]]:
        """All traffic, by what the items tell apart, and the items that each run meets."""
        if self._met is None:
            runs = [Run(Protocol.ANY)]
            for protocol in sorted({item.protocol for item in self.items} - {Protocol.ANY}):
                begins = {0}
                for item in self.items:
                    if item.protocol is protocol:
                        begins.update((item.first, item.last + 1))
                firsts = sorted(begins - {PORT_MAX + 1})
                lasts = [*(each - 1 for each in firsts[1:]), PORT_MAX]
                runs += [Run(protocol, *ends) for ends in zip(firsts, lasts, strict=True)]
            self._met = {run: [item for item in self.items if run.within(item)] for run in runs}
        return self._met

    def enforced(self, without: Place | None = None) -> bool:
        """Whether what nobody knows is dropped; as if the part `without` were not there."""
        if without is None:
            return self._always or bool(self._enforcing)
        return self._always or any(not without.holds(each) for each in self._enforcing)

    def passing(self, run: Run, without: Place | None = None) -> Passing:
        """Who may pass on these ports; as if the part `without` were not there."""
        met, isolating = self.met[run], bool(self.isolating)
        if without is not None:
            met = [item for item in met if not without.holds(item.place)]
            isolating = any(not without.holds(Place(index)) for index in self.isolating)
        return _judged(met, self.everyone, isolating or self._always)

    def outcome(self) -> Outcome:
        if not self.enforced():
            return Outcome(enforced=False, others=Passing(self.everyone))
        others, *rest = ((run, self.passing(run)) for run in self.met)
        found: list[tuple[Run, Passing]] = []
        for run, passing in rest:
            if found and found[-1][0][::2] == (run.protocol, run.first - 1):
                before, same = found[-1]
                if same == passing:
                    found[-1] = (before._replace(last=run.last), passing)
                    continue
            if passing != others[1]:
                found.append((run, passing))
        return Outcome(enforced=True, others=others[1], runs=tuple(found))


def outcome(
    land: Landscape,
    direction: Direction,
    policies: Sequence[Policy],
    ports: NamedPorts,
    atoms: Atoms,
) -> Outcome:
    """What may pass in `direction` for a pod with these named ports that `policies` select."""
    return Board(land, direction, policies, ports, atoms).outcome()


def _judged(met: Iterable[Item], everyone: int, isolated: bool) -> Passing:
    """The verdict for each party by the items that match."""
    tiers: dict[Tier, list[Item]] = {tier: [] for tier in Tier}
    for item in met:
        tiers[item.tier].append(item)
    freely, left = _in_order(tiers[Tier.ADMIN], everyone)
    allows = proxies = 0
    lookups: dict[int, set[str]] = {}
    for item in tiers[Tier.NETWORK]:
        if item.action is Action.DENY:
            left &= ~item.parties
        elif item.action is Action.ALLOW:
            allows |= item.parties
    for item in tiers[Tier.NETWORK]:
        if item.action is Action.PROXY:
            proxies |= item.parties
            lookups.setdefault(item.parties & left, set()).update(item.lookups or ())
    freely |= left & allows & ~proxies
    left = 0 if isolated else left & ~allows & ~proxies
    allowed, left = _in_order(tiers[Tier.BASELINE], left)
    return Passing(freely | allowed | left, _apart(lookups))


def _in_order(found: list[Item], parties: int) -> tuple[int, int]:
    """(whom the first item that matches lets pass, whom none decides on)"""
    allowed = passed = 0
    undecided = parties
    for item in found:
        met = undecided & item.parties
        undecided &= ~met
        match item.action:
            case Action.ALLOW | Action.PROXY:
                allowed |= met
            case Action.PASS:
                passed |= met
            case Action.DENY:
                pass
    return allowed, undecided | passed


def _apart(lookups: dict[int, set[str]]) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Sets of parties that may overlap → ones that do not, each with all its names."""
    parts: list[tuple[int, frozenset[str]]] = []
    for who, names in lookups.items():
        rest = who
        split: list[tuple[int, frozenset[str]]] = []
        for other, others in parts:
            split += [(other & who, others | names), (other & ~who, others)]
            rest &= ~other
        parts = [part for part in (*split, (rest, frozenset(names))) if part[0]]
    found: dict[tuple[str, ...], int] = {}
    for who, known in parts:
        key = tuple(sorted(known))
        found[key] = found.get(key, 0) | who
    return tuple(sorted(found.items()))
