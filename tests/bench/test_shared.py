import asyncio
from contextlib import aclosing

from bench.shared import shared
from tabard.bus.memory import MemoryBus
from tabard.bus.port import READ_MESSAGES_MAX, Bus, Outgoing, Stored, Stream

SOME = READ_MESSAGES_MAX


def numbered(first: int, count: int) -> list[Outgoing]:
    return [Outgoing("tabard.ledger.x", b"%d" % n) for n in range(first, first + count)]


async def taken(bus: Bus, start: int, end: int) -> list[Stored]:
    found: list[Stored] = []
    async with aclosing(bus.tail(Stream.LEDGER, start)) as tail:
        async for messages in tail:
            assert 1 <= len(messages) <= READ_MESSAGES_MAX
            found += messages
            if found[-1].sequence == end:
                return found
    raise AssertionError("a tail never ends")


async def test_each_share_gets_the_ledger_from_where_it_asks_and_what_comes() -> None:
    bus = MemoryBus()
    await bus.append(numbered(1, SOME), 0)
    async with asyncio.timeout(10), shared(bus) as connect:
        shares = [await connect() for _ in range(3)]
        starts = (1, SOME // 2, SOME + 2)
        end = 2 * SOME + 1
        readers = [
            asyncio.create_task(taken(share, start, end))
            for share, start in zip(shares, starts, strict=True)
        ]
        await asyncio.sleep(0)
        await bus.append(numbered(SOME + 1, SOME), SOME)
        await bus.append(numbered(end, 1), end - 1)
        got = await asyncio.gather(*readers)
    whole = bus.store.logs[Stream.LEDGER].messages
    assert got == [whole[start - 1 :] for start in starts]


async def test_a_share_that_is_closed_leaves_the_bus_to_the_others() -> None:
    bus = MemoryBus()
    async with asyncio.timeout(10), shared(bus) as connect:
        one, other = await connect(), await connect()
        await one.close()
        await bus.append(numbered(1, 1), 0)
        assert await other.last_sequence(Stream.LEDGER) == 1
        assert len(await taken(other, 1, 1)) == 1
