"""Selectors that match nothing, or less than they say."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from tabard.identity.labels import METADATA_NAME, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import ALWAYS_THERE, Finding, Spoken, Survey, spoken
from tabard.policy.lint.why import near, nothing, of_namespace
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import (
    Cidr,
    CidrGroup,
    DomainName,
    Nodes,
    Peer,
    Policy,
    Requirement,
    Selector,
    Service,
)
from tabard.policy.wording import asked, shown_key

RESERVED = "reserved"
PRESENT = frozenset({"host", "remote-node", "world", "world-ipv4", "world-ipv6"})
"""Entities that something here can be, beside pods."""


def subjects(survey: Survey) -> Iterator[Finding]:
    """TB101, and TB104 of what selects some pods."""
    for policy in survey.policies:
        path = f"{policy.section}.{policy.subject_field}"
        if policy.selects_nodes:
            if survey.whole and not _selects_a_node(survey, policy):
                yield Finding(catalogue.SELECTS_NOTHING, policy.key, path, "no node has the labels")
        elif not survey.subject(policy):
            why = nothing(survey.land, policy.subject)
            yield Finding(catalogue.SELECTS_NOTHING, policy.key, path, why)
        else:
            yield from _unseen(survey, policy, path, [policy.subject])


def _selects_a_node(survey: Survey, policy: Policy) -> bool:
    nodes = survey.state.nodes.values()
    return any(matches(policy.subject, labels_of(node.label_set())) for node in nodes)


def peers(survey: Survey) -> Iterator[Finding]:
    """TB102, TB103, TB107 and TB108, and TB104 of what matches some pods."""
    for written, resolved in survey.pairs():
        for one, other in zip(written.rules, resolved.rules, strict=True):
            for spot in spoken(one, other):
                yield from _of_peer(survey, written, spot)


def _of_peer(survey: Survey, policy: Policy, spot: Spoken) -> Iterator[Finding]:
    if any(isinstance(peer, DomainName | Cidr) for peer in (*spot.written, *spot.resolved)):
        return
    selectors = [peer for peer in spot.resolved if isinstance(peer, Selector)]
    if not selectors:
        # Manifests tell no nodes.
        meant = [peer for peer in spot.written if survey.whole or not isinstance(peer, Nodes)]
        for peer in meant:
            why = f"{_referred(peer)}: there is none, or it stands for nobody"
            yield Finding(catalogue.UNKNOWN_REFERENCE, policy.key, spot.path, why)
        return
    land = survey.land
    if any(land.select(selector) & ~(land.subjects & ~land.pods) for selector in selectors):
        yield from _unseen(survey, policy, spot.path, selectors)
        return
    entity = _entity(selectors)
    if entity:
        why = f"no pod, node or address here is {entity}"
        yield Finding(catalogue.EMPTY_ENTITY, policy.key, spot.path, why)
        return
    selector = selectors[0]
    named = [one for one in selector.requirements if of_namespace(one)]
    there = _namespaces(survey, named)
    if named and not there and not _elsewhere(survey, named):
        why = f"no namespace has {' and '.join(map(asked, named))}" + _near_namespace(survey, named)
        yield Finding(catalogue.UNKNOWN_NAMESPACE, policy.key, spot.path, why)
    elif not _elsewhere(survey, named):
        why = nothing(land, selector)
        yield Finding(catalogue.PEER_MATCHES_NOTHING, policy.key, spot.path, why)


def _referred(peer: Peer) -> str:
    match peer:
        case CidrGroup(name=name) if name:
            return f"CiliumCIDRGroup {name}"
        case Service(name=name, namespace=namespace) if name:
            return f"Service {namespace}/{name}" if namespace else f"Service {name}"
        case CidrGroup(selector=selector) | Service(selector=selector) | Nodes(selector=selector):
            needs = selector.requirements if selector is not None else ()
            kind = {CidrGroup: "CiliumCIDRGroup", Service: "Service"}.get(type(peer), "node")
            return f"{kind} of {' and '.join(map(asked, needs)) or 'any labels'}"
        case _:
            raise AssertionError(f"{peer} is no reference")


def _unseen(
    survey: Survey, policy: Policy, path: str, selectors: Iterable[Selector]
) -> Iterator[Finding]:
    """Labels of a selector that no pod has, though it matches some."""
    land = survey.land
    for selector in selectors:
        for one in selector.requirements:
            if one.source == RESERVED or one.key == NAMESPACE_KEY or of_namespace(one):
                continue
            seen = {value for value, bits in land.values(one.source, one.key) if bits & land.pods}
            lacking = sorted(one.values - seen)
            if one.operator in ("In", "NotIn") and lacking:
                unseen = [Requirement(one.key, "In", frozenset((v,)), one.source) for v in lacking]
            elif one.operator == "DoesNotExist" and not seen:
                unseen = [Requirement(one.key, "Exists", source=one.source)]
            else:
                continue
            for each in unseen:
                close = near(land, each, land.pods)
                why = f"no pod has {asked(each)}" + (f"; {close}" if close else "")
                yield Finding(catalogue.UNKNOWN_LABEL, policy.key, path, why)


def _near_namespace(survey: Survey, named: list[Requirement]) -> str:
    for one in named:
        key = one.key.removeprefix(NAMESPACE_LABELS_PREFIX)
        known = {
            name if key in (METADATA_NAME, NAMESPACE_KEY) else labels.get(key, "")
            for name, labels in survey.namespaces.items()
        }
        for wanted in sorted(one.values):
            for close in get_close_matches(wanted, sorted(known - {""}), n=1):
                return f"; did you mean {shown_key(one.key)}={close}?"
    return ""


def _namespaces(survey: Survey, named: Iterable[Requirement]) -> list[str]:
    """The namespaces that meet all of `named`."""

    def meets(name: str, one: Requirement) -> bool:
        labels = survey.namespaces[name]
        key = one.key.removeprefix(NAMESPACE_LABELS_PREFIX)
        own = name if key in (NAMESPACE_KEY, METADATA_NAME) else labels.get(key)
        match one.operator:
            case "In":
                return own in one.values
            case "NotIn":
                return own not in one.values
            case "Exists":
                return own is not None
            case _:
                return own is None

    return [name for name in survey.namespaces if all(meets(name, one) for one in named)]


def _elsewhere(survey: Survey, named: Iterable[Requirement]) -> bool:
    """Whether a namespace of every cluster is meant, of which manifests say nothing."""
    return not survey.whole and any(
        one.operator == "In"
        and one.key.removeprefix(NAMESPACE_LABELS_PREFIX) in (METADATA_NAME, NAMESPACE_KEY)
        and one.values & (ALWAYS_THERE - survey.namespaces.keys())
        for one in named
    )


def _entity(selectors: Iterable[Selector]) -> str:
    """The entities that are asked for, if nothing else is and none of them can be here."""
    names = [
        one.key
        for selector in selectors
        for one in selector.requirements
        if one.source == RESERVED and one.key not in PRESENT
    ]
    return " or ".join(names)
