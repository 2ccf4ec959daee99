"""What is made of answers that are behind: of a replica, and of one who leads no more."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from bus.proxy import Proxy
from tabard.bus.jetstream import JetStreamBus, Options, connection, question, read, tail
from tabard.bus.port import BusUnavailable, Outgoing, Shortened, Stored, Stream

pytestmark = pytest.mark.nats

ONE = [Outgoing("tabard.ledger.x", b"")]


class Behind:
    """A replica that holds LEDGER through `last`, until it comes up after `answers` more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int, answers: int) -> None:
        self.last, self.answers = last, answers
        self._whole = read._direct
        monkeypatch.setattr(read, "_direct", self.answer)

    async def answer(self, *arguments: Any) -> list[Stored]:
        found = await self._whole(*arguments)
        self.answers -= 1
        return [each for each in found if each.sequence <= self.last or self.answers < 0]


async def test_a_tail_is_not_at_the_end_where_a_replica_lacks_what_it_gave_out(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "ASK_INTERVAL_S", 60)
    monkeypatch.setattr(tail.Cursor, "on_message", lambda *_: None)  # live messages are lost
    await nats_bus.append(ONE * 3, 0)
    async with aclosing(nats_bus.tail(Stream.LEDGER, 1)) as messages:
        assert len(await anext(messages)) == 3
        behind = Behind(monkeypatch, 2, 4)
        await nats_bus.append(ONE, 3)
        for listener in nats_bus._connection._listeners:
            listener.on_connect()
        got = await asyncio.wait_for(anext(messages), 10)
    assert [each.sequence for each in got] == [4]
    assert behind.answers < 0


async def test_a_server_whose_replica_stays_behind_is_left(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "BEHIND_S_MAX", 0.1)
    monkeypatch.setattr(read, "BEHIND_S_MAX", 0.1)
    async with Proxy(nats_url) as other:
        bus = await JetStreamBus.connect([nats_url, other.url], name="test")
        await bus.ensure_streams()
        await bus.append(ONE * 3, 0)
        behind = Behind(monkeypatch, 2, 1_000_000)
        reading = asyncio.create_task(bus.read(Stream.LEDGER, 3))
        while bus.link.connects < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        behind.answers = 0
        assert [each.sequence for each in await reading] == [3]
        async with aclosing(bus.tail(Stream.LEDGER, 2)) as messages:
            assert len(await anext(messages)) == 2
            behind.answers = 1_000_000
            waiting = asyncio.create_task(anext(messages))
            connects = bus.link.connects
            await bus.append(ONE, 3)  # given out at once, for it comes by itself
            assert [each.sequence for each in await waiting] == [4]
            waiting = asyncio.create_task(anext(messages))
            while bus.link.connects == connects:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            behind.answers = 0
            await bus.append(ONE, 4)
            assert [each.sequence for each in await waiting] == [5]
        await bus.close()


async def test_expired_messages_are_no_sign_that_a_replica_is_behind(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "ASK_INTERVAL_S", 0.05)
    message = [Outgoing("tabard.observed.x", b"")]
    link = nats_bus._connection
    async with aclosing(nats_bus.tail(Stream.OBSERVED, 1)) as messages:
        await nats_bus.publish(Stream.OBSERVED, message * 3)
        while (await anext(messages))[-1].sequence < 3:
            pass
        await link.request("$JS.API.STREAM.PURGE.OBSERVED", b"", "purging OBSERVED")
        assert await read.after(link, Stream.OBSERVED, 3, 10) == []
        await nats_bus.publish(Stream.OBSERVED, message)
        assert [each.sequence for each in await anext(messages)] == [4]


@pytest.mark.parametrize("answers", [3, 1_000_000])
async def test_a_leader_that_tells_of_less_than_is_known_must_insist(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    monkeypatch.setattr(read, "SHORTENED_S", 0.3)
    await nats_bus.append(ONE * 5, 0)
    whole = read.leader_info

    async def less(*arguments: Any) -> dict[str, Any]:
        nonlocal answers
        info = await whole(*arguments)
        answers -= 1
        if answers >= 0:
            info["state"] |= {"last_seq": 3, "messages": 3}
        return info

    monkeypatch.setattr(read, "leader_info", less)
    if answers == 3:
        assert await nats_bus.last_sequence(Stream.LEDGER) == 5
    else:
        with pytest.raises(Shortened, match=r"LEDGER at .* ends at 3, but 5 was stored"):
            await nats_bus.last_sequence(Stream.LEDGER)


async def test_a_live_message_from_before_what_was_given_out_has_the_leader_asked(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "SHORTENED_S", 0.1)
    monkeypatch.setattr(tail, "ASK_INTERVAL_S", 0.05)
    await nats_bus.append(ONE * 5, 0)
    whole, asked = read.leader_info, 0

    async def less(*arguments: Any) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        info = await whole(*arguments)
        info["state"] |= {"last_seq": 3, "messages": 3}
        return info

    monkeypatch.setattr(read, "leader_info", less)
    async with aclosing(nats_bus.tail(Stream.LEDGER, 1)) as messages:
        assert len(await anext(messages)) == 5
        # The replica that is asked holds all five: by itself it looks as if this were the end.
        waiting = asyncio.create_task(anext(messages))
        await asyncio.wait([waiting], timeout=0.3)
        assert not asked
        live = b"NATS/1.0\r\nNats-Subject: tabard.ledger.x\r\nNats-Sequence: 4\r\n\r\n"
        for listener in nats_bus._connection._listeners:
            listener.on_message(b"tabard.live.ledger.x", live, b"another")
        with pytest.raises(Shortened, match=r"ends at 3, but 5 was stored"):
            await waiting


async def test_what_is_said_without_a_leader_is_not_believed(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read.api

    async def leaderless(*arguments: Any) -> dict[str, Any]:
        return await whole(*arguments) | {"cluster": {"name": "test", "replicas": []}}

    monkeypatch.setattr(read, "api", leaderless)
    for call in (nats_bus.last_sequence(Stream.LEDGER), nats_bus.info(Stream.LEDGER)):
        with pytest.raises(BusUnavailable, match=r"LEDGER at .* has no leader"):
            await call
    with pytest.raises(BusUnavailable, match="no leader"):
        await nats_bus.ensure_streams()


async def test_a_question_that_nobody_answers_is_asked_again(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question, "ANSWER_TIMEOUT_S", 0.1)
    link = nats_bus._connection
    asked = 0

    def on_question(subject: bytes, headers: bytes, payload: bytes) -> None:
        nonlocal asked
        asked += 1

    listener = link.listen("test.question", on_question, lambda: None)
    waiting = asyncio.create_task(link.request("test.question", b"", "a test"))
    while asked < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    waiting.cancel()
    link.silence(listener)


async def test_a_server_through_which_no_leader_is_heard_is_left(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CUT_OFF_S", 0.1)
    async with Proxy(nats_url) as other:
        options = Options(request_timeout_s=0.2)
        bus = await JetStreamBus.connect([nats_url, other.url], name="test", options=options)
        while bus.link.connects < 3:
            with pytest.raises(BusUnavailable, match="makes them"):  # there are no streams
                await bus.publish(Stream.STATUS, [Outgoing("tabard.status.x", b"")])
        await bus.ensure_streams()
        await bus.publish(Stream.STATUS, [Outgoing("tabard.status.x", b"")])
        await bus.close()
