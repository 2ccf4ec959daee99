"""Label selectors as kubectl takes them after `-l`. Pure.

Equality (`a=b`, `a==b`, `a!=b`), sets (`a in (b,c)`, `a notin (b)`), presence (`a`, `!a`), joined
by commas (apimachinery pkg/labels). A missing key satisfies `!=` and `notin`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_KEY = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_VALUE = r"[A-Za-z0-9._-]*"
_ITEM = r"\s*(?:[A-Za-z0-9._-]+\s*)?"
"""A value among others, which may be empty; no text is one in two ways."""
_FORMS = (
    (re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})"), "equality"),
    (re.compile(rf"({_KEY})\s+(in|notin)\s*\(({_ITEM}(?:,{_ITEM})*)\)"), "set"),
    (re.compile(rf"(!?)\s*({_KEY})"), "presence"),
)


class SelectorError(ValueError):
    """The text is no selector; says where it stops being one."""


@dataclass(frozen=True, slots=True)
class Condition:
    key: str
    wanted: bool
    """Whether a match is wanted, or its absence."""
    values: frozenset[str] | None
    """None: any value."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        found = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return found is self.wanted


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All conditions must hold; none selects everything."""

    conditions: tuple[Condition, ...] = ()

    def __call__(self, labels: Mapping[str, str]) -> bool:
        return all(condition.holds(labels) for condition in self.conditions)


def parse(text: str) -> LabelSelector:
    """SelectorError if `text` is none."""
    rest = text.strip()
    conditions = []
    while rest:
        for form, kind in _FORMS:
            found = form.match(rest)
            after = rest[found.end() :].lstrip() if found else ""
            if found and (not after or after.startswith(",")):
                conditions.append(_condition(kind, found))
                break
        else:
            raise SelectorError(
                f"{rest!r} is no label selector; write key=value, key!=value, key, !key or "
                "'key in (a,b)', joined by commas"
            )
        if after.startswith(",") and not after[1:].strip():
            raise SelectorError(f"{text!r} ends with a comma")
        rest = after[1:].lstrip()
    return LabelSelector(tuple(conditions))


def _condition(kind: str, found: re.Match[str]) -> Condition:
    match kind:
        case "equality":
            return Condition(found[1], found[2] != "!=", frozenset((found[3],)))
        case "set":
            values = frozenset(value.strip() for value in found[3].split(","))
            return Condition(found[1], found[2] == "in", values)
        case _:
            return Condition(found[2], not found[1], None)
