"""What a verdict is made of: the rules that have a say on a flow, and what they come to."""

from dataclasses import dataclass

from tabard.dataplane.maps import Action, Direction, Protocol, Reason, Tier
from tabard.ledger.state import ObjectKey
from tabard.policy.parties import Party
from tabard.policy.traffic import (
    EVERYTHING,
    NOTHING,
    Traffic,
    difference,
    intersection,
    joined,
    union,
)

ALLOWS = (Action.ALLOW, Action.PROXY)
REASONS = {
    Action.ALLOW: Reason.ALLOWED_POLICY,
    Action.PROXY: Reason.ALLOWED_PROXY,
    Action.DENY: Reason.DENIED_POLICY,
}
"""Of the rule that decided."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one item of one rule does with traffic between two parties: ports `first` to `last`."""

    policy: ObjectKey
    tier: Tier
    priority: int
    direction: Direction
    action: Action
    """PROXY for an ALLOW through the node's DNS proxy."""
    rule: str
    """Field path of the rule in the policy's document, such as `spec.ingress[0]`."""
    peer: str | None
    """Where the peer that matched was written, beneath the rule; None if the rule takes anyone."""
    port: str | None
    """Where the port was written, beneath the rule; None if the rule takes all traffic."""
    protocol: Protocol
    first: int
    last: int
    lookups: frozenset[str] | None = None
    """If given, the DNS names that may be asked for (patterns)."""

    @property
    def peer_path(self) -> str:
        """Field path of the peer that matched, or of the rule."""
        return self.rule if self.peer is None else f"{self.rule}.{self.peer}"

    @property
    def port_path(self) -> str:
        """Field path of the port that matched, or of the rule."""
        return self.rule if self.port is None else f"{self.rule}.{self.port}"

    @property
    def allows(self) -> bool:
        return self.action in ALLOWS

    @property
    def traffic(self) -> Traffic:
        return union([(self.protocol, self.first, self.last)])

    def covers(self, protocol: int, port: int) -> bool:
        if self.protocol is Protocol.ANY:
            return True
        return self.protocol == protocol and self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class Half:
    """What the policies of one end say: egress at the source, ingress at the destination."""

    direction: Direction
    reason: Reason
    isolating: tuple[ObjectKey, ...] = ()
    """The policies that isolate it in this direction, in the order of judging: what no rule of tier
    NETWORK allows is then denied (as it is if the install enforces always)."""
    rule: Grant | None = None
    """The rule that decided, whatever it did; None if none matched that did not pass."""
    passes: tuple[Grant, ...] = ()
    """The rules before it that left the decision to the next tier, in order."""

    @property
    def allowed(self) -> bool:
        return self.reason.allowed

    @property
    def tier(self) -> Tier | None:
        """The tier that decided, if one did."""
        if self.rule is not None:
            return self.rule.tier
        return Tier.NETWORK if self.reason is Reason.DENIED_POLICY else None


@dataclass(frozen=True, slots=True)
class Decision:
    """A half is None where policies hold for nobody: outside, and at a node that none selects."""

    source: Party
    destination: Party
    egress: Half | None
    ingress: Half | None

    @property
    def halves(self) -> tuple[Half, ...]:
        return tuple(half for half in (self.egress, self.ingress) if half is not None)

    @property
    def allowed(self) -> bool:
        return all(half.allowed for half in self.halves)


@dataclass(frozen=True, slots=True)
class Ruling:
    """How all traffic with one peer fares in one direction."""

    allowed: Traffic
    decided: tuple[tuple[Grant, Traffic], ...]
    """Each rule that has a say, and in what; where several of tier NETWORK allow the same, each."""


def ruling(grants: tuple[Grant, ...], is_isolated: bool) -> Ruling:
    """How all traffic fares by `grants`, which are in the order of judging."""
    passing: list[Traffic] = []
    decided: list[tuple[Grant, Traffic]] = []
    left = EVERYTHING
    for tier in Tier:
        passed: list[Traffic] = []
        for grant in grants:
            if grant.tier is not tier or not (part := intersection(left, grant.traffic)):
                continue
            decided.append((grant, part))
            if grant.allows:
                passing.append(part)
            # In tier NETWORK allows take nothing from each other.
            if tier is not Tier.NETWORK or grant.action is Action.DENY:
                left = difference(left, part)
                if grant.action is Action.PASS:
                    passed.append(part)
        if tier is Tier.NETWORK:
            left = NOTHING if is_isolated else difference(left, joined(passing))
        left = joined([left, *passed]) if passed else left
    found = joined([*passing, left])
    return Ruling(EVERYTHING if found == EVERYTHING else found, tuple(decided))


def in_tier(grant: Grant) -> tuple[int, int]:
    """Orders grants that are in the order of their policies and rules."""
    return (grant.tier, -grant.action if grant.tier is Tier.NETWORK else 0)
