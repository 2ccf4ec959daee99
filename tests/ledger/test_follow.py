import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from tabard.bus.memory import MemoryBus
from tabard.bus.port import READ_MESSAGES_MAX, Outgoing, Stored, Stream
from tabard.events.chain import link
from tabard.events.envelope import Envelope
from tabard.events.ledger import EventQuarantined, LedgerEvent, NodeAdded
from tabard.ledger.follow import RECORDS_MAX, catch_up, follow
from tabard.ledger.messages import sealed
from tabard.ledger.reader import Stopped
from tabard.ledger.start import TrimmedAway
from tabard.ledger.state import State


class Writer:
    """Appends to a ledger in memory; a broken event in it is what `junk` writes."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.state = State()
        self.chain = self.state.chain
        self.last = 0

    async def write(self, *every: LedgerEvent) -> None:
        batch = [(event, Envelope(bytes(16), "k", 0)) for event in every]
        messages, self.chain = sealed(self.chain, batch)
        self.last = await self.bus.append(messages, self.last)

    async def nodes(self, first: int, last: int) -> None:
        await self.write(*(NodeAdded(f"n{n}", (), ()) for n in range(first, last + 1)))

    async def junk(self) -> None:
        self.last = await self.bus.append([Outgoing("tabard.ledger.node.added", b"?")], self.last)


@pytest.fixture
async def writer() -> Writer:
    writer = Writer()
    await writer.bus.ensure_streams()
    return writer


async def test_catching_up_takes_all_or_so_far(writer: Writer) -> None:
    await writer.nodes(1, 5)
    assert (await catch_up(writer.bus, State())).sequence == 5
    state = await catch_up(writer.bus, State(), through=3)
    assert list(state.nodes) == ["n1", "n2", "n3"]
    assert (await catch_up(writer.bus, state)).sequence == 5
    assert (await catch_up(writer.bus, state, through=99)).sequence == 5


async def test_more_than_one_read_is_caught_up(writer: Writer) -> None:
    for first in range(1, 2_501, 500):
        await writer.nodes(first, first + 499)
    assert (await catch_up(writer.bus, State())).sequence == 2_500
    assert (await catch_up(writer.bus, State(), through=1_001)).sequence == 1_001


async def test_a_long_ledger_is_given_in_pieces_each_folded(writer: Writer) -> None:
    await writer.nodes(1, 2 * RECORDS_MAX + 1)
    state, sizes = State(), []
    async with asyncio.timeout(10), aclosing(follow(writer.bus, state)) as batches:
        async for records in batches:
            sizes.append(len(records))
            assert state.sequence == records[-1].sequence == len(state.nodes)
            if state.sequence == writer.last:
                break
    assert sizes == [RECORDS_MAX, RECORDS_MAX, 1]


async def test_it_stops_before_a_bad_event_until_the_ledger_says_to_go_on(writer: Writer) -> None:
    await writer.nodes(1, 2)
    await writer.junk()
    await writer.nodes(3, 3)
    state = State()
    with pytest.raises(Stopped, match="stopped before LEDGER/3"):
        await catch_up(writer.bus, state)
    assert state.sequence == 2
    await writer.write(EventQuarantined("LEDGER", 3, "reason"))
    await catch_up(writer.bus, state)
    assert (state.sequence, list(state.nodes)) == (5, ["n1", "n2", "n3"])
    assert state.quarantined == {("LEDGER", 3): "reason"}
    # A reader that starts anew, and one that stops in between, come to the same.
    assert await catch_up(writer.bus, State()) == state
    between = await catch_up(writer.bus, State(), through=4)
    assert await catch_up(writer.bus, between) == state


async def test_a_quarantine_of_another_event_does_not_help(writer: Writer) -> None:
    await writer.junk()
    await writer.write(
        EventQuarantined("LEDGER", 2, "another"), EventQuarantined("OBSERVED", 1, "other stream")
    )
    with pytest.raises(Stopped, match="LEDGER/1"):
        await catch_up(writer.bus, State())


async def test_following_yields_what_was_folded_and_goes_on(writer: Writer) -> None:
    await writer.nodes(1, 2)
    state = State()
    seen: list[int] = []
    async with asyncio.timeout(10), aclosing(follow(writer.bus, state)) as batches:
        async for records in batches:
            seen += [record.sequence for record in records]
            assert state.sequence == seen[-1]
            if seen[-1] == 2:
                await writer.nodes(3, 4)
            if seen[-1] == 4:
                break
    assert seen == [1, 2, 3, 4]


async def test_following_gives_all_before_a_bad_event_and_stops_there(writer: Writer) -> None:
    await writer.nodes(1, 2)
    await writer.junk()
    state = State()
    async with asyncio.timeout(10), aclosing(follow(writer.bus, state)) as batches:
        records = await anext(batches)
        assert [record.sequence for record in records] == [1, 2]
        with pytest.raises(Stopped, match="LEDGER/3"):
            await anext(batches)
    assert state.sequence == 2


class TwoReplicas(MemoryBus):
    """Answers reads in turn from its own log, and from one in which an event is another."""

    def __init__(self, writer: Writer, changed: int) -> None:
        super().__init__(writer.bus.store)
        self.reads = 0
        self._changed = changed

    async def read(
        self, stream: Stream, start: int, limit: int = READ_MESSAGES_MAX
    ) -> list[Stored]:
        found = await super().read(stream, start, limit)
        self.reads += 1
        if self.reads % 2 == 0:
            return found
        return [
            replace(each, payload=each.payload[:-20] + b"?" + each.payload[-19:])
            if each.sequence == self._changed
            else each
            for each in found
        ]


async def test_an_event_that_does_not_follow_is_asked_for_again(writer: Writer) -> None:
    await writer.nodes(1, 9)
    bus = TwoReplicas(writer, changed=5)
    state = await catch_up(bus, State())
    assert state.sequence == 9
    assert list(state.nodes) == [f"n{n}" for n in range(1, 10)]
    assert bus.reads == 2


async def test_a_trim_while_another_replica_is_asked_is_told_from_a_hole(writer: Writer) -> None:
    class Trimming(TwoReplicas):
        async def read(self, stream, start, limit=READ_MESSAGES_MAX):  # type: ignore[no-untyped-def]
            if self.reads:
                await self.trim(start + 1)
            return await super().read(stream, start, limit)

    await writer.nodes(1, 9)
    state = State()
    with pytest.raises(TrimmedAway, match="begins at 6: 5 was trimmed away"):
        await catch_up(Trimming(writer, changed=5), state)
    assert state.sequence == 4


async def test_an_event_that_follows_in_no_replica_stops_the_reader_and_says_where_to_look(
    writer: Writer,
) -> None:
    await writer.nodes(1, 4)
    writer.chain = bytes(16)
    await writer.nodes(5, 6)
    state = State()
    with pytest.raises(Stopped, match="`tabard bus check` says whether") as stopped:
        await catch_up(writer.bus, state)
    assert stopped.value.unchained
    assert stopped.value.sequence == 5
    assert state.sequence == 4


async def test_an_event_that_follows_and_cannot_be_read_is_not_asked_for_again(
    writer: Writer,
) -> None:
    await writer.nodes(1, 4)
    payload, _ = link(writer.chain, b"\x98" + b"\xc0" * 8)
    await writer.bus.append([Outgoing("tabard.ledger.node.added", payload)], 4)
    bus = TwoReplicas(writer, changed=0)
    with pytest.raises(Stopped) as stopped:
        await catch_up(bus, State())
    assert not stopped.value.unchained
    assert "bus check" not in str(stopped.value)
    assert bus.reads == 1
