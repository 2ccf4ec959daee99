"""Several allocators on one bus: who leads, who follows, and what becomes of what was observed."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from deciding import GRACE_MS, MS, joined, started, stopped
from serving import (
    FAST,
    MemoryCheckpoint,
    allocator,
    caught_up,
    effects,
    folded,
    for_a_while,
    ledger,
    publish,
    until,
)
from tabard.allocator.service import Allocator
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import BusUnavailable, Outgoing, Stream, subject
from tabard.events.envelope import Envelope
from tabard.events.ledger import EndpointBound, EpochClaimed
from tabard.events.observed import QuarantineRequested
from tabard.events.status import AllocatorStatus, NodeStatus
from tabard.ledger.messages import recorded, status
from tabard.simulator.loop import VirtualLoop

LIVE = dataclasses.replace(FAST, word_s=0.01, look_s=0.01, silence_s=0.3, spread_s=0.02)
"""A leader says thirty words in the time after which it would be taken for gone."""


class Wire(MemoryBus):
    """A connection of one allocator that can be cut, or its words alone."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.is_mute = False
        self.is_wordless = False
        """STATUS has no leader."""
        self.joined = asyncio.Event()
        self.joined.set()
        self.flows = asyncio.Event()
        """Cleared, no ledger event comes through, and all else does."""
        self.flows.set()

    def cut(self) -> None:
        self.joined.clear()

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        self._check()
        if (self.is_mute or self.is_wordless) and stream is Stream.STATUS:
            raise BusUnavailable("mute")
        return await super().publish(stream, messages)

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        self._check()
        return await super().append(messages, expected_last)

    async def last_sequence(self, stream: Stream) -> int:
        self._check()
        if self.is_wordless and stream is Stream.STATUS:
            raise BusUnavailable("no leader")
        return await super().last_sequence(stream)

    async def read(self, *args: Any) -> Any:
        self._check()
        return await super().read(*args)

    async def last_on_subject(self, *args: Any) -> Any:
        self._check()
        return await super().last_on_subject(*args)

    async def tail(self, stream: Stream, start: int) -> Any:
        async for messages in super().tail(stream, start):
            await self.joined.wait()
            if stream is Stream.LEDGER:
                await self.flows.wait()
            yield messages

    def _check(self) -> None:
        if not self.joined.is_set():
            raise BusUnavailable("cut off")


class Replica:
    """An allocator that runs, and its wire."""

    def __init__(self, store: MemoryStore, name: str, **more: Any) -> None:
        self.name = name
        self.wire = Wire(store)
        self.one: Allocator = allocator(self.wire, holder=f"{name}/1", **({"pace": LIVE} | more))
        self.task = asyncio.create_task(self.one.run(), name=name)

    async def becomes(self, role: str) -> None:
        async def has() -> bool:
            if self.task.done():
                await self.task
            return self.one.role == role

        await until(has)

    async def stop(self) -> None:
        self.one.stop()
        await self.task


@contextlib.asynccontextmanager
async def running(*every: Replica) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for each in every:
            each.wire.joined.set()
            each.wire.flows.set()
            each.one.stop()
        await asyncio.gather(*(each.task for each in every), return_exceptions=True)


async def pair(bus: MemoryBus, **more: Any) -> tuple[Replica, Replica]:
    """`a` leads, `b` follows."""
    a = Replica(bus.store, "a", **more)
    await a.becomes("leading")
    b = Replica(bus.store, "b", **more)
    await b.becomes("following")
    return a, b


async def epochs(bus: MemoryBus) -> list[tuple[int, str]]:
    said = await ledger(bus)
    claims = [event for event in said if isinstance(event, EpochClaimed)]
    return [(claim.epoch, claim.holder.split("/")[0]) for claim in claims]


async def bound(bus: MemoryBus) -> list[str]:
    return [event.uid for event in await effects(bus) if isinstance(event, EndpointBound)]


def words(bus: MemoryBus) -> dict[str, AllocatorStatus]:
    """The last word of each allocator."""
    stored = bus.store.logs[Stream.STATUS].messages
    said = [recorded(Stream.STATUS, message).event for message in stored]
    return {word.name: word for word in said if isinstance(word, AllocatorStatus)}


async def test_one_leads_while_the_others_follow_through_the_ledgers_end() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    c = Replica(bus.store, "c")
    async with running(a, b, c):
        await publish(bus, *[started(f"p{number}") for number in range(50)])
        await caught_up(bus, a.task)
        end = await bus.last_sequence(Stream.LEDGER)

        async def told() -> bool:
            said = words(bus)
            return len(said) == 3 and {word.sequence for word in said.values()} == {end}

        await until(told)
        roles = {name: word.role for name, word in words(bus).items()}
        assert roles == {"a": "leading", "b": "following", "c": "following"}
        assert {word.cursor for word in words(bus).values()} == {50}
        assert b.one.state == a.one.state == await folded(bus)
        assert await epochs(bus) == [(1, "a")]


async def test_of_two_candidates_at_once_one_leads() -> None:
    bus = MemoryBus()
    await publish(bus, started("a"))
    a, b = Replica(bus.store, "a"), Replica(bus.store, "b")
    async with running(a, b):

        async def settled() -> bool:
            return {a.one.role, b.one.role} == {"leading", "following"}

        await until(settled)
        await caught_up(bus)
        assert len(await epochs(bus)) == 1
        first, second = (a, b) if a.one.role == "leading" else (b, a)
        # Both see the lead free at the same moment again.
        c = Replica(bus.store, "c")
        async with running(c):
            await c.becomes("following")
            await first.stop()
            await until(lambda: _leads(second, c))
            await publish(bus, started("b"))
            await caught_up(bus)
            assert sorted([second.one.role, c.one.role]) == ["following", "leading"]
    assert [epoch for epoch, _ in await epochs(bus)] == [1, 2]
    assert await bound(bus) == ["a", "b"]


async def _leads(*replicas: Replica) -> bool:
    return any(replica.one.role == "leading" for replica in replicas)


async def test_a_leader_that_is_not_heard_is_replaced_finds_out_and_follows() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        await publish(bus, started("x"))
        await caught_up(bus, a.task)
        a.wire.is_mute = True  # and idle: nothing else tells of it either
        await b.becomes("leading")
        await a.becomes("following")
        assert a.one.figures.fenced == 1
        await publish(bus, started("y"))
        await caught_up(bus, b.task)
        a.wire.is_mute = False
        await b.stop()
        await a.becomes("leading")
        await publish(bus, started("z"))
        await caught_up(bus, a.task)
    assert await epochs(bus) == [(1, "a"), (2, "b"), (3, "a")]
    assert await bound(bus) == ["x", "y", "z"]


async def test_a_leader_that_appends_needs_no_words() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        a.wire.is_mute = True
        loop = asyncio.get_running_loop()
        end, number = loop.time() + 3 * LIVE.silence_s, 0
        while loop.time() < end:
            await publish(bus, started(f"p{number}"))
            await caught_up(bus, a.task)
            number += 1
        assert (a.one.role, b.one.role) == ("leading", "following")
    assert (await epochs(bus))[0] == (1, "a")


async def test_a_leader_that_is_cut_off_is_replaced_and_its_undecided_batch_is_nobodys() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        await publish(bus, started("x"))
        await caught_up(bus, a.task)
        # It has read this one, decided it, and cannot append it.
        a.wire.cut()
        await publish(bus, started("y"))
        await b.becomes("leading")
        await caught_up(bus, b.task)
        await publish(bus, stopped("y"), started("z"))
        await caught_up(bus, b.task)
        a.wire.joined.set()
        await a.becomes("following")

        async def equal() -> bool:
            return a.one.state == await folded(bus)

        await until(equal)
    assert await bound(bus) == ["x", "y", "z"]


async def test_an_outage_of_the_bus_makes_nobody_claim() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        for each in (a, b):
            each.wire.cut()
        await for_a_while(2 * LIVE.silence_s)
        for each in (a, b):
            each.wire.joined.set()
        await for_a_while(2 * LIVE.silence_s)
        assert (a.one.role, b.one.role) == ("leading", "following")
    assert (await epochs(bus))[0] == (1, "a")
    assert len(await epochs(bus)) == 1


async def test_words_that_the_bus_does_not_take_make_nobody_claim() -> None:
    """The bus server is lost that leads STATUS, and another leads LEDGER."""
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        for each in (a, b):
            each.wire.is_wordless = True
        await for_a_while(2 * LIVE.silence_s)
        for each in (a, b):
            each.wire.is_wordless = False
        await for_a_while(2 * LIVE.silence_s)
        assert (a.one.role, b.one.role) == ("leading", "following")
    assert await epochs(bus) == [(1, "a")]


async def test_a_follower_that_lags_claims_only_once_it_is_at_the_ledgers_end() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        await until(lambda: _synced(b))
        b.wire.flows.clear()
        await publish(bus, *[started(f"p{number}") for number in range(20)])
        await caught_up(bus, a.task)
        await a.stop()
        await for_a_while(2 * LIVE.silence_s)
        assert b.one.role == "following"
        assert b.one.standby is not None
        assert b.one.standby.lag
        b.wire.flows.set()
        await b.becomes("leading")
    assert await epochs(bus) == [(1, "a"), (2, "b")]


def test_a_follower_whose_turn_has_come_while_it_lags_waits_between_two_looks() -> None:
    """Time is virtual: whoever looked again at once would never let it go on."""
    loop = VirtualLoop()
    with loop.running():
        store = MemoryStore()
        slow = dataclasses.replace(LIVE, spread_s=1.0)
        a = Replica(store, "a", pace=slow)
        loop.advance(1)
        b, c = Replica(store, "b", pace=slow), Replica(store, "c", pace=slow)
        b.one._draw, c.one._draw = (lambda: 0.5), (lambda: 0.1)
        loop.advance(1)
        assert [each.one.role for each in (a, b, c)] == ["leading", "following", "following"]
        b.wire.flows.clear()
        a.one.stop()
        loop.advance(5)
        assert [each.one.role for each in (b, c)] == ["following", "leading"]
        b.wire.flows.set()
        loop.advance(1)
        assert b.one.state == c.one.state
        loop.abandon()


async def _synced(replica: Replica) -> bool:
    return replica.one.standby is not None and replica.one.standby.synced


async def test_the_next_of_its_name_leads_at_once_and_another_of_its_name_once_at_most() -> None:
    bus = MemoryBus()
    patient = dataclasses.replace(LIVE, silence_s=3_600.0)
    a = Replica(bus.store, "a", pace=patient)
    await a.becomes("leading")
    a.task.cancel()
    await asyncio.gather(a.task, return_exceptions=True)
    again = Replica(bus.store, "a", pace=patient)
    again.one._holder = "a/2"
    async with running(again):
        await again.becomes("leading")
        twin = Replica(bus.store, "a", pace=patient)
        twin.one._holder = "a/3"
        async with running(twin):
            await twin.becomes("leading")
            await again.becomes("following")
            await publish(bus, started("x"))
            await caught_up(bus)
            assert twin.one.role == "leading"
    assert await bound(bus) == ["x"]


async def test_what_time_decides_is_right_after_a_takeover() -> None:
    bus, now = MemoryBus(), 0
    a, b = await pair(bus, clock=lambda: now)
    async with running(a, b):
        await publish(bus, joined("n1"), started("x"))
        await caught_up(bus, a.task)
        await publish(bus, stopped("x"))
        await caught_up(bus, a.task)
        said = NodeStatus("n1", 1_000_000, "memory", 0, ())
        await bus.publish(Stream.STATUS, [status(said, Envelope(bytes(16), "n1", 0))])
        await a.stop()
        await b.becomes("leading")
        now = GRACE_MS * MS

        async def retired() -> bool:
            return 256 in (await folded(bus)).retired

        await until(retired)
        await asyncio.sleep(3 * LIVE.tick_s)
        # That word was about another ledger; the next one is what releases.
        assert await retired()
        end = await bus.last_sequence(Stream.LEDGER)
        c = Replica(bus.store, "c", clock=lambda: now)
        async with running(c):
            await c.becomes("following")
            await b.stop()
            await c.becomes("leading")
            assert await retired()
            said = NodeStatus("n1", end, "memory", 0, ())
            await bus.publish(Stream.STATUS, [status(said, Envelope(bytes(16), "n1", 0))])

            async def released() -> bool:
                return not await retired()

            await until(released)


async def test_all_stand_before_what_none_can_read_and_one_records_the_operators_word() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        end = await bus.last_sequence(Stream.LEDGER)
        await bus.append([Outgoing(subject(Stream.LEDGER, "pod.bound"), b"junk")], end)
        with structlog.testing.capture_logs() as logs:

            async def both_stand() -> bool:
                return [log["event"] for log in logs].count("allocator.stopped") == 2

            await until(both_stand)  # a too: it was fenced by whoever wrote that
            await publish(bus, QuarantineRequested("LEDGER", end + 1, "bit rot"), started("x"))
        await until(lambda: _leads(a, b))
        await caught_up(bus)
        stored = bus.store.logs[Stream.LEDGER].messages
        subjects = [message.subject for message in stored]
        assert sum("quarantine.recorded" in each for each in subjects) == 1
        assert (await folded(bus)).endpoints.keys() == {"x"}


class Blind(Wire):
    """Does not say where the ledger ends."""

    async def last_sequence(self, stream: Stream) -> int:
        if stream is Stream.LEDGER:
            raise BusUnavailable("blind")
        return await super().last_sequence(stream)


async def test_an_operators_word_that_the_ledger_does_not_have_is_in_no_checkpoint() -> None:
    bus, checkpoint = MemoryBus(), MemoryCheckpoint()
    first = Replica(bus.store, "a")
    async with running(first):
        await first.becomes("leading")
        await publish(bus, started("x"))
        await caught_up(bus)
    end = await bus.last_sequence(Stream.LEDGER)
    await bus.append([Outgoing(subject(Stream.LEDGER, "pod.bound"), b"junk")], end)
    await publish(bus, QuarantineRequested("LEDGER", end + 1, "bit rot"))
    one = allocator(Blind(bus.store), checkpoint, holder="b/1", pace=LIVE)
    task = asyncio.create_task(one.run())

    async def past_it() -> bool:
        return one.state.sequence == end + 1

    await until(past_it)
    one.stop()
    await task
    another = Replica(bus.store, "b", checkpoint=checkpoint)
    async with running(another):
        await another.becomes("leading")
        await caught_up(bus)
    assert (await folded(bus)).quarantined == {("LEDGER", end + 1): "bit rot"}


async def test_a_follower_keeps_a_checkpoint_of_its_own() -> None:
    bus, checkpoint = MemoryBus(), MemoryCheckpoint()
    a = Replica(bus.store, "a")
    async with running(a):
        await a.becomes("leading")
        b = Replica(bus.store, "b")
        b.task.cancel()
        b.one = allocator(b.wire, checkpoint, holder="b/1", pace=LIVE)
        b.task = asyncio.create_task(b.one.run())
        async with running(b):
            await publish(bus, started("x"))
            await caught_up(bus, a.task)
            await until(lambda: _synced(b))
    assert checkpoint.saves > 0
    loaded = await checkpoint.load()
    assert loaded is not None
    assert loaded.endpoints.keys() == {"x"}
