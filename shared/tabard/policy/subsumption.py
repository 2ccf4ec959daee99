"""Whether one part of a policy says what another says too, by its words alone: for any workloads.

Sound and not complete: what it calls implied is so for every pod that could be; it finds a part
that one other part implies, not one that only several do together.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.policy.model import Cidr, Peer, Policy, Port, Requirement, Selector
from tabard.policy.networks import network
from tabard.policy.schema import within


class Fragment(NamedTuple):
    """What one peer (None: anyone) on one port of a rule does for a subject."""

    subject: Selector
    direction: Direction
    action: Action
    peer: Peer | None
    port: Port


def implied(before: Iterable[Policy], after: Iterable[Policy]) -> bool:
    """Whether all that `before` says, `after` says too, whatever pods there are.

    False if any of `before` is judged in an order (tiers ADMIN and BASELINE) or selects nodes:
    words alone do not tell there.
    """
    given, others = list(before), list(after)
    if any(policy.tier is not Tier.NETWORK or policy.selects_nodes for policy in given):
        return False
    beside = [
        policy for policy in others if policy.tier is Tier.NETWORK and not policy.selects_nodes
    ]
    isolating = [(policy.subject, direction) for policy in beside for direction in policy.isolates]
    # What speaks of a direction at all has unknown peers dropped in it.
    speaking = isolating + [
        (policy.subject, rule.direction) for policy in beside for rule in policy.rules
    ]
    said = list(_fragments(beside))
    return (
        all(
            _some(isolating, policy.subject, direction)
            for policy in given
            for direction in policy.isolates
        )
        and all(
            _some(speaking, policy.subject, rule.direction)
            for policy in given
            for rule in policy.rules
        )
        and all(any(_covers(other, one) for other in said) for one in _fragments(given))
    )


def _some(
    found: Iterable[tuple[Selector, Direction]], subject: Selector, direction: Direction
) -> bool:
    return any(way is direction and narrower(subject, other) for other, way in found)


def _fragments(policies: Iterable[Policy]) -> Iterator[Fragment]:
    for policy in policies:
        for rule in policy.rules:
            peers: tuple[Peer | None, ...] = (None,) if rule.peers is None else rule.peers
            for peer in peers:
                for port in rule.ports:
                    yield Fragment(policy.subject, rule.direction, rule.action, peer, port)


def _covers(wide: Fragment, narrow: Fragment) -> bool:
    return (
        wide.direction is narrow.direction
        and wide.action is narrow.action
        and narrower(narrow.subject, wide.subject)
        and _peer_within(narrow.peer, wide.peer)
        and _port_within(narrow.port, wide.port)
    )


def narrower(one: Selector, other: Selector) -> bool:
    """Whether whatever `one` matches, `other` does too."""
    return all(
        any(_entails(need, wanted) for need in one.requirements) for wanted in other.requirements
    )


def _entails(one: Requirement, other: Requirement) -> bool:
    if (one.source, one.key) != (other.source, other.key):
        return False
    match one.operator, other.operator:
        case ("In", "In"):
            return one.values <= other.values
        case ("In", "Exists") | ("Exists", "Exists") | ("DoesNotExist", "DoesNotExist" | "NotIn"):
            return True
        case ("In", "NotIn"):
            return not one.values & other.values
        case ("NotIn", "NotIn"):
            return one.values >= other.values
        case _:
            return False


def _peer_within(one: Peer | None, other: Peer | None) -> bool:
    if other is None:
        return True
    match one, other:
        case Selector(), Selector():
            return narrower(one, other)
        case Cidr(), Cidr():
            inner, outer = network(one.prefix), network(other.prefix)
            if inner.version != outer.version or not within(inner, outer):
                return False
            if one.holds_members and not other.holds_members:
                return False
            holes = [network(hole) for hole in one.excepts]
            return all(
                not network(gap).overlaps(inner)
                or any(within(network(gap), hole) for hole in holes)
                for gap in other.excepts
            )
        case _:
            return one == other


def _port_within(one: Port, other: Port) -> bool:
    if one.lookups != other.lookups:
        return False
    if other.protocol is Protocol.ANY:
        return True
    if one.protocol is not other.protocol:
        return False
    if other.name or one.name:
        every = not other.name and (other.first, other.last) == (0, 65_535)
        return every or one.name == other.name
    return other.first <= one.first and one.last <= other.last
