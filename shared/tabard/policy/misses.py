"""How each rule that has a say was held against a flow: which decided, and why the others not."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from tabard.dataplane.maps import Action, Direction, Tier
from tabard.ledger.state import ObjectKey
from tabard.policy import wording
from tabard.policy.engine import Engine
from tabard.policy.model import Cidr, Peer, Policy, Rule, Selector
from tabard.policy.parties import Party
from tabard.policy.rulings import ALLOWS
from tabard.policy.traffic import contains, joined, shown, union

_EMPTY_LACKS = 1_000
"""A policy that allows nothing is farther away than any rule."""


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
        why = wording.of_reference(reference)
        yield _finding(policy, rule.action, f"{rule.path}.{path}", why, _EMPTY_LACKS)
    if not peers and not missing:
        yield _finding(policy, rule.action, rule.path, "names nobody", _EMPTY_LACKS)
    # What a reference or an entity stands for was written once, and is told once.
    nearest: dict[str, Finding] = {}
    others: Counter[str] = Counter()
    entities: dict[str, list[str]] = {}
    for named, path in peers:
        if isinstance(named, Selector) and (entity := wording.means(named)):
            entities.setdefault(path, []).append(entity)
        found = _of_item(engine, policy, rule, named, path, subject, peer, asked)
        others[path] += path in nearest and isinstance(named, Cidr)
        if path not in nearest or found.lacks < nearest[path].lacks:
            nearest[path] = found
    for path, found in nearest.items():
        stands = wording.of_standing(engine.written(policy.key, path), peer)
        if found.lacks and found.path == path and stands:
            found = replace(found, why=stands)
        elif found.lacks and found.path == path and others[path]:
            more = "does 1 more" if others[path] == 1 else f"do {others[path]} more"
            found = replace(found, why=f"{found.why}; nor {more} that it stands for")
        if found.lacks and found.path == path and len(means := entities.get(path, [])) > 1:
            who = wording.entity(engine.labels(peer, min(subject.nodes, default="")))
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
        why, lacks = wording.of_peer(named, peer, engine.labels(peer, node), engine.networks)
        return _finding(policy, action, path, why, lacks + (not fitting))
    if fitting:
        return _finding(policy, action, path, f"matches, on {shown(covers)}", 0)
    why = wording.of_ports(rule, shown(covers), by_cidr=by_cidr)
    return _finding(policy, action, rule.path, why, 1)


def _finding(policy: Policy, action: Action, path: str, why: str, lacks: int) -> Finding:
    return Finding(policy.key, policy.tier, policy.priority, action, path, why, lacks)
