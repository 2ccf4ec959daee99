"""The bus in memory: for pure tests and a simulator; nothing is durable, no time passes inside."""

import asyncio
import dataclasses
import hashlib
import itertools
from base64 import urlsafe_b64encode
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from tabard.bus.arguments import check_batch, check_object, check_outgoing, check_read
from tabard.bus.port import (
    READ_MESSAGES_MAX,
    BusUnavailable,
    Conflict,
    Link,
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    Outgoing,
    SequenceGap,
    Stored,
    Stream,
    StreamInfo,
)

_sequence = attrgetter("sequence")


@dataclass(slots=True)
class _Log:
    """One stream: its stored messages by rising sequence, and the ids that it has seen."""

    stream: Stream
    messages: list[Stored] = field(default_factory=list)
    last: int = 0
    sequence_by_id: dict[str, int] = field(default_factory=dict)
    last_by_subject: dict[str, Stored] = field(default_factory=dict)

    def store(self, message: Outgoing, stored_at: int) -> int:
        if message.id:
            known = self.sequence_by_id.get(message.id)
            if known is not None:
                return known
            self.sequence_by_id[message.id] = self.last + 1
        self.last += 1
        stored = Stored(self.last, message.subject, message.payload, stored_at)
        older = self.last_by_subject.get(message.subject)
        if self.stream is Stream.STATUS and older is not None:
            self.remove(older.sequence)
        self.messages.append(stored)
        self.last_by_subject[message.subject] = stored
        return self.last

    def remove(self, sequence: int) -> None:
        index = bisect_left(self.messages, sequence, key=_sequence)
        stored = self.messages.pop(index)
        assert stored.sequence == sequence, f"{self.stream} holds no message {sequence}"
        if self.last_by_subject.get(stored.subject) is stored:
            del self.last_by_subject[stored.subject]

    def read(self, start: int, limit: int) -> list[Stored]:
        index = bisect_left(self.messages, start, key=_sequence)
        found = self.messages[index : index + limit]
        if self.stream is not Stream.LEDGER or not found:
            return found
        if found[0].sequence != start:
            raise SequenceGap(
                f"{self.stream} holds {found[0].sequence}, but not {start} before it: the log has "
                "a hole; stop here and compare it with another copy"
            )
        # Stop before a hole: what precedes it is whole, and the next read names it.
        return [stored for at, stored in enumerate(found, start) if stored.sequence == at]


class MemoryStore:
    """What several `MemoryBus` clients share, as several connections share one server.

    `clock` gives `stored_at`, nanoseconds since the Unix epoch; by default it only counts, so that
    two runs store the same. Message ids are remembered for ever (a server forgets them after its
    duplicate window), and nothing expires but by `forget` and on STATUS.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self.clock = clock if clock is not None else itertools.count(1).__next__
        self.logs = {stream: _Log(stream) for stream in Stream}
        self.objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self.changed = asyncio.Event()

    def notify(self) -> None:
        """Wake every tail. Each looks for itself whether there is something for it."""
        self.changed.set()
        self.changed = asyncio.Event()

    def forget(self, stream: Stream, *sequences: int) -> None:
        """Drop stored messages: as age does on a stream that expires, or as damage on LEDGER."""
        for sequence in sequences:
            self.logs[stream].remove(sequence)


class MemoryBus:
    """A `Bus` on a `MemoryStore`, by default one of its own."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store if store is not None else MemoryStore()
        self._closed = False

    async def ensure_streams(self, replicas: int = 1) -> None:
        await self._turn()

    async def keep_flows(self) -> None:
        await self._turn()

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        check_outgoing(stream, messages)
        await self._turn()
        clock, log = self.store.clock, self.store.logs[stream]
        sequences = [log.store(message, clock()) for message in messages]
        self.store.notify()
        return sequences

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        check_batch(messages, expected_last)
        await self._turn()
        log = self.store.logs[Stream.LEDGER]
        if log.last != expected_last:
            raise Conflict(
                f"{Stream.LEDGER} ends at {log.last}, not at {expected_last}: someone else wrote; "
                "read on and decide again"
            )
        for message in messages:
            # An append is fenced by its sequence alone; ids are for `publish`.
            log.store(Outgoing(message.subject, message.payload), self.store.clock())
        self.store.notify()
        return log.last

    async def last_sequence(self, stream: Stream) -> int:
        await self._turn()
        return self.store.logs[stream].last

    async def first_sequence(self, stream: Stream) -> int:
        await self._turn()
        log = self.store.logs[stream]
        return log.messages[0].sequence if log.messages else log.last + 1

    async def info(self, stream: Stream) -> StreamInfo:
        await self._turn()
        log = self.store.logs[stream]
        ends = (log.messages[0], log.messages[-1]) if log.messages else None
        first = ends[0].sequence if ends else log.last + 1
        return StreamInfo(
            stream=stream,
            first=first,
            last=log.last,
            messages=len(log.messages),
            bytes=sum(len(each.subject) + len(each.payload) for each in log.messages),
            holes=log.last - first + 1 - len(log.messages),
            first_at=ends and ends[0].stored_at,
            last_at=ends and ends[1].stored_at,
            now=self.store.clock(),
            replicas=1,
            storage="memory",
            age_s_max=None,
            bytes_max=None,
            per_subject_max=1 if stream is Stream.STATUS else None,
            refuses=stream is Stream.LEDGER,
        )

    async def faults(self, stream: Stream) -> list[str]:
        await self._turn()
        return []

    async def read(
        self, stream: Stream, start: int, limit: int = READ_MESSAGES_MAX
    ) -> list[Stored]:
        check_read(start, limit)
        await self._turn()
        return self.store.logs[stream].read(start, limit)

    async def last_on_subject(self, stream: Stream, subject: str) -> Stored | None:
        await self._turn()
        return self.store.logs[stream].last_by_subject.get(subject)

    async def tail(self, stream: Stream, start: int) -> AsyncGenerator[list[Stored], None]:
        check_read(start)
        while True:
            await self._turn()
            changed = self.store.changed
            if found := self.store.logs[stream].read(start, READ_MESSAGES_MAX):
                start = found[-1].sequence + 1
                yield found
            else:
                await changed.wait()

    async def trim(self, before: int) -> int:
        await self._turn()
        log = self.store.logs[Stream.LEDGER]
        if not 1 <= before <= log.last:
            raise ValueError(f"before is {before}, and LEDGER ends at {log.last}")
        self.store.forget(
            Stream.LEDGER, *(each.sequence for each in log.messages if each.sequence < before)
        )
        return log.messages[0].sequence

    @property
    def objects(self) -> "MemoryObjects":
        return MemoryObjects(self.store, self._turn)

    @property
    def link(self) -> Link:
        return Link(not self._closed, 1, "the bus was closed" if self._closed else "")

    async def close(self) -> None:
        self._closed = True
        self.store.notify()

    async def _turn(self) -> None:
        # Every call lets the others run once, as a call to a real bus does.
        await asyncio.sleep(0)
        if self._closed:
            raise BusUnavailable("the bus was closed")


class MemoryObjects:
    """`Objects` of a `MemoryStore`; what is put is there at once, so there are never remains."""

    PIECE_BYTES = 128 << 10

    def __init__(self, store: MemoryStore, turn: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._turn = turn

    async def put(self, name: str, content: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        check_object(name, metadata)
        await self._turn()
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
        chunks = -(-len(content) // self.PIECE_BYTES)
        info = ObjectInfo(
            name, len(content), chunks, f"SHA-256={digest}", self._store.clock(), dict(metadata)
        )
        self._store.objects[name] = info, content
        return info

    async def get(self, info: ObjectInfo) -> AsyncGenerator[bytes, None]:
        await self._turn()
        held, content = self._held(info)
        for at in range(0, len(content), self.PIECE_BYTES):
            yield content[at : at + self.PIECE_BYTES]
            await self._turn()
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
        if (len(content), f"SHA-256={digest}") != (held.size, held.digest):
            raise ObjectDamaged(f"object {info.name!r} is not what was put")

    async def listed(self) -> list[ObjectInfo]:
        await self._turn()
        return [self._store.objects[name][0] for name in sorted(self._store.objects)]

    async def mark(self, info: ObjectInfo, metadata: Mapping[str, str]) -> ObjectInfo:
        check_object(info.name, metadata)
        await self._turn()
        held, content = self._held(info)
        marked = dataclasses.replace(held, metadata=dict(metadata), stored_at=self._store.clock())
        self._store.objects[info.name] = marked, content
        return marked

    async def delete(self, info: ObjectInfo) -> None:
        await self._turn()
        held = self._store.objects.get(info.name)
        if held is not None and held[0].digest == info.digest:
            del self._store.objects[info.name]

    async def tidy(self, age_s: float) -> int:
        await self._turn()
        return 0

    def _held(self, info: ObjectInfo) -> tuple[ObjectInfo, bytes]:
        held = self._store.objects.get(info.name)
        if held is None or held[0].digest != info.digest:
            raise ObjectMissing(f"the bucket has object {info.name!r} no more as it was listed")
        return held
