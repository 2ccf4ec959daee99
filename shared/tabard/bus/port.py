"""The Bus port: what Tabard asks of a bus, in Tabard's words."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

BATCH_MESSAGES_MAX = 1000
"""Most messages in one atomic append (nats-server's limit, ADR-50)."""
READ_MESSAGES_MAX = 1000
"""Most messages that one `read` or one batch of a `tail` returns."""
PAYLOAD_BYTES_MAX = (1 << 20) - 4096
"""Largest payload in bytes: nats-server's default max_payload, less room for the bus's headers."""


class Stream(StrEnum):
    """The streams, by their name on the bus; subjects are `tabard.<name in lower case>.…`."""

    OBSERVED = "OBSERVED"
    LEDGER = "LEDGER"
    STATUS = "STATUS"
    FLOWS = "FLOWS"


UNBROKEN = (Stream.LEDGER, Stream.OBSERVED)
"""Streams out of whose middle nothing is ever removed: a gap in a replica is damage."""


def subject(stream: Stream, *tokens: str) -> str:
    """`tabard.ledger.endpoint.bound` for (LEDGER, "endpoint.bound")."""
    return ".".join(("tabard", stream.lower(), *tokens))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be stored. A second one with the same non-empty `id` is dropped (OBSERVED)."""

    subject: str
    payload: bytes
    id: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the bus stores it; `stored_at` in nanoseconds since the Unix epoch."""

    sequence: int
    subject: str
    payload: bytes
    stored_at: int


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream as its leader has it at `now`; times in nanoseconds since the Unix epoch.

    Of an empty stream `first` is `last` + 1, and both times are None.
    """

    stream: Stream
    first: int
    last: int
    messages: int
    bytes: int
    """What the messages take where they are stored, as the bus counts it."""
    holes: int
    """Sequences from `first` to `last` without a message: 0 on a whole LEDGER."""
    first_at: int | None
    last_at: int | None
    now: int
    """The bus's own clock when it answered: the one that `stored_at` is told by."""
    replicas: int
    storage: str
    """`file` or `memory`."""
    age_s_max: float | None
    """Older messages are dropped; None: never. So for `bytes_max` and `per_subject_max`."""
    bytes_max: int | None
    per_subject_max: int | None
    refuses: bool
    """Whether a full stream refuses new messages, or drops its oldest."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of the bucket, as the bucket's own record of it says: nothing is checked yet."""

    name: str
    size: int
    """Bytes."""
    chunks: int
    digest: str
    """`SHA-256=` and the hash of all bytes, base64 with - and _."""
    stored_at: int
    """When the record was written, in nanoseconds since the Unix epoch, by the bus's clock."""
    metadata: Mapping[str, str]


class BusError(Exception):
    """The bus could not do it; the message says what, where, and what to do next."""


class BusUnavailable(BusError):
    """No answer in time: not connected, no leader, or the answer was lost. Outcome unknown."""


class Denied(BusError):
    """The bus does not let this process's key do it: names what, and says so at once."""


class Conflict(BusError):
    """The stream's last sequence is not the expected one: the append was refused as a whole."""


class StreamMismatch(BusError):
    """A stream exists with other settings than Tabard's; names the stream and each setting."""


class SequenceGap(BusError):
    """A message that must be there is not: the log has a hole. Names stream and sequence."""


class Shortened(BusError):
    """A stream ends before a message that it had acknowledged or shown. Names both sequences."""


class ObjectMissing(BusError):
    """The bucket has no object of this name."""


class ObjectDamaged(BusError):
    """An object is not what was put: cut, changed or mixed up. Names it; what was read of it is to
    be thrown away."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a bus's connection stands."""

    connected: bool
    connects: int
    """How often it was made; all but the first are reconnections."""
    failure: str = ""
    """Why it is not connected, or was not the last time."""
    unheard_s: float = 0.0
    """For how long all that was asked of streams' leaders found none; 0 once one answers."""


class Objects(Protocol):
    """The bucket TABARD_SNAPSHOTS: named objects of any size, each whole or not there.

    All methods raise BusUnavailable when the bus gives no answer.
    """

    async def put(self, name: str, content: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """Store an object; one of the same name is replaced at once when all of it is durable.

        Broken off anywhere, it leaves what was there before, and chunks that `tidy` removes.
        """
        ...

    def get(self, info: ObjectInfo) -> AsyncGenerator[bytes, None]:
        """The object's bytes in pieces, checked: whoever reads to the end without an error has read
        what was put. ObjectDamaged otherwise, before or after the last piece.

        ObjectMissing if it was deleted or replaced since `info` was listed.
        """
        ...

    async def listed(self) -> list[ObjectInfo]:
        """All whole objects, by name; [] where no bucket was made."""
        ...

    async def mark(self, info: ObjectInfo, metadata: Mapping[str, str]) -> ObjectInfo:
        """Give the object other metadata; its bytes stay."""
        ...

    async def delete(self, info: ObjectInfo) -> None:
        """Remove the object; nothing if it is not there."""
        ...

    async def tidy(self, age_s: float) -> int:
        """Remove what puts that were broken off left behind, once its newest chunk is `age_s` old;
        how many such remains there were."""
        ...


class Bus(Protocol):
    """Ordered durable streams. All methods raise BusUnavailable when the bus gives no answer."""

    async def ensure_streams(self, replicas: int = 1) -> None:
        """Create the four streams and the bucket where absent; StreamMismatch for one with other
        settings."""
        ...

    async def keep_flows(self) -> None:
        """Create FLOWS where it is absent: kept in memory, it ends with its server."""
        ...

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        """Store messages in order, pipelined; their sequences (of the first copy if dropped).

        Returns once all are durable. On BusUnavailable some may be stored: publish again with the
        same ids.
        """
        ...

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        """Store 1 to BATCH_MESSAGES_MAX messages on LEDGER, all or none; the last's sequence.

        Raises Conflict if LEDGER's last sequence is not `expected_last`. On BusUnavailable the
        outcome is unknown: read LEDGER from `expected_last + 1` to learn it.
        """
        ...

    async def last_sequence(self, stream: Stream) -> int:
        """The stream's last sequence, 0 if it never held a message.

        Shortened if it stays below one that this client was told of.
        """
        ...

    async def first_sequence(self, stream: Stream) -> int:
        """The oldest sequence still stored; last + 1 if there is none."""
        ...

    async def info(self, stream: Stream) -> StreamInfo:
        """What the stream holds and keeps; one question, whatever its size."""
        ...

    async def faults(self, stream: Stream) -> list[str]:
        """What the stream is not as Tabard needs it: settings that differ, replicas that are not
        current. BusError if there is no such stream."""
        ...

    async def read(
        self, stream: Stream, start: int, limit: int = READ_MESSAGES_MAX
    ) -> list[Stored]:
        """Up to `limit` messages from sequence `start` (≥ 1) on, in order; [] at the end.

        On LEDGER sequences are contiguous from `start`, else SequenceGap. On streams that expire
        messages the first may be later than `start`. Shortened as of `last_sequence`.
        """
        ...

    async def last_on_subject(self, stream: Stream, subject: str) -> Stored | None:
        """The last message stored on exactly this subject."""
        ...

    def tail(self, stream: Stream, start: int) -> AsyncGenerator[list[Stored], None]:
        """All messages from `start` on and then new ones as they come, in non-empty batches.

        Each sequence exactly once and in order, across reconnects and server restarts; a lost live
        message is noticed within two seconds. While the bus is away it waits. SequenceGap on
        LEDGER as in `read`; Shortened if the stream ends before what was given out. End it by
        closing the iterator (`aclose`).
        """
        ...

    async def trim(self, before: int) -> int:
        """Remove LEDGER's messages before sequence `before`, for ever; the first sequence kept.

        Never more than these, also if it is broken off: then some of the oldest may be gone, and
        trimming again goes on. BusError if this stream denies it.
        """
        ...

    @property
    def objects(self) -> Objects:
        """The bucket of snapshots."""
        ...

    @property
    def link(self) -> Link:
        """The connection as it is known to be now; a dead peer is noticed within 8 seconds."""
        ...

    async def close(self) -> None:
        """Drop the connection; pending calls raise BusUnavailable."""
        ...
