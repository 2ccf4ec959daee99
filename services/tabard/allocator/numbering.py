"""Which numbers are free: the lowest first, doubtful ones last; found without a scan."""

import heapq
from collections.abc import Container, Iterable, Iterator

from tabard.dataplane.maps import AT_CIDR
from tabard.events.ledger import (
    IdentityAllocated,
    IdentityReleased,
    LedgerEvent,
    NodeRemoved,
    NodeReturned,
)
from tabard.identity.labels import LabelSet
from tabard.identity.numbers import CIDR_SCOPE, NumberSpace, is_cidr
from tabard.ledger.state import State

CIDR_LAST = AT_CIDR - 1
"""Identities are 31 bits wide in the kernel's maps; one bit says how a policy entry means them."""


class FreeNumbers:
    """The free numbers of `first` to `last`: a heap of those given back, and all from `_next` on.

    Of those given back some are `doubtful`, and these are a heap of their own: a lost node may
    still take them for what they were, so they come after all others. Numbers must be taken in the
    order of iteration, as decisions hand them out.
    """

    def __init__(
        self, first: int, last: int, taken: Iterable[int] = (), doubtful: Iterable[int] = ()
    ) -> None:
        self.first, self.last = first, last
        self._doubtful = [number for number in doubtful if first <= number <= last]
        heapq.heapify(self._doubtful)
        used = {number for number in taken if first <= number <= last}.union(self._doubtful)
        self._next = max(used, default=first - 1) + 1
        # In order, so already a heap.
        self._below = [number for number in range(first, self._next) if number not in used]

    def __len__(self) -> int:
        return len(self._below) + self.last + 1 - self._next + len(self._doubtful)

    def __iter__(self) -> Iterator[int]:
        """In the order in which they are to be taken, changing nothing."""
        yield from _ascending(self._below)
        yield from range(self._next, self.last + 1)
        yield from _ascending(self._doubtful)

    def take(self, number: int) -> None:
        """`number`, the first of all free ones, is in use from now on."""
        if self._below:
            lowest = heapq.heappop(self._below)
        elif self._next <= self.last:
            lowest, self._next = self._next, self._next + 1
        else:
            assert self._doubtful, f"{number} was taken while none was free"
            lowest = heapq.heappop(self._doubtful)
        assert lowest == number, f"{number} was taken while {lowest} was free"

    def release(self, number: int, doubtful: bool = False) -> None:
        """`number` is free again."""
        assert self.first <= number < self._next, f"{number} was never taken"
        heapq.heappush(self._doubtful if doubtful else self._below, number)

    def doubt_only(self, doubtful: Container[int]) -> None:
        """Of the doubtful numbers all but these are free like any other."""
        cleared = [number for number in self._doubtful if number not in doubtful]
        self._doubtful = [number for number in self._doubtful if number in doubtful]
        heapq.heapify(self._doubtful)
        for number in cleared:
            heapq.heappush(self._below, number)


def _ascending(heap: list[int]) -> Iterator[int]:
    """What `heap` holds, lowest first: walked best-first, one step per number."""
    edge = [(heap[0], 0)] if heap else []
    while edge:
        number, at = heapq.heappop(edge)
        yield number
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heapq.heappush(edge, (heap[child], child))


class Numbering:
    """The free numbers of a state: for label sets of pods, and for CIDRs."""

    def __init__(self, state: State) -> None:
        assert state.settings is not None, "the number space is among the settings"
        self._state = state
        space = NumberSpace(state.settings.cluster_id, state.settings.cluster_bits)
        used = (*state.identities, *state.retired)
        self.cluster = FreeNumbers(space.first, space.last, used, state.doubtful)
        self.cidr = FreeNumbers(CIDR_SCOPE, CIDR_LAST, used, state.doubtful)

    def note(self, event: LedgerEvent) -> None:
        """Follow the state, which is past `event`."""
        match event:
            case IdentityAllocated(identity=number):
                self._of(number).take(number)
            case IdentityReleased(identity=number):
                self._of(number).release(number, number in self._state.doubtful)
            case NodeReturned() | NodeRemoved():
                self.cluster.doubt_only(self._state.doubtful)
                self.cidr.doubt_only(self._state.doubtful)
            case _:
                pass

    def _of(self, number: int) -> FreeNumbers:
        return self.cidr if is_cidr(number) else self.cluster


class Allotment:
    """The numbers that one decision hands out, before any of it is applied."""

    def __init__(self, state: State, free: FreeNumbers) -> None:
        self._state = state
        self._free = iter(free)
        self._free_count = len(free)
        self._new: dict[LabelSet, int] = {}
        self._numbers: set[int] = set()

    def __len__(self) -> int:
        return len(self._new)

    def __contains__(self, number: int) -> bool:
        """Whether `number` was handed out here."""
        return number in self._numbers

    @property
    def left(self) -> int:
        """How many numbers are still free."""
        return self._free_count - len(self._new)

    def known(self, labels: LabelSet) -> int | None:
        """The number that `labels` has or was handed here."""
        number = self._state.numbers.get(labels)
        return self._new.get(labels) if number is None else number

    def draw(self, labels: LabelSet) -> int | None:
        """The next free number, now for `labels`; None if there is none left."""
        number = next(self._free, None)
        if number is not None:
            self._new[labels] = number
            self._numbers.add(number)
        return number

    @property
    def events(self) -> list[IdentityAllocated]:
        """What was handed out, in the order in which it must be written."""
        return [IdentityAllocated(number, labels) for labels, number in self._new.items()]
