"""All rules on one survey, and what their authors say is meant."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tabard.policy.lint.catalogue import RULES
from tabard.policy.lint.exposure import accidents, world
from tabard.policy.lint.lockout import lockout
from tabard.policy.lint.names import names
from tabard.policy.lint.ports import ports
from tabard.policy.lint.selecting import peers, subjects
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.lint.weight import weight
from tabard.policy.lint.writing import annotations, writing

IGNORE = "tabard.io/lint-ignore"
"""The annotation by which an object's author says which rules' findings are meant: ids or names,
between commas."""

_ALWAYS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (writing, world, lockout)
_OF_PODS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    subjects,
    peers,
    ports,
    names,
    weight,
    accidents,
)
"""These say nothing where no pod is known."""


def lint(survey: Survey) -> list[Finding]:
    """Everything found, by object and rule, also what is meant (`ignored`)."""
    chosen = (*_ALWAYS, *_OF_PODS) if survey.has_pods else _ALWAYS
    return sorted(
        {finding for ask in chosen for finding in ask(survey)},
        key=lambda each: (each.object, each.rule.id, each.path, each.message),
    )


def ignored(document: Mapping[str, Any]) -> frozenset[str]:
    """Ids of the rules whose findings the object's author means, by its annotation."""
    text = annotations(document).get(IGNORE)
    named = {part.strip() for part in text.split(",")} if isinstance(text, str) else set()
    return frozenset(rule.id for rule in RULES.values() if {rule.id, rule.name} & named)
