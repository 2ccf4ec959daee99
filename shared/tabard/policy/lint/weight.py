"""Rules and policies without weight: denied before they are asked, or saying nothing new."""

from collections.abc import Iterable, Iterator

from tabard.dataplane.maps import Action
from tabard.policy.items import Place
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import DomainName, Policy, Rule
from tabard.policy.redundancy import Part, redundant

BESIDE_MAX = 3
"""Rules that a message names."""


def weight(survey: Survey) -> Iterator[Finding]:
    """TB201 to TB204: of a part that is told of, its own parts are not told of too."""
    parts = redundant(survey.land, survey.policies, survey.groups)
    told: set[Place] = set()
    for place, part in sorted(parts.items()):
        policy = survey.policies[place.policy]
        if any(above in told for above in _above(place)) or not _judged(survey, place):
            continue
        if place.rule != -1:
            finding = _of_rule(survey, policy, place, part)
        elif policy.rules and part.beside and not part.denied:
            finding = Finding(
                catalogue.REDUNDANT_POLICY,
                policy.key,
                policy.section,
                f"says nothing that {_names(survey, part.beside)} does not say",
            )
        else:
            continue  # a default, or one of rules that are told of each
        if finding:
            told.add(place)
            yield finding


def _above(place: Place) -> Iterable[Place]:
    return (Place(place.policy), Place(place.policy, place.rule))


def _judged(survey: Survey, place: Place) -> bool:
    """Whether all is known that the part is about: what names stand for is not, before look-ups."""
    rules = survey.written[place.policy].rules
    return not any(
        isinstance(peer, DomainName)
        for rule in (rules if place.rule == -1 else rules[place.rule : place.rule + 1])
        for peer in rule.peers or ()
    )


def _of_rule(survey: Survey, policy: Policy, place: Place, part: Part) -> Finding | None:
    rule = policy.rules[place.rule]
    path = _path(rule, place)
    beside = _names(survey, part.beside)
    whole = place.peer == place.port == -1
    if rule.action is Action.DENY and part.denied and part.alone:
        return None  # belt and braces: what it denies is not allowed, which may change
    if part.denied and rule.action is Action.ALLOW:
        stronger = [
            each
            for each in part.beside
            if survey.policies[each.policy].rules[each.rule].action is Action.DENY
            or survey.policies[each.policy].tier < policy.tier
        ]
        if not stronger:
            return None
        why = f"all that it allows is denied by {_names(survey, stronger)}"
        return Finding(catalogue.SHADOWED, policy.key, path, why)
    rule_of = catalogue.REDUNDANT_RULE if whole else catalogue.REDUNDANT_ITEM
    why = f"says nothing that {beside} does not say" if beside else "changes no verdict"
    return Finding(rule_of, policy.key, path, why)


def _path(rule: Rule, place: Place) -> str:
    if place.peer != -1:
        return f"{rule.path}.{rule.peer_paths[place.peer]}"
    if place.port != -1:
        return f"{rule.path}.{rule.port_paths[place.port]}"
    return rule.path


def _names(survey: Survey, places: Iterable[Place]) -> str:
    found: dict[str, None] = {}
    for place in places:
        policy = survey.policies[place.policy]
        path = policy.rules[place.rule].path if place.rule != -1 else policy.section
        name = f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name
        found.setdefault(f"{name} {path}")
    names = list(found)
    more = f" and {len(names) - BESIDE_MAX} more" if len(names) > BESIDE_MAX else ""
    return ", ".join(names[:BESIDE_MAX]) + more
