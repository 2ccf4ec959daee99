"""Streams that three real servers hold: what becomes of them when servers are lost, stand still, or
come back with less than they had."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from servers import Servers, leader_of, made, until
from tabard.allocator.writer import append
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.jetstream.session import Session
from tabard.bus.port import BusUnavailable, Outgoing, Shortened, Stored, Stream

pytestmark = pytest.mark.nats

STEP_DOWN = "$JS.API.STREAM.LEADER.STEPDOWN.LEDGER"


def ledger(mark: str, count: int = 20) -> list[Outgoing]:
    return [Outgoing("tabard.ledger.x", f"{mark}/{n}".encode()) for n in range(count)]


async def again(attempt: int) -> None:
    """How the allocator's writer waits between its tries."""
    await asyncio.sleep(0.05)


async def grow(bus: JetStreamBus, last: int, mark: str) -> int:
    """Append as the allocator does; the ledger's last sequence then."""
    messages = ledger(mark)
    await append(bus, messages, last, again)
    return last + len(messages)


async def end_of(bus: JetStreamBus) -> int:
    """Where the ledger ends, once it has a leader: an election may take longer than an answer."""
    while True:
        try:
            return await bus.last_sequence(Stream.LEDGER)
        except BusUnavailable:
            await again(1)


async def everything(bus: JetStreamBus, start: int, last: int) -> list[Stored]:
    got: list[Stored] = []
    while start + len(got) <= last:
        got += await bus.read(Stream.LEDGER, start + len(got))
    return got


async def test_a_leader_that_steps_down_amid_batches_costs_none_and_doubles_none(
    bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = last = await end_of(bus)
    send, sent = Session.send, 0

    def send_and_depose(session: Session, *arguments: Any) -> int:
        nonlocal sent
        sent += 1
        if sent in (8, 53, 101):  # amid a batch of 20
            session.client.send(f"PUB {STEP_DOWN} 0\r\n\r\n".encode())
        return send(session, *arguments)

    monkeypatch.setattr(Session, "send", send_and_depose)
    for n in range(8):
        last = await grow(bus, last, f"batch-{n}")
        # The process that wrote it reads it, whoever answers.
        assert await end_of(bus) == last
    monkeypatch.undo()
    payloads = [stored.payload for stored in await everything(bus, first + 1, last)]
    assert payloads == [m.payload for n in range(8) for m in ledger(f"batch-{n}")]


async def test_a_server_that_comes_back_with_an_empty_or_an_old_store_catches_up_and_leads_nothing(
    three: Servers, bus: JetStreamBus, tmp_path: Path
) -> None:
    first = last = await grow(bus, await bus.last_sequence(Stream.LEDGER), "before")
    leader = await leader_of(bus)
    damaged, _ = three.others(leader)
    await three.stand([damaged], last)

    await three.kill(damaged)
    three.copy(damaged, tmp_path / "old")
    three.empty(damaged)
    last = await grow(bus, last, "one-is-down")
    await three.start_again(damaged)
    await three.stand([damaged], last)

    await three.kill(damaged)
    three.put_back(damaged, tmp_path / "old")
    last = await grow(bus, last, "down-again")
    await three.start_again(damaged)
    # At once, so that it has to take part in an election with what it has.
    await three.kill(leader)
    last = await grow(bus, last, "another-leads")
    assert await leader_of(bus) == three.others(leader, damaged)[0]
    await three.start_again(leader)
    await three.stand([*three.by_name], last)
    marks = ("one-is-down", "down-again", "another-leads")
    payloads = [stored.payload for stored in await everything(bus, first + 1, last)]
    assert payloads == [m.payload for mark in marks for m in ledger(mark)]


async def test_a_ledger_that_became_shorter_is_noticed_by_whoever_knew_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two losses at once: one server comes back with an old store, and the one that had what was
    acknowledged since is down. The two that are left elect a leader: JetStream cannot know."""
    monkeypatch.setattr("tabard.bus.jetstream.read.SHORTENED_S", 0.5)
    servers = Servers(tmp_path / "servers")
    await servers.start()
    quick = Options(request_timeout_s=2.0)
    writer = await JetStreamBus.connect(servers.urls, name="writer", options=quick)
    reader = await JetStreamBus.connect(servers.urls, name="reader", options=quick)
    try:
        await made(writer)
        old = await grow(writer, 0, "old")
        leader = await leader_of(writer)
        returns, lags = servers.others(leader)
        await servers.stand([*servers.by_name], old)
        await servers.kill(returns)
        servers.copy(returns, tmp_path / "old")
        await servers.start_again(returns)
        await servers.stand([returns], old)
        await servers.kill(lags)
        last = await grow(writer, old, "acknowledged")
        async with aclosing(reader.tail(Stream.LEDGER, 1)) as tail:
            while (await anext(tail))[-1].sequence < last:
                pass
            await servers.kill(leader)
            # The one of three that is left answers, but it must not be believed.
            with pytest.raises(BusUnavailable, match="leader"):
                await writer.last_sequence(Stream.LEDGER)
            await servers.kill(returns)
            servers.put_back(returns, tmp_path / "old")
            await servers.start_again(returns, lags)
            lost = rf"LEDGER at .* ends at {old}, but {last} was stored"
            with pytest.raises(Shortened, match=lost):
                await anext(tail)
        with pytest.raises(Shortened, match=lost):
            await grow(writer, last, "after")
        with pytest.raises(Shortened, match=lost):
            await reader.read(Stream.LEDGER, last)
    finally:
        await writer.close()
        await reader.close()
        await servers.stop()


async def test_a_client_of_a_server_that_dies_or_stands_still_goes_to_the_next(
    three: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabard.bus.jetstream.connection.PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr("tabard.bus.jetstream.session.PROBE_TIMEOUT_S", 0.1)
    bus = await JetStreamBus.connect(three.urls, name="test")
    try:
        await made(bus)
        session = await bus._connection.session()
        port = session.client.connected_url.port
        (name,) = [n for n, s in three.by_name.items() if s.url.endswith(f":{port}")]
        await three.kill(name)
        await until(lambda: bus.link.connects == 2)
        assert (await bus._connection.session()).client.connected_url.port != port
        assert await bus.read(Stream.STATUS, 1) == []
        await three.start_again(name)
    finally:
        await bus.close()
