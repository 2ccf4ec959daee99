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
    return _fits(_parsed(pattern), name) and _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class _Wild:
    """A pattern with stars, but of more than stars."""

    head: str
    """What a name that fits begins with; empty behind `**.`."""
    tail: str
    """What it ends with."""
    parts: tuple[str, ...]
    """What stands between the stars, behind `**.` at the start."""
    dots: int
    """In the parts."""
    is_deep: bool
    """It begins with `**.`."""


@lru_cache(maxsize=4_096)
def _parsed(pattern: str) -> _Wild:
    deep = re.match(r"\*\*+\.", pattern)
    rest = pattern[deep.end() :] if deep else pattern
    parts = tuple(re.split(r"\*+", rest))
    tail = parts[-1] if len(parts) > 1 else "." + rest
    return _Wild("" if deep else parts[0], tail, parts, rest.count("."), deep is not None)


def _fits(wild: _Wild, name: str) -> bool:
    """For a `name` that is one (`_NAME`). As many dots as the parts have are all theirs, so that
    no star crosses one, and the first place where a part fits is as good as any later one."""
    if not name.endswith(wild.tail):
        return False
    parts = wild.parts
    if len(parts) == 1:
        return True  # whole labels, and then the tail
    more = name.count(".") - wild.dots
    if wild.is_deep and more > 0:
        name = name.split(".", more)[-1]
    elif wild.is_deep or more:
        return False
    at, end = len(parts[0]), len(name) - len(wild.tail)
    if at > end or not name.startswith(parts[0]):
        return False
    for part in parts[1:-1]:
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
            alike = self._wild.setdefault((len(one.head), len(one.tail)), {})
            alike.setdefault((one.head, one.tail), []).append(one)

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
