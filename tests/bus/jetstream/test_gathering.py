import asyncio
from itertools import chain
from typing import Any

import pytest

from bus.proxy import Proxy
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.jetstream import gathering as module
from tabard.bus.jetstream.publish import WINDOW_MESSAGES_MAX, Publication
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stored, Stream

pytestmark = pytest.mark.nats


def observed(number: int, count: int = 1, size: int = 0) -> list[Outgoing]:
    return [
        Outgoing("tabard.observed.x", f"{number}/{n}".encode().ljust(size), f"{number}/{n}")
        for n in range(count)
    ]


async def everything(bus: JetStreamBus) -> list[Stored]:
    got: list[Stored] = []
    while found := await bus.read(Stream.OBSERVED, got[-1].sequence + 1 if got else 1):
        got += found
    return got


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each publication had."""
    found: list[int] = []

    class Counted(Publication):
        def __init__(self, connection: Any, stream: Any, messages: Any) -> None:
            found.append(len(messages))
            super().__init__(connection, stream, messages)

    monkeypatch.setattr(module, "Publication", Counted)
    return found


async def publish_all(bus: JetStreamBus, lists: list[list[Outgoing]]) -> list[Any]:
    calls = (bus.publish(Stream.OBSERVED, messages) for messages in lists)
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_what_comes_while_a_publish_is_under_way_goes_together(
    nats_bus: JetStreamBus, sizes: list[int]
) -> None:
    lists = [observed(number, 1 + number % 3) for number in range(60)]
    given = await publish_all(nats_bus, lists)
    assert sizes == [1, sum(map(len, lists)) - 1]
    stored = {m.sequence: m.payload for m in await everything(nats_bus)}
    assert len(stored) == sum(map(len, lists))
    for messages, sequences in zip(lists, given, strict=True):
        assert [stored[sequence] for sequence in sequences] == [m.payload for m in messages]


async def test_no_more_than_a_window_goes_together(
    nats_bus: JetStreamBus, sizes: list[int]
) -> None:
    half = WINDOW_MESSAGES_MAX // 2
    lists = [observed(number, count) for number, count in enumerate((1, half, half, 1, 2 * half))]
    given = await publish_all(nats_bus, lists)
    assert sizes == [1, 2 * half, 1, 2 * half]
    assert sorted(chain(*given)) == list(range(1, 4 * half + 3))


async def test_what_is_stored_already_keeps_its_sequence(
    nats_bus: JetStreamBus, sizes: list[int]
) -> None:
    assert await nats_bus.publish(Stream.OBSERVED, observed(20)) == [1]
    given = await publish_all(nats_bus, [observed(number) for number in range(40)])
    assert given[20] == [1]
    assert sorted(chain(*given)) == list(range(1, 41))
    assert sizes == [1, 1, 39]


async def test_a_refusal_reaches_only_the_caller_whose_message_it_is(
    nats_bus: JetStreamBus,
) -> None:
    await nats_bus._connection.request(
        "$JS.API.STREAM.UPDATE.OBSERVED",
        b'{"name":"OBSERVED","subjects":["tabard.observed.>"],"max_age":604800000000000,'
        b'"allow_atomic":true,"allow_direct":true,"max_msg_size":1000}',
        "test",
    )
    lists = [observed(number, size=2_000 if number == 20 else 0) for number in range(40)]
    given = await publish_all(nats_bus, lists)
    refused = given.pop(20)
    assert isinstance(refused, BusError)
    assert "maximum" in str(refused)
    assert sorted(chain(*given)) == list(range(1, 40))


async def test_messages_without_ids_go_by_themselves(
    nats_bus: JetStreamBus, sizes: list[int]
) -> None:
    lists = [[Outgoing("tabard.observed.x", b"x")] for _ in range(3)]
    given = await publish_all(nats_bus, lists)
    assert sizes == [1, 1, 1]
    assert sorted(chain(*given)) == [1, 2, 3]


@pytest.mark.parametrize("cancelled", [0, 1, 20])
async def test_a_cancelled_caller_takes_nobody_else_along(
    nats_bus: JetStreamBus, cancelled: int
) -> None:
    calls = [
        asyncio.create_task(nats_bus.publish(Stream.OBSERVED, observed(number)))
        for number in range(40)
    ]
    await asyncio.sleep(0)  # the first is under way, and the others wait for it
    calls[cancelled].cancel()
    given = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(given.pop(cancelled), asyncio.CancelledError)
    stored = [m.payload.decode() for m in await everything(nats_bus)]
    assert len(set(stored)) == len(stored)
    assert set(stored) >= {f"{number}/0" for number in range(40) if number != cancelled}
    assert len(set(map(tuple, given))) == 39
    if cancelled:
        assert f"{cancelled}/0" not in stored


async def test_whoever_went_with_the_one_under_way_when_it_was_cancelled_is_stored_once(
    nats_bus: JetStreamBus,
) -> None:
    first = asyncio.create_task(nats_bus.publish(Stream.OBSERVED, observed(0)))
    await asyncio.sleep(0)
    rest = [
        asyncio.create_task(nats_bus.publish(Stream.OBSERVED, observed(number)))
        for number in range(1, 40)
    ]
    await first
    await asyncio.sleep(0)  # now the second has taken all others with it
    rest[0].cancel()
    given = await asyncio.gather(*rest, return_exceptions=True)
    assert isinstance(given[0], asyncio.CancelledError)
    stored = [m.payload.decode() for m in await everything(nats_bus)]
    assert len(set(stored)) == len(stored)
    assert set(stored) >= {f"{number}/0" for number in range(40) if number != 1}


async def test_without_an_answer_all_are_told_in_time_and_publish_again(nats_url: str) -> None:
    async with Proxy(nats_url) as proxy:
        options = Options(request_timeout_s=0.3)
        bus = await JetStreamBus.connect(proxy.url, name="test", options=options)
        await bus.ensure_streams()
        lists = [observed(number) for number in range(40)]
        proxy.deaf = True
        given = await publish_all(bus, lists)
        assert all(isinstance(each, BusUnavailable) for each in given)
        proxy.deaf = False
        proxy.cut()
        given = await publish_all(bus, lists)
        assert sorted(chain(*given)) == list(range(1, 41))
        await bus.close()
