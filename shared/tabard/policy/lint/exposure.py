"""Who is let in from everywhere, and who is cut off without anybody having said so."""

from collections.abc import Iterator

from tabard.dataplane.maps import Action, Direction, Protocol
from tabard.identity.labels import NAMESPACE_KEY
from tabard.policy.items import atoms_of
from tabard.policy.landscape import Group, bits
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import Cidr, Peer, Policy, Port, Rule, Selector
from tabard.policy.outcome import outcome

NAMES_MAX = 5
"""Workloads that a message names."""


def world(survey: Survey) -> Iterator[Finding]:
    """TB301 to TB303, once for a rule."""
    for policy in survey.policies:
        for rule in policy.rules:
            if rule.action is not Action.ALLOW:
                continue
            path = _to_world(survey, rule)
            if path is None:
                continue
            whom = "anyone" if rule.peers is None else "all of the world"
            if rule.direction is Direction.EGRESS:
                yield Finding(
                    catalogue.SENDS_TO_WORLD, policy.key, path, f"may send to {whom}{_on(rule)}"
                )
            elif _all_ports(rule):
                why = f"{whom} may send on every port"
                yield Finding(catalogue.OPEN_TO_WORLD, policy.key, path, why)
            else:
                why = f"{whom} may send{_on(rule)}"
                yield Finding(catalogue.PORTS_OPEN_TO_WORLD, policy.key, path, why)


def _to_world(survey: Survey, rule: Rule) -> str | None:
    """Field path of what lets all of the world through; None if nothing does."""
    if rule.peers is None:
        return rule.path
    for peer, path in zip(rule.peers, rule.peer_paths, strict=True):
        if _is_world(survey, peer):
            return f"{rule.path}.{path}"
    return None


def _is_world(survey: Survey, peer: Peer) -> bool:
    match peer:
        case Cidr():
            return peer.prefix.endswith("/0") and not peer.excepts
        case Selector():
            land = survey.land
            return bool(land.select(peer) & (land.world4 | land.world6))
        case _:
            return False


def _all_ports(rule: Rule) -> bool:
    return any(port.protocol is Protocol.ANY for port in rule.ports)


def _on(rule: Rule) -> str:
    if _all_ports(rule):
        return ""
    return f" on {', '.join(map(_port, rule.ports))}"


def _port(port: Port) -> str:
    """`80`, `8000-8080`, `http`, `ICMP type 8`"""
    shown = port.name or f"{port.first}" + (f"-{port.last}" if port.last > port.first else "")
    is_icmp = port.protocol in (Protocol.ICMP, Protocol.ICMPV6)
    return f"{port.protocol.name} type {shown}" if is_icmp else shown


def accidents(survey: Survey) -> Iterator[Finding]:
    """TB304: pods that nobody may speak to, isolated by rules for a whole namespace alone.

    A policy that isolates and has no rules is a default denial, and so means it.
    """
    cut: dict[tuple[int, Direction], list[str]] = {}
    places = {id(policy): index for index, policy in enumerate(survey.policies)}
    for group in survey.groups:
        if not group.subjects & survey.land.pods:
            continue
        for direction in Direction:
            isolating = [each for each in group.policies if direction in each.isolates]
            if not isolating or not all(_wide_rules(each, direction) for each in isolating):
                continue
            if _reached(survey, group, direction):
                continue
            names = [survey.name(bit) for bit in bits(group.subjects & survey.land.pods)]
            for policy in isolating:
                cut.setdefault((places[id(policy)], direction), []).extend(names)
    for (place, direction), names in sorted(cut.items()):
        policy = survey.policies[place]
        shown = ", ".join(sorted(names)[:NAMES_MAX])
        more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
        way = "nobody may speak to" if direction is Direction.INGRESS else "nobody hears from"
        yield Finding(
            catalogue.ISOLATED_BY_ACCIDENT,
            policy.key,
            f"{policy.section}.{policy.subject_field}",
            f"isolates all pods of the namespace, and {way} {shown}{more}, of which no other "
            "policy speaks",
        )


def _wide_rules(policy: Policy, direction: Direction) -> bool:
    """Whether it has rules in this direction, for pods that it names by no label of theirs."""
    own = [one for one in policy.subject.requirements if one.key != NAMESPACE_KEY]
    return not own and any(rule.direction is direction for rule in policy.rules)


def _reached(survey: Survey, group: Group, direction: Direction) -> bool:
    atoms = atoms_of(group.policies)
    found = outcome(survey.land, direction, group.policies, group.ports, atoms)
    newcomers = survey.land.subjects & ~survey.land.pods
    return bool(found.anyone & ~survey.land.spread(newcomers, atoms))
