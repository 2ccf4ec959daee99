"""How each rule that has a say was held against a flow: which decided, and why the others not."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from tabard.dataplane.maps import Action, Direction, Tier
from tabard.identity.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.ledger.state import ObjectKey
from tabard.policy.engine import ALLOWS, Engine
from tabard.policy.matching import Labels, matches
from tabard.policy.model import (
    ANY_SOURCE,
    Cidr,
    DomainName,
    Nodes,
    Peer,
    Policy,
    Port,
    Requirement,
    Rule,
    Selector,
)
from tabard.policy.networks import Networks
from tabard.policy.parties import Party, Role
from tabard.policy.traffic import contains, joined, shown, union

_EMPTY_LACKS = 1_000
"""A policy that allows nothing is farther away than any rule."""
_ROLES = {Role.NODE: "a node", Role.WORLD: "outside the cluster", Role.UNKNOWN: "unknown"}


class Part(Enum):
    """What an item of a rule has to do with the verdict."""

    DECIDES = "decides"
    PASSES = "passes"
    """Leaves it to the next tier."""
    LATE = "late"
    """Matches too, after the verdict or too weakly to give it."""
    MISSES = "misses"
    """Does not match."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An item of a rule, as it was held against a flow."""

    policy: ObjectKey
    tier: Tier
    priority: int
    action: Action
    path: str
    """Field path of the peer or, where that matched, of the rule; of the list, if it is empty."""
    why: str
    """What it asks for, and what it met; of what matches, what it does with which ports."""
    lacks: int
    """How many conditions do not hold: the fewest is the nearest, 0 matches."""
    part: Part = Part.MISSES
    counts: bool = True
    """Whether it was judged before the verdict: had it matched, it would have given another."""


def findings(
    engine: Engine,
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: int | None = None,
    port: int = 0,
) -> list[Finding]:
    """Every item of the rules that have a say on `subject`, with a known `peer`, in the order of
    judging. Without a protocol any traffic was asked for: no port is amiss, and all that matches
    decides some of it."""
    asked = None if protocol is None else (protocol, port)
    held = [
        found
        for policy in engine.selecting(direction, subject)
        for found in _of_policy(engine, policy, direction, subject, peer, asked)
    ]
    found: list[Finding] = []
    is_decided = False
    for tier in Tier:
        is_past = is_decided
        of_tier = [one for one in held if one.tier is tier]
        if tier is Tier.NETWORK:
            of_tier.sort(key=lambda one: -one.action)
        for one in of_tier:
            part = Part.MISSES
            if not one.lacks:
                part = Part.PASSES if one.action is Action.PASS else Part.DECIDES
                part = Part.LATE if is_past else part
            found.append(replace(one, part=part, counts=not is_past))
            if asked is not None:
                is_decided |= part is Part.DECIDES
                is_past |= part in (Part.DECIDES, Part.PASSES)
        is_decided |= tier is Tier.NETWORK and engine.is_isolated(direction, subject)
    return found


def misses(
    engine: Engine,
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: int | None = None,
    port: int = 0,
) -> list[Finding]:
    """Why no rule allows this with a known `peer`: each that would have, had it matched.

    The nearest come first.
    """
    found = findings(engine, direction, subject, peer, protocol, port)
    missed = (
        one for one in found if one.part is Part.MISSES and one.counts and one.action in ALLOWS
    )
    return sorted(missed, key=lambda one: one.lacks)


def _of_policy(
    engine: Engine,
    policy: Policy,
    direction: Direction,
    subject: Party,
    peer: Party,
    asked: tuple[int, int] | None,
) -> Iterator[Finding]:
    rules = [rule for rule in policy.rules if rule.direction is direction]
    if not rules:
        path = f"{policy.section}.{direction.name.lower()}"
        why = "has no rule, so it allows nothing"
        yield _finding(policy, Action.ALLOW, path, why, _EMPTY_LACKS)
    for rule in rules:
        yield from _of_rule(engine, policy, rule, subject, peer, asked)


def _of_rule(
    engine: Engine,
    policy: Policy,
    rule: Rule,
    subject: Party,
    peer: Party,
    asked: tuple[int, int] | None,
) -> Iterator[Finding]:
    peers: tuple[tuple[Peer | None, str], ...] = ((None, rule.path),)
    if rule.peers is not None:
        peers = tuple(
            (named, f"{rule.path}.{path}")
            for named, path in zip(rule.peers, rule.peer_paths, strict=True)
        )
    missing = engine.missing(policy, rule)
    for reference, path in missing:
        why = _of_reference(reference)
        yield _finding(policy, rule.action, f"{rule.path}.{path}", why, _EMPTY_LACKS)
    if not peers and not missing:
        yield _finding(policy, rule.action, rule.path, "names nobody", _EMPTY_LACKS)
    # What a reference or an entity stands for was written once, and is told once.
    nearest: dict[str, Finding] = {}
    others: Counter[str] = Counter()
    entities: dict[str, list[str]] = {}
    for named, path in peers:
        if isinstance(named, Selector) and (entity := _means(named)):
            entities.setdefault(path, []).append(entity)
        found = _of_item(engine, policy, rule, named, path, subject, peer, asked)
        others[path] += path in nearest and isinstance(named, Cidr)
        if path not in nearest or found.lacks < nearest[path].lacks:
            nearest[path] = found
    for path, found in nearest.items():
        stands = _standing(engine.written(policy.key, path), peer)
        if found.lacks and found.path == path and stands:
            found = replace(found, why=stands)
        elif found.lacks and found.path == path and others[path]:
            more = "does 1 more" if others[path] == 1 else f"do {others[path]} more"
            found = replace(found, why=f"{found.why}; nor {more} that it stands for")
        if found.lacks and found.path == path and len(means := entities.get(path, [])) > 1:
            who = _entity(engine.labels(peer, min(subject.nodes, default="")))
            whom = "world" if "world" in means else ", ".join(means)
            found = replace(found, why=f"means {whom}, and the peer is {who}")
        yield found


def _of_item(
    engine: Engine,
    policy: Policy,
    rule: Rule,
    named: Peer | None,
    path: str,
    subject: Party,
    peer: Party,
    asked: tuple[int, int] | None,
) -> Finding:
    node = min(subject.nodes, default="")
    by_cidr = isinstance(named, Cidr)
    runs = [
        (each, union([(each.protocol, first, last)]))
        for each in rule.ports
        for first, last in engine.numbers(each, rule.direction, subject, peer, by_cidr=by_cidr)
    ]
    covers = joined(run for _, run in runs)
    fitting = [each for each, run in runs if asked is None or contains(run, *asked)]
    action = rule.action
    if action is Action.ALLOW and any(each.lookups is not None for each in fitting):
        action = Action.PROXY
    if named is not None and not engine.names(named, peer, node):
        why, lacks = _of_peer(named, peer, engine.labels(peer, node), engine.networks)
        return _finding(policy, action, path, why, lacks + (not fitting))
    if fitting:
        return _finding(policy, action, path, f"matches, on {shown(covers)}", 0)
    why = _of_ports(rule, shown(covers), by_cidr=by_cidr)
    return _finding(policy, action, rule.path, why, 1)


def _standing(written: list[Peer], peer: Party) -> str:
    """Why a name or nodes, which stand for addresses, do not stand for the peer's; empty if what
    was written is neither, or the peer has none."""
    match written, peer.address:
        case _, None:
            return ""
        case [DomainName(pattern=pattern)], at:
            return f"{pattern} does not stand for {at}"
        case [Nodes()], at:
            return f"no node of these labels has {at}"
    return ""


def _of_reference(reference: Peer) -> str:
    """Why a reference stands for nobody."""
    if isinstance(reference, DomainName):
        return f"no address of {reference.pattern} is known: nobody looked it up"
    return "what it refers to is not there"


def _finding(policy: Policy, action: Action, path: str, why: str, lacks: int) -> Finding:
    return Finding(policy.key, policy.tier, policy.priority, action, path, why, lacks)


def _of_ports(rule: Rule, covers: str, *, by_cidr: bool) -> str:
    names = sorted({port.name for port in rule.ports if port.name})
    if rule.direction is Direction.EGRESS and by_cidr and names:
        return f"the peer matches; ports by name ({', '.join(names)}) hold through no CIDR"
    asks = ", ".join(_port(port) for port in rule.ports)
    if not names:
        return f"the peer matches; the ports are {asks}"
    return f"the peer matches; the ports are {asks}, which is {covers} at the destination"


def _port(port: Port) -> str:
    if port.name:
        return f"{port.name}/{port.protocol.name}"
    return shown(union([(port.protocol, port.first, port.last)]))


def _of_peer(named: Peer, peer: Party, labels: Labels, networks: Networks) -> tuple[str, int]:
    """(what is missing, how many conditions)"""
    match named:
        case Cidr():
            return _of_block(named, peer, networks), 1
        case Selector():
            wanting = [
                requirement
                for requirement in named.requirements
                if not matches(Selector((requirement,)), labels)
            ]
            if entity := _means(named):
                return f"means {entity}, and the peer is {_entity(labels)}", len(wanting)
            if peer.role is not Role.POD:
                return f"selects pods, and the peer is {_ROLES[peer.role]}", len(wanting)
            return "; ".join(_of_label(each, labels) for each in wanting), len(wanting)
        case _:
            raise AssertionError(f"{named} was not resolved")


def _means(selector: Selector) -> str:
    """The entities that it means: nodes or the world by their reserved labels, or all pods; empty
    if it means others."""
    if selector.requirements == (Requirement(CLUSTER_KEY, "Exists"),):
        return "pods"
    if all(
        need.source == "reserved" and need.operator in ("In", "Exists")
        for need in selector.requirements
    ):
        return ", ".join(need.key for need in selector.requirements)
    return ""


def _entity(labels: Labels) -> str:
    """`remote-node`, `world`, `a pod`"""
    return next((key for source, key in sorted(labels) if source == "reserved"), "a pod")


def _of_block(block: Cidr, peer: Party, networks: Networks) -> str:
    at = peer.address
    if at is None:
        return f"{block.prefix}: the peer has no address here"
    held = networks.holding(at)
    if block.prefix not in held:
        return f"{block.prefix} does not hold {at}"
    hole = next((hole for hole in block.excepts if hole in held), None)
    if hole is not None:
        return f"{block.prefix} excepts {hole}, which holds {at}"
    who = _ROLES.get(peer.role, "a pod")
    return f"{block.prefix} means what is outside the cluster, and {at} is {who}"


def _of_label(requirement: Requirement, labels: Labels) -> str:
    """`needs app=web, is app=db`"""
    has = labels.get((requirement.source, requirement.key))
    if requirement.source == ANY_SOURCE:
        found = (
            labels[at] for at in sorted(labels) if at[1] == requirement.key and at[0] != "port"
        )
        has = next(found, None)
    values = sorted(requirement.values)
    if requirement.key == NAMESPACE_KEY and requirement.operator == "In":
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
