"""Selectors that match nothing, or less than they say."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from tabard.identity.labels import METADATA_NAME, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.policy.landscape import Landscape
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import ALWAYS_THERE, Finding, Spoken, Survey, spoken
from tabard.policy.model import Cidr, DomainName, Policy, Requirement, Selector

RESERVED = "reserved"
PRESENT = frozenset({"host", "remote-node", "world", "world-ipv4", "world-ipv6"})
"""Entities that something here can be, beside pods."""


def subjects(survey: Survey) -> Iterator[Finding]:
    """TB101, and TB104 of what selects some pods."""
    for policy in survey.policies:
        if policy.selects_nodes:
            continue
        path = f"{policy.section}.{policy.subject_field}"
        if not survey.subject(policy):
            why = nothing(survey.land, policy.subject)
            yield Finding(catalogue.SELECTS_NOTHING, policy.key, path, why)
        else:
            yield from _unseen(survey, policy, path, [policy.subject])


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
        why = "stands for nobody: " + ", ".join(str(peer) for peer in spot.written)
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
    named = [one for one in selector.requirements if _of_namespace(one)]
    there = _namespaces(survey, named)
    if named and not there and not _elsewhere(survey, named):
        why = f"no namespace has {' and '.join(map(_asked, named))}" + _near_namespace(
            survey, named
        )
        yield Finding(catalogue.UNKNOWN_NAMESPACE, policy.key, spot.path, why)
    elif not _elsewhere(survey, named):
        why = nothing(land, selector)
        yield Finding(catalogue.PEER_MATCHES_NOTHING, policy.key, spot.path, why)


def nothing(land: Landscape, selector: Selector) -> str:
    """Why `selector` matches no pod."""
    place = [one for one in selector.requirements if one.key == NAMESPACE_KEY]
    inside = land.select(Selector(tuple(place))) & land.pods
    if not inside and any(one.operator == "In" for one in place):
        return f"there is no pod in namespace {' or '.join(sorted(place[0].values))}"
    rest = [one for one in selector.requirements if one.key != NAMESPACE_KEY]
    alone = [one for one in rest if not land.select(Selector((one,))) & inside]
    if not alone:
        return f"no pod has {' and '.join(map(_asked, rest))} together"
    where = f" in namespace {' or '.join(sorted(place[0].values))}" if place and inside else ""
    hints = "; ".join(
        dict.fromkeys(filter(None, (_near(land, one, inside) for one in alone))),
    )
    said = f"no pod{where if place and place[0].values else ''} has "
    return said + " and ".join(map(_asked, alone)) + (f"; {hints}" if hints else "")


def _unseen(
    survey: Survey, policy: Policy, path: str, selectors: Iterable[Selector]
) -> Iterator[Finding]:
    """Labels of a selector that no pod has, though it matches some."""
    land = survey.land
    for selector in selectors:
        for one in selector.requirements:
            if one.source == RESERVED or one.key == NAMESPACE_KEY or _of_namespace(one):
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
                near = _near(land, each, land.pods)
                why = f"no pod has {_asked(each)}" + (f"; {near}" if near else "")
                yield Finding(catalogue.UNKNOWN_LABEL, policy.key, path, why)


def _near(land: Landscape, one: Requirement, inside: int) -> str:
    """`did you mean name=carts?`, of labels that pods have; those `inside` go first."""
    for scope in (inside, land.pods):
        values = [value for value, bits in land.values(one.source, one.key) if bits & scope]
        for wanted in sorted(one.values):
            for close in get_close_matches(wanted, values, n=1):
                return f"did you mean {one.key}={close}?"
        if values:
            continue
        keys = {key for key in land.keys(one.source) if not _of_namespace(Requirement(key, "In"))}
        for close in get_close_matches(one.key, sorted(keys), n=1):
            return f"did you mean the label {close}?"
    return ""


def _near_namespace(survey: Survey, named: list[Requirement]) -> str:
    for one in named:
        key = one.key.removeprefix(NAMESPACE_LABELS_PREFIX)
        known = {
            name if key in (METADATA_NAME, NAMESPACE_KEY) else labels.get(key, "")
            for name, labels in survey.namespaces.items()
        }
        for wanted in sorted(one.values):
            for close in get_close_matches(wanted, sorted(known - {""}), n=1):
                return f"; did you mean {_shown_key(one.key)}={close}?"
    return ""


def _of_namespace(one: Requirement) -> bool:
    return one.key.startswith(NAMESPACE_LABELS_PREFIX) or (
        one.key == NAMESPACE_KEY and one.operator == "In"
    )


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


def _asked(one: Requirement) -> str:
    """`app=web`, `tier in (a, b)`, `namespace label team=a`"""
    key = _shown_key(one.key)
    values = sorted(one.values)
    match one.operator:
        case "In" if len(values) == 1:
            return f"{key}={values[0]}"
        case "In":
            return f"{key} in ({', '.join(values)})"
        case "NotIn":
            return f"{key} not in ({', '.join(values)})"
        case "Exists":
            return key
        case _:
            return f"no {key}"


def _shown_key(key: str) -> str:
    if key == NAMESPACE_KEY:
        return "namespace"
    own = key.removeprefix(NAMESPACE_LABELS_PREFIX)
    return key if own == key else f"namespace label {own}"
