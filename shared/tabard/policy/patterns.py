"""Patterns of domain names. A name is lower case and without the last dot. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

NAME_CHARACTERS_MAX = 253
"""Longest name, without the last dot (RFC 1035 2.3.4)."""

_NAME = re.compile(r"[-a-z0-9_]+(\.[-a-z0-9_]+)*")


def is_name(text: str) -> bool:
    """Whether `text` is a name that a pattern can match, in the form that names have here."""
    return len(text) <= NAME_CHARACTERS_MAX and _NAME.fullmatch(text) is not None


def matches_name(pattern: str, name: str) -> bool:
    """As Cilium's pkg/fqdn/matchpattern: `*` is any run of letters, digits, `-` and `_`, also an
    empty one; `**.` at the start is one or more whole labels; stars alone are every name."""
    if "*" not in pattern:
        return pattern == name
    if not pattern.strip("*"):
        return True
    return _NAME.fullmatch(name) is not None and _fits(_parsed(pattern), name)


@dataclass(frozen=True, slots=True)
class _Wild:
    """A pattern with stars, but of more than stars."""

    parts: tuple[str, ...]
    """What stands between its stars, behind `**.` at the start."""
    dots: int
    """In the parts."""
    is_deep: bool
    """It begins with `**.`."""

    def ends(self) -> tuple[str, str]:
        """What every name that fits begins and ends with."""
        if not self.is_deep:
            return self.parts[0], self.parts[-1]
        return "", self.parts[-1] if len(self.parts) > 1 else "." + self.parts[0]


@lru_cache(maxsize=4_096)
def _parsed(pattern: str) -> _Wild:
    deep = re.match(r"\*\*+\.", pattern)
    rest = pattern[deep.end() :] if deep else pattern
    return _Wild(tuple(re.split(r"\*+", rest)), rest.count("."), deep is not None)


def _fits(wild: _Wild, name: str) -> bool:
    """`name` is one (`_NAME`). As many dots as the parts have are all theirs, so that no star
    crosses one, and the first place where a part fits is as good as any later one."""
    more = name.count(".") - wild.dots
    if more != 0 if not wild.is_deep else more < 1:
        return False
    if wild.is_deep:
        name = name.split(".", more)[-1]
    first, *middle = wild.parts
    if not middle:
        return name == first
    last = middle.pop()
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


class Patterns:
    """Patterns as one question, which costs as much for ten thousand patterns as for ten unless
    they begin and end alike (`*a*.io`, `*b*.io`): those are tried one by one."""

    def __init__(self, patterns: Iterable[str]) -> None:
        every = frozenset(patterns)
        self._exact = frozenset(pattern for pattern in every if "*" not in pattern)
        wild = [pattern for pattern in every - self._exact if pattern.strip("*")]
        self._is_every = len(wild) + len(self._exact) < len(every)
        self._wild: dict[tuple[int, int], dict[tuple[str, str], list[_Wild]]] = {}
        """By the lengths of their two ends, then by the ends."""
        for one in map(_parsed, wild):
            head, tail = one.ends()
            alike = self._wild.setdefault((len(head), len(tail)), {})
            alike.setdefault((head, tail), []).append(one)

    def __contains__(self, name: str) -> bool:
        if self._is_every or name in self._exact:
            return True
        if not self._wild or not _NAME.fullmatch(name):
            return False
        size = len(name)
        for (head, tail), by_ends in self._wild.items():
            if head + tail <= size:
                for one in by_ends.get((name[:head], name[size - tail :]), ()):
                    if _fits(one, name):
                        return True
        return False
