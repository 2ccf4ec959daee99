"""The queries of np-guard's network-config-analyzer, answered with its numbers.

What each counts is its definition in nca/NetworkConfig/NetworkConfigQuery.py and, for how a query
takes a list of configurations, NetworkConfigQueryRunner.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, permutations

from conformance.configurations import (
    Allowed,
    Configuration,
    Document,
    Pair,
    both,
    cuts_of,
    key_of,
    minus,
)
from tabard.dataplane.maps import Direction

SECTIONS = ("ingress", "egress")


def answer(kind: str, configurations: Sequence[Configuration]) -> int:
    """The number that the analyzer gives."""
    if kind in _SINGLE:
        return sum(map(_SINGLE[kind], configurations))
    if kind in _TO_BASE:
        base, *others = configurations
        return sum(_TO_BASE[kind](other, base) for other in others)
    if kind in _PAIRS:
        return sum(_PAIRS[kind](one, other) for one, other in combinations(configurations, 2))
    return sum(_interferes(one, other) for one, other in permutations(configurations, 2))


def is_known(kind: str) -> bool:
    return kind in _SINGLE or kind in _TO_BASE or kind in _PAIRS or kind == "pairwiseInterferes"


Test = Callable[[Pair], bool]


def categories(one: Configuration, other: Configuration, cuts: Sequence[int]) -> dict[str, Allowed]:
    """Semantic differences from one to the other, by the analyzer's headings; no empty ones."""
    before, after = one.allowed(cuts), other.allowed(cuts)
    lost, gained = minus(before, after), minus(after, before)
    changes = {"Lost": before, "New": after, "Added": gained, "Removed": lost}
    found = {}
    for heading, test in domains(one, other).items():
        change = changes[heading.partition(" ")[0]]
        allowed = {pair: traffic for pair, traffic in change.items() if test(pair)}
        if allowed:
            found[heading] = allowed
    return found


def domains(one: Configuration, other: Configuration) -> dict[str, Test]:
    """Which pairs a heading is about."""
    old, new = set(one.topology.pods), set(other.topology.pods)
    kept, gone, come = old & new, old - new, new - old

    def within(names: set[str]) -> Test:
        return lambda pair: pair[0] in names and pair[1] in names

    def across(names: set[str], others: set[str]) -> Test:
        return lambda pair: (
            (pair[0] in names and pair[1] in others) or (pair[0] in others and pair[1] in names)
        )

    def outwards(names: set[str]) -> Test:
        return lambda pair: (
            (pair[0] in names and pair[1] not in old | new)
            or (pair[1] in names and pair[0] not in old | new)
        )

    return {
        "Lost connections between removed peers": within(gone),
        "Lost connections between removed peers and ipBlocks": outwards(gone),
        "Lost connections between removed peers and persistent peers": across(gone, kept),
        "Added connections between persistent peers": within(kept),
        "Removed connections between persistent peers": within(kept),
        "Added connections between persistent peers and ipBlocks": outwards(kept),
        "Removed connections between persistent peers and ipBlocks": outwards(kept),
        "New connections between persistent peers and added peers": across(kept, come),
        "New connections between added peers": within(come),
        "New connections between added peers and ipBlocks": outwards(come),
    }


def _equal(one: Configuration, other: Configuration) -> bool:
    cuts = cuts_of((one, other))
    return one.allowed(cuts) == other.allowed(cuts)


def _is_comparable(one: Configuration, other: Configuration) -> bool:
    return one.topology.key() == other.topology.key()


def _is_same(one: Configuration, other: Configuration) -> bool:
    return _is_comparable(one, other) and one.documents == other.documents


def _is_empty(configuration: Configuration, document: Document) -> bool:
    return not configuration.selected(document)


def _emptiness(configuration: Configuration) -> int:
    return sum(
        _is_empty(configuration, document) + len(configuration.empty_rules(document))
        for document in configuration.documents
    )


def _vacuity(configuration: Configuration) -> int:
    return int(_equal(configuration, configuration.with_documents([])))


def _redundant_policies(configuration: Configuration) -> list[Document]:
    """A single policy is never called redundant."""
    if len(configuration.documents) < 2:
        return []
    return [
        document
        for document in configuration.documents
        if _equal(configuration, configuration.without(document))
    ]


def _redundant_rules(configuration: Configuration, document: Document) -> Iterator[str]:
    """Field paths of the rules without which all stays as it is."""
    spec = document.get("spec") or {}
    for section in SECTIONS:
        for index in range(len(spec.get(section) or ())):
            if _equal(configuration, configuration.without_rule(document, section, index)):
                yield f"spec.{section}[{index}]"


def _redundancy(configuration: Configuration) -> int:
    redundant = _redundant_policies(configuration)
    rules = [
        rule
        for document in configuration.documents
        if not any(document is each for each in redundant)
        for rule in _redundant_rules(configuration, document)
    ]
    return len(redundant) + len(rules)


def _sanity(configuration: Configuration) -> int:
    if not configuration.documents:
        return 0
    is_vacuous = _vacuity(configuration)
    issues = is_vacuous
    redundant = _redundant_policies(configuration)
    for document in configuration.documents:
        if _is_empty(configuration, document):
            issues += 1
            continue
        empty = configuration.empty_rules(document)
        issues += len(empty)
        if is_vacuous:
            continue
        if any(document is each for each in redundant):
            issues += 1
            continue
        issues += sum(rule not in empty for rule in _redundant_rules(configuration, document))
    return issues


def _all_captured(configuration: Configuration) -> int:
    pods = configuration.topology.pods
    return sum(
        len({(pods[name].namespace, pods[name].owner) for name in pods.keys() - isolated})
        for isolated in map(configuration.isolated, Direction)
    )


def _contained(configuration: Configuration, base: Configuration) -> int:
    if configuration.topology.pods.keys() - base.topology.pods.keys():
        return 0
    cuts = cuts_of((configuration, base))
    return int(not minus(configuration.allowed(cuts), base.allowed(cuts)))


def _permits(configuration: Configuration, base: Configuration) -> int:
    """Whether `configuration`, over the base's pods, states connections that the base denies."""
    if not configuration.documents:
        return 0
    stated = base.with_documents(configuration.documents)
    cuts = cuts_of((stated, base))
    return int(bool(minus(stated.captured(stated.allowed(cuts)), base.allowed(cuts))))


def _forbids(configuration: Configuration, base: Configuration) -> int:
    """Whether `configuration`, over the base's pods, states connections that the base allows."""
    if not configuration.documents:
        return 0
    stated = base.with_documents(configuration.documents)
    cuts = cuts_of((stated, base))
    return int(bool(both(stated.captured(stated.allowed(cuts)), base.allowed(cuts))))


def _interferes(one: Configuration, other: Configuration) -> int:
    """Whether `one` states more for the pods that `other` captures."""
    if not _is_comparable(one, other):
        return 0
    cuts = cuts_of((one, other))
    allowed, rest = one.allowed(cuts), other.allowed(cuts)
    stated = one.captured(allowed)
    theirs = other.captured(allowed)
    return int(bool(minus({pair: stated[pair] for pair in stated.keys() & theirs}, rest)))


def _equivalence(one: Configuration, other: Configuration) -> int:
    return int(not _is_comparable(one, other) or not _equal(one, other))


def _strong_equivalence(one: Configuration, other: Configuration) -> int:
    if not _is_comparable(one, other):
        return 1
    names = {"/".join(key_of(document)) for document in one.documents}
    if names != {"/".join(key_of(document)) for document in other.documents}:
        return 1
    return int(not all(_equal(one.only(name), other.only(name)) for name in names))


def _two_way(one: Configuration, other: Configuration) -> int:
    if _is_same(one, other):
        return 0
    return 2 * _contained(one, other) + _contained(other, one)


def _semantic_diff(one: Configuration, other: Configuration) -> int:
    return len(categories(one, other, cuts_of((one, other))))


_SINGLE: Mapping[str, Callable[[Configuration], int]] = {
    "allCaptured": _all_captured,
    "connectivityMap": lambda _: 0,
    "emptiness": _emptiness,
    "redundancy": _redundancy,
    "sanity": _sanity,
    "vacuity": _vacuity,
}
_TO_BASE: Mapping[str, Callable[[Configuration, Configuration], int]] = {
    "containment": _contained,
    "forbids": _forbids,
    "interferes": _interferes,
    "permits": _permits,
}
_PAIRS: Mapping[str, Callable[[Configuration, Configuration], int]] = {
    "equivalence": _equivalence,
    "semanticDiff": _semantic_diff,
    "strongEquivalence": _strong_equivalence,
    "twoWayContainment": _two_way,
}
