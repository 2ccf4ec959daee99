"""The bus of a history: one store, and for each life of a process a `Bus` whose every call waits
for the scheduler.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial

from tabard.bus.arguments import check_batch, check_object, check_outgoing, check_read
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import (
    READ_MESSAGES_MAX,
    BusUnavailable,
    Conflict,
    Link,
    ObjectInfo,
    Outgoing,
    Stored,
    Stream,
    StreamInfo,
)
from tabard.events.codec import decode
from tabard.events.ledger import EpochClaimed
from tabard.events.status import AllocatorStatus, NodeStatus
from tabard.ledger.messages import recorded
from tabard.simulator.loop import Host
from tabard.simulator.operations import Line
from tabard.simulator.world import Append, Word, World


def unavailable(reason: str) -> Exception:
    return BusUnavailable(f"the simulated bus: {reason}")


class Store(MemoryStore):
    """What the bus holds; writes into `world` what was stored, for ever."""

    def __init__(self, world: World, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.world = world
        self.full: set[Stream] = set()
        """Streams that take nothing."""

    def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        if stream in self.full:
            raise unavailable(f"{stream} is full")
        log, sequences = self.logs[stream], []
        for message in messages:
            last = log.last
            sequences.append(log.store(message, self.clock()))
            if log.last == last:
                self.world.counts["duplicates dropped"] += 1
            elif stream is Stream.OBSERVED:
                stored = log.messages[-1]
                self.world.observed.append(stored)
                self.world.heard.append(recorded(stream, stored))
            elif stream is Stream.STATUS:
                self._note_word(log.messages[-1])
        return sequences

    def append(
        self, host: Host, epoch: int, messages: Sequence[Outgoing], expected_last: int
    ) -> int:
        if Stream.LEDGER in self.full:
            raise unavailable("LEDGER is full")
        log, world = self.logs[Stream.LEDGER], self.world
        stored = log.last == expected_last
        holder = f"{host.name}/{host.start}"
        world.appends.append(
            Append(host.name, holder, epoch, expected_last, len(messages), stored, world.step)
        )
        if not stored:
            world.counts["appends fenced"] += 1
            raise _conflict(log.last, expected_last)
        for message in messages:
            log.store(Outgoing(message.subject, message.payload), self.clock())
            kept = log.messages[-1]
            world.ledger.append(kept)
            world.records.append(recorded(Stream.LEDGER, kept))
        return log.last

    def trim(self, before: int) -> int:
        log = self.logs[Stream.LEDGER]
        first = log.messages[0].sequence
        self.forget(Stream.LEDGER, *range(first, before))
        self.world.trimmed = before
        self.world.counts["trims"] += 1
        return before

    def forget_ids(self) -> None:
        """The duplicate window is over for all that was published."""
        self.logs[Stream.OBSERVED].sequence_by_id.clear()

    def _note_word(self, stored: Stored) -> None:
        world = self.world
        said = decode(stored.payload, Stream.STATUS, stored.sequence).event
        at, step = stored.stored_at, world.step
        if isinstance(said, NodeStatus):
            word = Word(said.node, "node", said.sequence, at, step, stopped=said.stopped)
            world.nodes[said.node].said = said.sequence
        else:
            assert isinstance(said, AllocatorStatus), said
            word = Word(
                said.name,
                "allocator",
                said.sequence,
                at,
                step,
                said.role,
                said.epoch,
                said.holder,
                said.role == "stopped",
            )
        world.words.append(word)


def _claimed(messages: Sequence[Outgoing]) -> int:
    """The epoch that a batch claims; 0 if it claims none."""
    if not messages[0].subject.endswith("epoch.claimed"):
        return 0
    event = decode(messages[0].payload, Stream.LEDGER, 0).event
    return event.epoch if isinstance(event, EpochClaimed) else 0


def _conflict(last: int, expected: int) -> Exception:
    return Conflict(f"LEDGER ends at {last}, not at {expected}: someone else wrote")


class SimulatedBus(MemoryBus):
    """One process's connection."""

    store: Store

    def __init__(self, store: Store, line: Line) -> None:
        super().__init__(store)
        self._line = line
        self._epoch = 0
        """Under which its process believes to lead."""

    @property
    def link(self) -> Link:
        return Link(not self._line.is_cut, 1, "cut off" if self._line.is_cut else "")

    async def ensure_streams(self, replicas: int = 1) -> None:
        return None

    async def keep_flows(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        check_outgoing(stream, messages)
        return await self._line.ask(
            f"publish {stream}",
            lambda: self.store.publish(stream, messages),
            unavailable,
            can_come_late=True,
        )

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        check_batch(messages, expected_last)
        self._epoch = epoch = _claimed(messages) or self._epoch
        return await self._line.ask(
            "append",
            lambda: self.store.append(self._line.host, epoch, messages, expected_last),
            unavailable,
            can_come_late=True,
        )

    async def last_sequence(self, stream: Stream) -> int:
        log = self.store.logs[stream]
        return await self._line.question(f"last {stream}", lambda: log.last, unavailable)

    async def first_sequence(self, stream: Stream) -> int:
        log = self.store.logs[stream]
        return await self._line.question(
            f"first {stream}",
            lambda: log.messages[0].sequence if log.messages else log.last + 1,
            unavailable,
        )

    async def info(self, stream: Stream) -> StreamInfo:
        await self._line.question(f"info {stream}", lambda: None, unavailable)
        return await super().info(stream)

    async def read(
        self, stream: Stream, start: int, limit: int = READ_MESSAGES_MAX
    ) -> list[Stored]:
        check_read(start, limit)
        log = self.store.logs[stream]
        return await self._line.question(
            f"read {stream}", lambda: log.read(start, limit), unavailable
        )

    async def last_on_subject(self, stream: Stream, subject: str) -> Stored | None:
        log = self.store.logs[stream]
        return await self._line.question(
            f"last word {stream}", lambda: log.last_by_subject.get(subject), unavailable
        )

    async def tail(self, stream: Stream, start: int) -> AsyncGenerator[list[Stored], None]:
        check_read(start)
        line, log = self._line, self.store.logs[stream]
        while True:
            found = await line.ask(
                f"tail {stream}",
                partial(log.read, start, READ_MESSAGES_MAX),
                unavailable,
                short=partial(log.read, start),
                is_ready=partial(self._has, stream, start),
            )
            start = found[-1].sequence + 1
            yield found

    def _has(self, stream: Stream, start: int) -> bool:
        return self.store.logs[stream].last >= start and not self._line.is_cut

    async def trim(self, before: int) -> int:
        return await self._line.ask("trim", lambda: self.store.trim(before), unavailable)

    @property
    def objects(self) -> "SimulatedObjects":  # type: ignore[override]
        return SimulatedObjects(self.store, self._line)


class SimulatedObjects:
    """The bucket over one connection."""

    def __init__(self, store: Store, line: Line) -> None:
        self._bare = MemoryBus(store).objects
        self._store = store
        self._line = line

    async def put(self, name: str, content: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        check_object(name, metadata)
        await self._line.ask("put", lambda: None, unavailable)
        self._store.world.counts["snapshots stored"] += 1
        return await self._bare.put(name, content, metadata)

    async def get(self, info: ObjectInfo) -> AsyncGenerator[bytes, None]:
        await self._ask("get")
        self._store.world.counts["snapshots read"] += 1
        async for piece in self._bare.get(info):
            yield piece

    async def listed(self) -> list[ObjectInfo]:
        await self._ask("list")
        return await self._bare.listed()

    async def mark(self, info: ObjectInfo, metadata: Mapping[str, str]) -> ObjectInfo:
        await self._ask("mark")
        return await self._bare.mark(info, metadata)

    async def delete(self, info: ObjectInfo) -> None:
        await self._ask("delete")
        await self._bare.delete(info)

    async def tidy(self, age_s: float) -> int:
        return 0

    async def _ask(self, name: str) -> None:
        await self._line.question(name, lambda: None, unavailable)
