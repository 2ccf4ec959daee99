"""Which identities a selector matches.

`matches` is the meaning; `IdentityIndex` gives the same answers for all live identities at once, by
set algebra over an index of their labels, and keeps them true: an identity that comes or goes is
held only against the selectors that ask for one of its labels.
"""

from collections.abc import Iterator, Mapping

from tabard.identity.labels import (
    NAMED_PORT_SOURCE,
    LabelSet,
    NamedPorts,
    label_set,
    named_ports,
    split_label,
)
from tabard.identity.numbers import Reserved, is_cidr
from tabard.policy.model import ANY_SOURCE, Requirement, Selector

Labels = Mapping[tuple[str, str], str]
"""(source, key) → value"""

_WORLD = Reserved.WORLD.label
RESERVED_LABELS: Mapping[int, LabelSet] = {
    number.value: label_set(labels)
    for number, labels in (
        (Reserved.HOST, (Reserved.HOST.label,)),
        (Reserved.WORLD, (_WORLD,)),
        (Reserved.REMOTE_NODE, (Reserved.REMOTE_NODE.label,)),
        (Reserved.WORLD_IPV4, (_WORLD, Reserved.WORLD_IPV4.label)),
        (Reserved.WORLD_IPV6, (_WORLD, Reserved.WORLD_IPV6.label)),
    )
}
"""Reserved identities that peers can have here, always live → what selectors see of them."""

NO_PORTS: NamedPorts = frozenset()


def labels_of(labels: LabelSet) -> Labels:
    return {(source, key): value for source, key, value in map(split_label, labels)}


def seen_labels(number: int, labels: LabelSet) -> LabelSet:
    """What selectors see of a live identity: the labels of a CIDR's say that it is outside too."""
    if not is_cidr(number):
        return labels
    is_ipv6 = any(":" in key for _, key, _ in map(split_label, labels))
    family = Reserved.WORLD_IPV6 if is_ipv6 else Reserved.WORLD_IPV4
    return label_set((*labels, _WORLD, family.label))


def matches(selector: Selector, labels: Labels) -> bool:
    """Whether every requirement holds for `labels` (meta/v1 LabelSelector)."""
    return all(_holds(requirement, labels) for requirement in selector.requirements)


def _holds(requirement: Requirement, labels: Labels) -> bool:
    if requirement.source == ANY_SOURCE:
        return _holds_anywhere(requirement, labels)
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


def _holds_anywhere(requirement: Requirement, labels: Labels) -> bool:
    values = {
        value
        for (source, key), value in labels.items()
        if key == requirement.key and source != NAMED_PORT_SOURCE
    }
    match requirement.operator:
        case "In":
            return not values.isdisjoint(requirement.values)
        case "NotIn":
            return values.isdisjoint(requirement.values)
        case "Exists":
            return bool(values)
        case "DoesNotExist":
            return not values
    raise AssertionError(f"unknown selector operator {requirement.operator!r}")


class Matched:
    """A selector and the live identities that it matches now."""

    __slots__ = ("clues", "held", "numbers", "selector")

    def __init__(self, selector: Selector, numbers: set[int], clues: list["Clue"]) -> None:
        self.selector = selector
        self.numbers = numbers
        self.clues = clues
        self.held = 0


Clue = tuple[str, str, str | None]
"""(source, key, value) of a label without which a selector does not match; value None: any value,
source ANY_SOURCE: any but named ports'."""

ANYTHING: Clue = ("", "", None)
"""The clue of selectors that ask for no label."""


class IdentityIndex:
    """Live identities by label, and the matches of every selector that someone holds."""

    def __init__(self) -> None:
        self._labels: dict[int, LabelSet] = {}
        self._by_key: dict[tuple[str, str], dict[str, set[int]]] = {}
        self._sources: dict[str, set[str]] = {}
        """Key → the sources, but that of named ports, that labels with it came from."""
        self._ports: dict[int, NamedPorts] = {}
        self._matched: dict[Selector, Matched] = {}
        self._by_clue: dict[Clue, set[Matched]] = {}

    def update(self, live: Mapping[int, LabelSet | None]) -> list[tuple[Matched, int]]:
        """Give each number its labels (`seen_labels`), None if it is not live any more.

        Returns each (answer, number) where an identity came, went or is another than before.
        """
        changed: list[tuple[Matched, int]] = []
        for number, labels in live.items():
            if self._labels.get(number) == labels:
                continue
            if number in self._labels:
                changed += ((matched, number) for matched in self._remove(number))
            if labels is not None:
                changed += ((matched, number) for matched in self._add(number, labels))
        return changed

    def _add(self, number: int, label_set: LabelSet) -> list[Matched]:
        labels = labels_of(label_set)
        self._labels[number] = label_set
        for label, value in labels.items():
            values = self._by_key.get(label)
            if values is None:
                values = self._by_key[label] = {}
                if label[0] != NAMED_PORT_SOURCE:
                    self._sources.setdefault(label[1], set()).add(label[0])
            values.setdefault(value, set()).add(number)
        if ports := named_ports(label_set):
            self._ports[number] = ports
        found = [one for one in self._suspects(labels) if matches(one.selector, labels)]
        for matched in found:
            matched.numbers.add(number)
        return found

    def _remove(self, number: int) -> list[Matched]:
        found = list(self.matching(number))
        for matched in found:
            matched.numbers.remove(number)
        for label, value in labels_of(self._labels.pop(number)).items():
            numbers = self._by_key[label]
            numbers[value].discard(number)
            if not numbers[value]:
                del numbers[value]
        self._ports.pop(number, None)
        return found

    def _suspects(self, labels: Labels) -> set[Matched]:
        """The selectors that `labels` can match."""
        found = set(self._by_clue.get(ANYTHING, ()))
        for (source, key), value in labels.items():
            found.update(self._by_clue.get((source, key, value), ()))
            found.update(self._by_clue.get((source, key, None), ()))
            if source != NAMED_PORT_SOURCE:
                found.update(self._by_clue.get((ANY_SOURCE, key, value), ()))
                found.update(self._by_clue.get((ANY_SOURCE, key, None), ()))
        return found

    def matching(self, number: int) -> Iterator[Matched]:
        """The selectors that match an identity; none if it is not live."""
        labels = labels_of(self._labels.get(number, LabelSet(())))
        return (matched for matched in self._suspects(labels) if number in matched.numbers)

    def track(self, selector: Selector) -> Matched:
        """The selector's matches, kept true until they were released as often as tracked."""
        matched = self._matched.get(selector)
        if matched is None:
            clues = self._clues(selector)
            matched = Matched(selector, self._evaluate(selector), clues)
            self._matched[selector] = matched
            for clue in clues:
                self._by_clue.setdefault(clue, set()).add(matched)
        matched.held += 1
        return matched

    def release(self, matched: Matched) -> None:
        matched.held -= 1
        if matched.held:
            return
        del self._matched[matched.selector]
        for clue in matched.clues:
            self._by_clue[clue].remove(matched)
            if not self._by_clue[clue]:
                del self._by_clue[clue]

    def ports(self, number: int) -> NamedPorts:
        """(name, number, protocol) of the identity's named ports; none if it is no live pod's."""
        return self._ports.get(number, NO_PORTS)

    def _clues(self, selector: Selector) -> list[Clue]:
        """The clues of the one requirement that leads the fewest other selectors astray."""
        wanted: list[list[Clue]] = []
        for one in selector.requirements:
            if one.operator == "In":
                wanted.append([(one.source, one.key, value) for value in one.values])
            elif one.operator == "Exists":
                wanted.append([(one.source, one.key, None)])
        if not wanted:
            return [ANYTHING]
        return min(wanted, key=lambda clues: sum(len(self._by_clue.get(c, ())) for c in clues))

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
        key, found = requirement.key, set[int]()
        is_anywhere = requirement.source == ANY_SOURCE
        for source in self._sources.get(key, ()) if is_anywhere else (requirement.source,):
            values = self._by_key.get((source, key), {})
            if requirement.operator in ("Exists", "DoesNotExist"):
                found.update(*values.values())
            else:
                found.update(*(values[one] for one in requirement.values if one in values))
        return found
