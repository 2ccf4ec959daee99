"""Which identities a selector matches.

`matches` is the meaning; `IdentityIndex` gives the same answers for all live identities at once, by
set algebra over an index of their labels, and keeps an answer as one object while it stays true, so
that whoever built on it can see by `is` that nothing changed.
"""

from collections.abc import Mapping
from weakref import WeakValueDictionary

from tabard.identity.labels import LabelSet, named_ports, split_label
from tabard.policy.model import Requirement, Selector

Labels = Mapping[tuple[str, str], str]
"""(source, key) → value"""


def labels_of(labels: LabelSet) -> Labels:
    return {(source, key): value for source, key, value in map(split_label, labels)}


def matches(selector: Selector, labels: Labels) -> bool:
    """Whether every requirement holds for `labels` (meta/v1 LabelSelector)."""
    return all(_holds(requirement, labels) for requirement in selector.requirements)


def _holds(requirement: Requirement, labels: Labels) -> bool:
    value = labels.get((requirement.source, requirement.key))
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise AssertionError(f"unknown selector operator {requirement.operator!r}")


class Matched:
    """A selector and the live identities that it matches now."""

    __slots__ = ("__weakref__", "numbers", "selector")

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        self.numbers: frozenset[int] = frozenset()


class IdentityIndex:
    """Live pod identities by label, and the matches of every selector that someone holds."""

    def __init__(self) -> None:
        self._labels: dict[int, LabelSet] = {}
        self._by_key: dict[tuple[str, str], dict[str, set[int]]] = {}
        self._ports: dict[int, frozenset[tuple[str, int, str]]] = {}
        self.ports_version = 0
        """Another number whenever any identity's named ports may have changed."""
        self._matched: WeakValueDictionary[Selector, Matched] = WeakValueDictionary()

    def update(self, live: Mapping[int, LabelSet]) -> None:
        """Make `live` (number → labels, pods only) the identities that are matched."""
        if self._labels == live:
            return
        self.ports_version += 1
        gone = [number for number, labels in self._labels.items() if live.get(number) != labels]
        for number in gone:
            for (source, key), value in labels_of(self._labels.pop(number)).items():
                numbers = self._by_key[(source, key)]
                numbers[value].discard(number)
                if not numbers[value]:
                    del numbers[value]
            self._ports.pop(number)
        for number in live.keys() - self._labels.keys():
            self._labels[number] = live[number]
            self._ports[number] = named_ports(live[number])
            for label, value in labels_of(live[number]).items():
                self._by_key.setdefault(label, {}).setdefault(value, set()).add(number)
        for matched in list(self._matched.values()):
            self._refresh(matched)

    def track(self, selector: Selector) -> Matched:
        """The selector's matches, kept true for as long as the result is held."""
        matched = self._matched.get(selector)
        if matched is None:
            matched = self._matched[selector] = Matched(selector)
            self._refresh(matched)
        return matched

    def ports(self, number: int) -> frozenset[tuple[str, int, str]]:
        """(name, number, protocol) of the identity's named ports; none if it is no live pod's."""
        return self._ports.get(number, frozenset())

    def _refresh(self, matched: Matched) -> None:
        numbers = self._evaluate(matched.selector)
        if numbers != matched.numbers:
            matched.numbers = frozenset(numbers)

    def _evaluate(self, selector: Selector) -> set[int]:
        found: set[int] | None = None
        without: list[Requirement] = []
        for requirement in selector.requirements:
            if requirement.operator in ("NotIn", "DoesNotExist"):
                without.append(requirement)
                continue
            having = self._having(requirement)
            found = having if found is None else found & having
            if not found:
                return set()
        numbers = set(self._labels) if found is None else found
        for requirement in without:
            numbers = numbers - self._having(requirement)
        return numbers

    def _having(self, requirement: Requirement) -> set[int]:
        """The identities that carry the key, with one of the values if the operator takes any."""
        values = self._by_key.get((requirement.source, requirement.key), {})
        if requirement.operator in ("Exists", "DoesNotExist"):
            return set().union(*values.values())
        return set().union(*(values[value] for value in requirement.values if value in values))
