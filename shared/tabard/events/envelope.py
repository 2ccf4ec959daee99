"""What every event carries beside its data."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

E = TypeVar("E", covariant=True)


@dataclass(frozen=True, slots=True)
class Envelope:
    """Identity and provenance of one event.

    `cause` names what made this event as `STREAM/sequence` (empty for a first cause, such as a
    manifest or a clock); `correlation` is the id of the first event of the whole story.
    """

    id: bytes
    """16 bytes, unique; the bus drops a second event with the same id."""
    key: str
    """The entity that the event is about, such as a pod's UID."""
    occurred_at: int
    """Nanoseconds since the Unix epoch, by the writer's clock."""
    cause: str = ""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded(Generic[E]):
    """An event read from a stream, at its place."""

    stream: str
    sequence: int
    envelope: Envelope
    event: E
    stored_at: int = field(default=0, compare=False)
    """Nanoseconds since the Unix epoch, by the bus's clock; 0 if it is on no bus yet."""

    @property
    def place(self) -> str:
        """`STREAM/sequence`, as `Envelope.cause` of what follows from this event."""
        return f"{self.stream}/{self.sequence}"
