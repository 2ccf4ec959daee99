"""What allocators said last of themselves on STATUS."""

from collections.abc import Mapping
from dataclasses import dataclass

from tabard.bus.port import Bus, Stored, Stream
from tabard.events.errors import EventError
from tabard.events.status import AllocatorStatus
from tabard.ledger.messages import allocator_subject, recorded

SILENT_S = 5.0
"""An allocator that said nothing for so long (five words) is down, or cut off."""
GONE_S = 600.0
"""One that stopped when it was asked to is not spoken of for longer."""


@dataclass(frozen=True, slots=True)
class AllocatorWord:
    """What an allocator said last; `stored_at` in nanoseconds since the Unix epoch."""

    status: AllocatorStatus
    stored_at: int

    def age_s(self, now: int) -> float:
        """`now` by the bus's clock."""
        return max(0.0, (now - self.stored_at) / 1e9)

    def silent(self, now: int) -> bool:
        """Whether it should have said more by now."""
        return self.status.role != "stopped" and self.age_s(now) > SILENT_S

    def gone(self, now: int) -> bool:
        return self.status.role == "stopped" and self.age_s(now) > GONE_S


def allocator_word(message: Stored) -> AllocatorWord | None:
    """None for a message that is no readable AllocatorStatus."""
    if not message.subject.startswith(_SUBJECTS):
        return None
    try:
        event = recorded(Stream.STATUS, message).event
    except EventError:
        return None
    return AllocatorWord(event, message.stored_at) if isinstance(event, AllocatorStatus) else None


_SUBJECTS = allocator_subject("")


class Allocators:
    """The last word of each allocator on a bus."""

    def __init__(self) -> None:
        self._words: dict[str, AllocatorWord] = {}
        self._next = 1

    async def heard(self, bus: Bus) -> Mapping[str, AllocatorWord]:
        """By name, as of now. The first time it takes reading all that STATUS holds, later what is
        new."""
        while messages := await bus.read(Stream.STATUS, self._next):
            self._next = messages[-1].sequence + 1
            for word in filter(None, map(allocator_word, messages)):
                self._words[word.status.name] = word
        return dict(self._words)
