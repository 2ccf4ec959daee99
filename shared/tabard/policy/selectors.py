"""Which of many selectors match a label set, without a look at all of them."""

from collections.abc import Iterable, Iterator

from tabard.policy.matching import Labels, matches
from tabard.policy.model import ANY_SOURCE, Selector

_Clue = tuple[str, str, str]
"""(source, key, value) of a label without which a selector does not match."""


class Selectors:
    """A fixed set of selectors, each known by its place in the order of first mention."""

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self.places: dict[Selector, int] = {}
        self._by_clue: dict[_Clue, list[tuple[int, Selector]]] = {}
        self._others: list[tuple[int, Selector]] = []
        """Those that ask for no value of a label."""
        for selector in dict.fromkeys(selectors):
            place = self.places[selector] = len(self.places)
            wanted = [
                [(need.source, need.key, value) for value in need.values]
                for need in selector.requirements
                if need.operator == "In"
            ]
            if not wanted:
                self._others.append((place, selector))
                continue
            # Any of its requirements would do; one that few others ask for leads astray least.
            for clue in min(wanted, key=lambda clues: sum(map(self._crowd, clues))):
                self._by_clue.setdefault(clue, []).append((place, selector))

    def _crowd(self, clue: _Clue) -> int:
        return len(self._by_clue.get(clue, ()))

    def matching(self, labels: Labels) -> frozenset[int]:
        """The places of all that match."""
        return frozenset(
            place for place, selector in self._suspects(labels) if matches(selector, labels)
        )

    def _suspects(self, labels: Labels) -> Iterator[tuple[int, Selector]]:
        yield from self._others
        for (source, key), value in labels.items():
            yield from self._by_clue.get((source, key, value), ())
            yield from self._by_clue.get((ANY_SOURCE, key, value), ())
