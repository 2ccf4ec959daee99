"""Patterns of domain names. A name is lower case and without the last dot. Pure."""

import re
from collections.abc import Iterable
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
    return _expression(pattern).fullmatch(name) is not None


@lru_cache(maxsize=4_096)
def _expression(pattern: str) -> re.Pattern[str]:
    if not pattern.strip("*"):
        return re.compile(r".*")
    subdomains = re.match(r"\*\*+\.", pattern)
    rest = pattern[subdomains.end() :] if subdomains else pattern
    first, *middle = (re.escape(part) for part in re.split(r"\*+", rest))
    last = middle.pop() if middle else None
    # A star cannot cross a dot, so the first place where a part fits is as good as any later one:
    # each is taken for good, or a name could keep the search busy for hours.
    parts = [first, *(f"(?>[-a-z0-9_]*?{part})" for part in middle)]
    if last is not None:
        parts.append(f"[-a-z0-9_]*{last}")
    return re.compile((r"(?:[-a-z0-9_]+\.)+" if subdomains else "") + "".join(parts))


class Patterns:
    """Patterns as one question; it keeps what it found."""

    def __init__(self, patterns: Iterable[str]) -> None:
        every = frozenset(patterns)
        self._exact = frozenset(pattern for pattern in every if "*" not in pattern)
        self._wild = tuple(sorted(every - self._exact))

    def __contains__(self, name: str) -> bool:
        return name in self._exact or any(matches_name(one, name) for one in self._wild)
