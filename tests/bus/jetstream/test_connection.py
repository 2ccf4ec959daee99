import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from bus.proxy import Proxy
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.jetstream.connection import Connection
from tabard.bus.port import BusError, BusUnavailable, Outgoing, Stream
from tabard.bus.server import EmbeddedServer
from tabard.process.bus import lack

pytestmark = pytest.mark.nats

QUICK = Options(connect_timeout_s=0.5, request_timeout_s=0.5)


@pytest.fixture
async def proxy(nats_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(nats_url) as proxy:
        yield proxy


async def test_no_server_is_reported_in_time_with_its_address() -> None:
    start = time.monotonic()
    with pytest.raises(BusUnavailable, match=r"127.0.0.1:1 to connect within 0.5 s.*failed"):
        await JetStreamBus.connect("nats://user:secret@127.0.0.1:1", name="test", options=QUICK)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("scheme", ["nats://", ""])
async def test_a_password_shows_in_no_message(scheme: str) -> None:
    url = f"{scheme}user:secret@127.0.0.1:1"
    with pytest.raises(BusUnavailable) as caught:
        await JetStreamBus.connect(url, name="test", options=QUICK)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_second_url_serves_when_the_first_is_down(nats_url: str) -> None:
    bus = await JetStreamBus.connect(["nats://127.0.0.1:1", nats_url], name="test")
    await bus.ensure_streams()
    await bus.close()


async def test_a_missing_stream_is_named(nats_url: str) -> None:
    bus = await JetStreamBus.connect(nats_url, name="test", options=QUICK)
    try:
        with pytest.raises(BusError, match=r"LEDGER does not exist.*tabard.server.streams"):
            await bus.last_sequence(Stream.LEDGER)
        with pytest.raises(BusUnavailable, match="makes them"):
            await bus.read(Stream.LEDGER, 1)
        with pytest.raises(BusUnavailable, match="makes them"):
            await bus.append([Outgoing("tabard.ledger.x", b"")], 0)
        with pytest.raises(BusUnavailable, match="makes them"):
            await bus.publish(Stream.STATUS, [Outgoing("tabard.status.x", b"")])
    finally:
        await bus.close()


async def test_a_stopped_server_makes_every_call_unavailable_in_time(
    own_nats_server: EmbeddedServer,
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test", options=QUICK)
    await bus.ensure_streams()
    await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"")])
    os.kill(own_nats_server.pid, signal.SIGSTOP)
    # Its parent, this process, is told once the last of its threads has stopped. Until then it may
    # still answer.
    await asyncio.to_thread(os.waitid, os.P_PID, own_nats_server.pid, os.WSTOPPED)
    try:
        many = [Outgoing("tabard.observed.x", b"x" * 100_000)] * 200
        for call in (
            bus.last_sequence(Stream.LEDGER),
            bus.read(Stream.OBSERVED, 1),
            bus.append([Outgoing("tabard.ledger.x", b"")], 0),
            bus.publish(Stream.OBSERVED, many),
        ):
            start = time.monotonic()
            with pytest.raises(BusUnavailable, match=own_nats_server.url.removeprefix("nats://")):
                await call
            assert time.monotonic() - start < 3
    finally:
        os.kill(own_nats_server.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await bus.first_sequence(Stream.OBSERVED) == 1
                break
            except BusUnavailable:
                pass
    await bus.close()


async def test_a_zombie_connection_is_replaced_and_its_question_asked_again(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabard.bus.jetstream.connection.PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr("tabard.bus.jetstream.session.PROBE_TIMEOUT_S", 0.1)
    bus = await JetStreamBus.connect(proxy.url, name="test")
    await bus.ensure_streams()
    proxy.deaf = True
    asked = asyncio.create_task(bus.last_sequence(Stream.LEDGER))
    # The link stays up and silent: only the probes can find out.
    await asyncio.wait_for(proxy.reconnected.wait(), 4)
    proxy.deaf = False
    assert await asked == 0
    await bus.close()


async def test_a_handler_that_raises_leaves_the_connection_whole(nats_bus: JetStreamBus) -> None:
    connection: Connection = nats_bus._connection
    session = await connection.session()
    raised = asyncio.Event()

    def fail(subject: bytes, headers: bytes, payload: bytes) -> None:
        raised.set()
        raise RuntimeError("a defect in a handler")

    listener = connection.listen("tabard.live.observed.>", fail, lambda: None)
    await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"")])
    await asyncio.wait_for(raised.wait(), 5)
    assert await nats_bus.last_sequence(Stream.OBSERVED) == 1
    assert await connection.session() is session
    connection.silence(listener)


async def test_a_client_callback_that_raises_costs_one_reconnection_and_no_message(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await nats_bus._connection.session()

    async def fail(error: Exception) -> None:
        raise RuntimeError("a defect in a callback")

    async with aclosing(nats_bus.tail(Stream.OBSERVED, 1)) as tail:
        await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"1")])
        assert [m.payload for m in await anext(tail)] == [b"1"]
        monkeypatch.setattr(session.client, "_error_cb", fail)
        # A permission error is what makes nats-py call it from within its read loop.
        assert session.client._ps is not None
        session.client._ps.buf.extend(b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n")
        await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"2", id="2")])
        assert [m.payload for m in await asyncio.wait_for(anext(tail), 10)] == [b"2"]
    assert await nats_bus._connection.session() is not session


async def test_a_broken_link_is_mended_at_once(proxy: Proxy) -> None:
    bus = await JetStreamBus.connect(proxy.url, name="test")
    await bus.ensure_streams()
    async with aclosing(bus.tail(Stream.OBSERVED, 1)) as tail:
        for n in range(3):
            await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"%d" % n)])
            assert [m.payload for m in await asyncio.wait_for(anext(tail), 5)] == [b"%d" % n]
            proxy.cut()
    assert proxy.connections >= 3
    await bus.close()


async def test_a_bus_closes_at_any_moment_of_a_reconnection(proxy: Proxy) -> None:
    # nats-py swallows a cancellation that hits it while it connects or closes.
    for delay_ms in range(20):
        bus = await JetStreamBus.connect(proxy.url, name="test")
        proxy.cut()
        await asyncio.sleep(delay_ms / 2000)
        await asyncio.wait_for(bus.close(), 5)


async def test_closing_leaves_no_task_and_no_link(proxy: Proxy) -> None:
    before = asyncio.all_tasks()
    async with Proxy(proxy.url) as own:
        bus = await JetStreamBus.connect(own.url, name="test")
        await bus.ensure_streams()
        await bus.close()
        await asyncio.sleep(0.05)
        left = {t for t in asyncio.all_tasks() - before if "bus" in t.get_name()}
        assert not left
        assert not own._links


async def test_the_link_says_whether_the_bus_is_there_and_how_often_it_came(
    own_nats_server: EmbeddedServer,
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")

    async def becomes(connected: bool) -> None:
        async with asyncio.timeout(20):
            while bus.link.connected is not connected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    try:
        assert (bus.link.connected, bus.link.connects, bus.link.failure) == (True, 1, "")
        await own_nats_server.stop()
        await becomes(False)
        assert bus.link.failure.startswith(own_nats_server.url.removeprefix("nats://"))
        await own_nats_server.start()
        await becomes(True)
        assert (bus.link.connects, bus.link.failure) == (2, "")
    finally:
        await bus.close()
    assert not bus.link.connected


async def test_a_bus_without_a_streams_leader_is_none_to_work_with_until_one_answers(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabard.process.bus.UNHEARD_S_MAX", 0.0)
    bus = await JetStreamBus.connect(nats_url, name="test", options=QUICK)
    try:
        assert lack(bus) == ""
        # Without streams nobody answers for them, as without a leader.
        for _ in range(2):
            with pytest.raises(BusUnavailable):
                await bus.append([Outgoing("tabard.ledger.x", b"")], 0)
        assert bus.link.connected
        assert "no stream has had a leader" in lack(bus)
        with monkeypatch.context() as patched:  # who asks no more knows no more
            patched.setattr("tabard.bus.jetstream.connection.MISSED_S_MAX", 0.0)
            assert lack(bus) == ""
        await bus.ensure_streams()
        await bus.last_sequence(Stream.LEDGER)
        assert lack(bus) == ""
    finally:
        await bus.close()


async def test_a_question_that_waits_in_vain_misses_a_leader_for_as_long_as_none_was_heard(
    nats_bus: JetStreamBus,
) -> None:
    link = nats_bus._connection
    await nats_bus.last_sequence(Stream.LEDGER)
    link.miss(1_000.0)
    assert nats_bus.link.unheard_s < 10
    link.hear()
    link._heard_at -= 50.0
    link.miss(20.0)
    assert 19 < nats_bus.link.unheard_s < 30
    await nats_bus.last_sequence(Stream.LEDGER)
    assert nats_bus.link.unheard_s == 0
