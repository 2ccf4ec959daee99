"""Who takes snapshots, when, and what an allocator does with them."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from allocator.test_standby import LIVE, Replica, pair, running
from deciding import started
from ledgers import append, small
from serving import MemoryCheckpoint, caught_up, folded, for_a_while, publish, until
from tabard.allocator.snapshots import Snapshots
from tabard.allocator.words import Words
from tabard.bus.memory import MemoryBus
from tabard.bus.port import BusUnavailable, ObjectInfo, Stream
from tabard.events.status import Role
from tabard.ledger import archive
from tabard.ledger.archive import Frozen
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State

SOON = dataclasses.replace(LIVE, snapshot_events=20, snapshot_look_s=0.1)


async def busy(bus: MemoryBus, first: int, count: int = 20) -> None:
    await publish(bus, *[started(f"p{first + number}") for number in range(count)])
    await caught_up(bus)


async def makers(bus: MemoryBus) -> dict[int, str]:
    return {entry.sequence: entry.by for entry in await archive.listed(bus)}


async def stored(bus: MemoryBus, count: int = 1) -> None:
    async def there() -> bool:
        return len(await archive.listed(bus)) >= count

    await until(there)


async def test_a_follower_takes_them_and_keeps_the_newest_three() -> None:
    bus = MemoryBus()
    a, b = await pair(bus, pace=SOON)
    async with running(a, b):
        for number in range(6):
            newest = max(await makers(bus), default=0)
            await busy(bus, 20 * number)

            async def newer(than: int = newest) -> bool:
                return max(await makers(bus), default=0) > than

            await until(newer)

        async def pruned() -> bool:
            return len(await makers(bus)) == archive.NEWEST_KEPT

        await until(pruned)
        assert set((await makers(bus)).values()) == {"b/1"}
        assert (a.one.snapshots.taken, b.one.snapshots.taken) == (0, 6)
        for entry in await archive.listed(bus):
            whole = await catch_up(bus, State(), entry.sequence, observe=lambda record: None)
            assert await archive.load(bus, entry) == whole


async def test_without_a_follower_the_leader_takes_them_of_what_the_ledger_says() -> None:
    bus = MemoryBus()
    a = Replica(bus.store, "a", pace=SOON)
    async with running(a):
        await a.becomes("leading")
        publishing = asyncio.create_task(publish_on(bus))
        await stored(bus, 2)
        publishing.cancel()
        assert set((await makers(bus)).values()) == {"a/1"}
        for entry in await archive.listed(bus):
            whole = await catch_up(bus, State(), entry.sequence, observe=lambda record: None)
            assert await archive.load(bus, entry) == whole


async def publish_on(bus: MemoryBus) -> None:
    number = 0
    while True:
        await publish(bus, started(f"q{number}"))
        number += 1


async def test_too_few_events_are_no_reason_until_time_has_gone_by() -> None:
    bus = MemoryBus()
    seldom = dataclasses.replace(SOON, snapshot_events=10_000)
    a = Replica(bus.store, "a", pace=seldom)
    async with running(a):
        await a.becomes("leading")
        await busy(bus, 0)
        await for_a_while(0.8)
        assert await makers(bus) == {}
        hour = 3_600 * 10**9
        clock = bus.store.clock
        bus.store.clock = lambda: clock() + hour
        await stored(bus)
        await for_a_while(0.3)
        assert len(await makers(bus)) == 1, "nothing happened since"


async def test_who_takes_the_lead_while_it_looks_stores_nothing_of_a_state_that_runs_ahead() -> (
    None
):
    bus, looks = MemoryBus(), 0
    await append(bus, *small())
    state = await folded(bus)

    def standing() -> tuple[Role, State]:
        nonlocal looks
        looks += 1
        return ("following", state) if looks == 1 else ("leading", State())

    pace = dataclasses.replace(SOON, snapshot_events=1, snapshot_look_s=0.01)
    watch = asyncio.create_task(Snapshots("a/1", Words(), pace, standing).run(bus))

    async def looked_again() -> bool:
        return looks >= 3

    await until(looked_again)
    watch.cancel()
    assert await bus.objects.listed() == []


async def test_a_snapshot_that_could_not_be_stored_is_tried_again_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = MemoryBus()
    a = Replica(bus.store, "a", pace=SOON)
    objects = type(bus.objects)
    put, tidy, refused, tidied = objects.put, objects.tidy, 0, 0

    async def refuse(
        self: Any, name: str, content: bytes, metadata: Mapping[str, str]
    ) -> ObjectInfo:
        nonlocal refused
        if tidied < 2:
            refused += 1
            raise BusUnavailable("no room")
        return await put(self, name, content, metadata)

    async def tidies(self: Any, age_s: float) -> int:
        nonlocal tidied
        tidied += 1
        return await tidy(self, age_s)

    monkeypatch.setattr(objects, "put", refuse)
    monkeypatch.setattr(objects, "tidy", tidies)
    async with running(a):
        await a.becomes("leading")
        await busy(bus, 0)

        async def failed() -> bool:
            return a.one.snapshots.failure == "no room"

        await until(failed)
        await stored(bus)
        assert refused == 2


async def test_an_allocator_without_a_checkpoint_begins_at_a_snapshot_of_a_trimmed_ledger() -> None:
    bus = MemoryBus()
    first = Replica(bus.store, "a")
    async with running(first):
        await first.becomes("leading")
        await busy(bus, 0)
    state = await folded(bus)
    await archive.store(bus, Frozen.of(state), "test")
    checkpoint = MemoryCheckpoint()
    await checkpoint.save(await catch_up(bus, State(), 5))
    await bus.trim(state.sequence)
    before = {f"p{number}" for number in range(20)}
    for saved in (MemoryCheckpoint(), checkpoint):  # none, and one from before the trim
        another = Replica(bus.store, "a", checkpoint=saved)
        async with running(another):
            await another.becomes("leading")
            assert before <= another.one.state.endpoints.keys()
            await publish(bus, started("more"))
            await caught_up(bus, another.task)
    assert "more" in (await catch_up(bus, State())).endpoints


async def test_a_follower_that_was_away_while_the_ledger_was_trimmed_follows_again() -> None:
    bus = MemoryBus()
    a, b = await pair(bus)
    async with running(a, b):
        b.wire.flows.clear()
        await busy(bus, 0)
        await archive.store(bus, Frozen.of(await folded(bus)), "test")
        await busy(bus, 20)
        # The messages that it has under way are lost with its connection.
        await bus.trim(await bus.last_sequence(Stream.LEDGER) - 1)
        await archive.store(bus, Frozen.of(a.one.state), "test")

        async def caught() -> bool:
            return b.one.state.sequence == a.one.state.sequence

        b.wire.flows.set()
        await until(caught)
        assert b.one.state == a.one.state
