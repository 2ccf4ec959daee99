"""Which numbers are free: always the lowest first, found without a scan."""

import heapq
from collections.abc import Iterable, Iterator

from tabard.dataplane.maps import AT_CIDR
from tabard.events.ledger import IdentityAllocated, IdentityReleased, LedgerEvent
from tabard.identity.labels import LabelSet
from tabard.identity.numbers import CIDR_SCOPE, NumberSpace, is_cidr
from tabard.ledger.state import State

CIDR_LAST = AT_CIDR - 1
"""Identities are 31 bits wide in the kernel's maps; one bit says how a policy entry means them."""


class FreeNumbers:
    """The free numbers of `first` to `last`: a heap of those given back, and all from `_next` on.

    Numbers must be taken lowest first, as decisions hand them out.
    """

    def __init__(self, first: int, last: int, taken: Iterable[int] = ()) -> None:
        self.first, self.last = first, last
        used = {number for number in taken if first <= number <= last}
        self._next = max(used, default=first - 1) + 1
        # In order, so already a heap.
        self._below = [number for number in range(first, self._next) if number not in used]

    def __len__(self) -> int:
        return len(self._below) + self.last + 1 - self._next

    def __iter__(self) -> Iterator[int]:
        """Lowest first, changing nothing: the heap is walked best-first, one step per number."""
        heap = self._below
        edge = [(heap[0], 0)] if heap else []
        while edge:
            number, at = heapq.heappop(edge)
            yield number
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(heap):
                    heapq.heappush(edge, (heap[child], child))
        yield from range(self._next, self.last + 1)

    def take(self, number: int) -> None:
        """`number`, the lowest free one, is in use from now on."""
        if self._below:
            lowest = heapq.heappop(self._below)
        else:
            lowest, self._next = self._next, self._next + 1
        assert lowest == number <= self.last, f"{number} was taken while {lowest} was free"

    def release(self, number: int) -> None:
        """`number` is free again."""
        assert self.first <= number < self._next, f"{number} was never taken"
        heapq.heappush(self._below, number)


class Numbering:
    """The free numbers of a state: for label sets of pods, and for CIDRs."""

    def __init__(self, state: State) -> None:
        assert state.settings is not None, "the number space is among the settings"
        space = NumberSpace(state.settings.cluster_id, state.settings.cluster_bits)
        used = (*state.identities, *state.retired)
        self.cluster = FreeNumbers(space.first, space.last, used)
        self.cidr = FreeNumbers(CIDR_SCOPE, CIDR_LAST, used)

    def note(self, event: LedgerEvent) -> None:
        """Follow the state past `event`."""
        match event:
            case IdentityAllocated(identity=number):
                self._of(number).take(number)
            case IdentityReleased(identity=number):
                self._of(number).release(number)
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

    def __len__(self) -> int:
        return len(self._new)

    @property
    def left(self) -> int:
        """How many numbers are still free."""
        return self._free_count - len(self._new)

    def known(self, labels: LabelSet) -> int | None:
        """The number that `labels` has or was handed here."""
        number = self._state.numbers.get(labels)
        return self._new.get(labels) if number is None else number

    def draw(self, labels: LabelSet) -> int | None:
        """The lowest free number, now for `labels`; None if there is none left."""
        number = next(self._free, None)
        if number is not None:
            self._new[labels] = number
        return number

    @property
    def events(self) -> list[IdentityAllocated]:
        """What was handed out, in the order in which it must be written."""
        return [IdentityAllocated(number, labels) for labels, number in self._new.items()]
