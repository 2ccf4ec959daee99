"""Which policy is to blame for a policy map that would be too large. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeVar

from tabard.policy.entries import Entries
from tabard.policy.matching import IdentityIndex
from tabard.policy.painting import painted
from tabard.policy.prefixes import Universe
from tabard.policy.rules import Clause

K = TypeVar("K", bound=Any)


@dataclass(frozen=True, slots=True)
class Growth:
    """The rule that asks for the most of some entries."""

    kind: str
    namespace: str
    """"" for a cluster-wide kind."""
    name: str
    rule: str
    """Field path of the rule in the policy."""
    entries: int
    """What it would need if it stood alone: other rules may say the same."""

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}, {self.rule} ({self.entries})"


def most(
    new: Mapping[Entries, Set[int]], index: IdentityIndex, universe: Universe
) -> Growth | None:
    """Of the rule sets in `new`, and their entries for those peers, the rule that asks for the most
    within the policy that does; None if no rule asks for any."""
    asked = Counter[tuple[tuple[str, str, str], str]]()
    for entries, peers in new.items():
        for clause in entries.clauses:
            rule = (clause.policy.key, clause.rule.path)
            asked[rule] += _entries(clause, clause.numbers(index, universe) & peers, index)
    by_policy = Counter[tuple[str, str, str]]()
    for (policy, _), count in asked.items():
        by_policy[policy] += count
    if not by_policy.total():
        return None
    worst = _first(by_policy)
    path = _first({path: count for (policy, path), count in asked.items() if policy == worst})
    return Growth(*worst, path, asked[worst, path])


def _entries(clause: Clause, peers: Iterable[int], index: IdentityIndex) -> int:
    if clause.names:
        return sum(len(painted(frozenset(clause.of(index.ports(number))))) for number in peers)
    return len(painted(frozenset(clause.parts))) * sum(1 for _ in peers)


def _first(counts: Mapping[K, int]) -> K:
    """The key of the greatest count, of several the first in order."""
    return min(counts, key=lambda key: (-counts[key], key))
