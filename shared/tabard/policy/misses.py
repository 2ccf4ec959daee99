"""Why the rules that could have allowed a flow did not: each item, and what it would have taken."""

from collections.abc import Iterator
from dataclasses import dataclass

from tabard.dataplane.maps import Direction
from tabard.identity.labels import NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.ledger.state import ObjectKey
from tabard.policy.engine import Engine, holds
from tabard.policy.matching import Labels, matches
from tabard.policy.model import Cidr, Peer, Policy, Port, Requirement, Rule, Selector
from tabard.policy.parties import IP, Party, Role
from tabard.policy.traffic import contains, shown, union

_EMPTY_LACKS = 1_000
"""A policy that allows nothing is farther away than any rule."""
_ROLES = {Role.NODE: "a node", Role.WORLD: "outside the cluster", Role.UNKNOWN: "unknown"}


@dataclass(frozen=True, slots=True)
class Miss:
    """An item of a rule that did not allow the flow."""

    policy: ObjectKey
    path: str
    """Field path of the peer or, where that matched, of the rule; of the list, if it is empty."""
    why: str
    """What it asks for, and what it met."""
    lacks: int
    """How many conditions do not hold: the fewest is the nearest."""


def misses(
    engine: Engine,
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: int | None = None,
    port: int = 0,
) -> list[Miss]:
    """Why no rule of the policies that isolate `subject` allows this with a known `peer`.

    The nearest come first. Without a protocol any traffic was asked for, and no port is amiss.
    """
    asked = None if protocol is None else (protocol, port)
    found = [
        miss
        for policy in engine.isolating(direction, subject)
        for miss in _of_policy(engine, policy, direction, subject, peer, asked)
    ]
    return sorted(found, key=lambda miss: miss.lacks)


def _of_policy(
    engine: Engine,
    policy: Policy,
    direction: Direction,
    subject: Party,
    peer: Party,
    asked: tuple[int, int] | None,
) -> Iterator[Miss]:
    (node,) = subject.nodes
    number = peer.as_seen_on(node)
    rules = [rule for rule in policy.rules if rule.direction is direction]
    if not rules:
        field = f"spec.{direction.name.lower()}"
        yield Miss(policy.key, field, "has no rule, so it allows nothing", _EMPTY_LACKS)
    for rule in rules:
        side = "from" if direction is Direction.INGRESS else "to"
        peers: tuple[Peer | None, ...] = (None,) if rule.peers is None else rule.peers
        for index, named in enumerate(peers):
            path = rule.path if named is None else f"{rule.path}.{side}[{index}]"
            allows = union(
                (each.protocol, first, last)
                for each in rule.ports
                for first, last in engine.numbers(each, direction, subject.identity, number, named)
            )
            fits = bool(allows) if asked is None else contains(allows, *asked)
            if named is None or engine.names(named, number, peer.address):
                if not fits:
                    yield Miss(policy.key, rule.path, _of_ports(rule, named, shown(allows)), 1)
                continue
            why, lacks = _of_peer(named, peer, engine.labels(number))
            yield Miss(policy.key, path, why, lacks + (not fits))


def _of_ports(rule: Rule, named: Peer | None, allows: str) -> str:
    names = sorted({port.name for port in rule.ports if port.name})
    if rule.direction is Direction.EGRESS and isinstance(named, Cidr) and names:
        return f"the peer matches; ports by name ({', '.join(names)}) hold through no ipBlock"
    asks = ", ".join(_port(port) for port in rule.ports)
    if not names:
        return f"the peer matches; the ports are {asks}"
    return f"the peer matches; the ports are {asks}, which is {allows} at the destination"


def _port(port: Port) -> str:
    if port.name:
        return f"{port.name}/{port.protocol.name}"
    return shown(union([(port.protocol, port.first, port.last)]))


def _of_peer(named: Peer, peer: Party, labels: Labels) -> tuple[str, int]:
    """(what is missing, how many conditions)"""
    match named:
        case Cidr():
            return _of_block(named, peer.address), 1
        case Selector() if peer.role is not Role.POD:
            return f"selects pods, and the peer is {_ROLES[peer.role]}", len(named.requirements)
        case Selector():
            wanting = [
                requirement
                for requirement in named.requirements
                if not matches(Selector((requirement,)), labels)
            ]
            return "; ".join(_of_label(each, labels) for each in wanting), len(wanting)
        case _:
            raise AssertionError(f"{named} was not resolved")


def _of_block(block: Cidr, at: IP | None) -> str:
    if at is None:
        return f"{block.prefix}: the peer has no address here"
    hole = next((hole for hole in block.excepts if holds(Cidr(hole), at)), None)
    if hole is not None:
        return f"{block.prefix} excepts {hole}, which holds {at}"
    return f"{block.prefix} does not hold {at}"


def _of_label(requirement: Requirement, labels: Labels) -> str:
    """`needs app=web, is app=db`"""
    has = labels.get((requirement.source, requirement.key))
    values = sorted(requirement.values)
    if requirement.key == NAMESPACE_KEY:
        return f"needs namespace {' or '.join(values)}, is in {has}"
    key = requirement.key.removeprefix(NAMESPACE_LABELS_PREFIX)
    name = key if key == requirement.key else f"namespace label {key}"
    met = f"has no {name}" if has is None else f"is {key}={has}"
    match requirement.operator:
        case "In" if len(values) == 1:
            return f"needs {name}={values[0]}, {met}"
        case "In":
            return f"needs {name} in ({', '.join(values)}), {met}"
        case "NotIn":
            return f"needs {name} not in ({', '.join(values)}), {met}"
        case "Exists":
            return f"needs {name}, has none"
        case _:
            return f"needs no {name}, {met}"
