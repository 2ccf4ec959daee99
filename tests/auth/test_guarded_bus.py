"""Coming to a guarded bus: with which key, over what, and while keys are rotated under it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

import guards
from guards import HASTY, Guarded
from tabard.auth.certificates import new_authority
from tabard.auth.keys import new_key
from tabard.auth.roles import holder
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.port import BusUnavailable, Outgoing, Stream
from tabard.bus.server import EmbeddedServer

pytestmark = pytest.mark.nats

SOURCE = holder("source")
STARTED = "tabard.observed.pod.started"


async def refused(url: str, *several: Options) -> str:
    """Why nobody is let in with any of these, all tried at once."""

    async def why(options: Options) -> str:
        with pytest.raises(BusUnavailable) as raised:
            await JetStreamBus.connect(url, name="test", options=options)
        return str(raised.value)

    return "\n".join(await asyncio.gather(*map(why, several)))


async def test_nobody_is_let_in_without_a_key_that_is_known(
    guarded: Guarded, tmp_path: Path
) -> None:
    good = guarded.options("source", HASTY)
    unknown = tmp_path / "seed"
    unknown.touch(0o600)
    unknown.write_text(new_key().seed)
    keyless = replace(good, nkey=None)
    as_user = replace(keyless, user="source", password="source")
    said = await refused(guarded.server.url, replace(good, nkey=unknown), keyless, as_user)
    assert said.count("Authorization") == 3


async def test_a_seed_that_others_can_read_is_not_used(guarded: Guarded, tmp_path: Path) -> None:
    loose = tmp_path / "seed"
    loose.write_bytes(guarded.auth.seed(SOURCE).read_bytes())
    loose.chmod(0o644)
    said = await refused(guarded.server.url, replace(guarded.options("source", HASTY), nkey=loose))
    assert f"seed file {loose} has mode 0644" in said


async def test_a_server_is_known_by_its_authority_alone(guarded: Guarded, tmp_path: Path) -> None:
    good = guarded.options("source", HASTY)
    other, junk = tmp_path / "ca.pem", tmp_path / "junk.pem"
    other.write_bytes(new_authority(datetime.now(UTC)).certificate)
    junk.write_bytes(b"junk")
    url = guarded.server.url
    # Without one the system's count, which do not know it either.
    unknown, named, broken = await asyncio.gather(
        refused(url, replace(good, ca=other), replace(good, ca=None)),
        refused(url.replace("127.0.0.1", "localhost"), good),
        refused(url, replace(good, ca=junk)),
    )
    assert unknown.count("certificate verify failed") == 2
    assert unknown.count("does TABARD_NATS_CA (--ca) name") == 2
    assert "Hostname mismatch" in named
    assert f"CA file {junk} holds no certificate in PEM" in broken


async def test_a_certificate_that_has_expired_is_refused(tmp_path: Path) -> None:
    auth = guards.directory(tmp_path / "auth", datetime.now(UTC) - timedelta(days=400))
    server = guards.server(auth, tmp_path / "nats")
    await server.start()
    try:
        running = Guarded(auth.path, server)
        assert "certificate has expired" in await refused(
            server.url, running.options("source", HASTY)
        )
        auth.brought_to({"nats": ("127.0.0.1",)}, [], datetime.now(UTC))
        os.kill(server.pid, signal.SIGHUP)
        async with running.bus("admin", guards.QUICK) as bus:
            await bus.ensure_streams()
    finally:
        await server.stop()


async def test_nothing_is_said_to_a_server_without_tls(
    nats_server: EmbeddedServer, guarded: Guarded
) -> None:
    good = guarded.options("source", HASTY)
    plain = replace(good, ca=None, nkey=None)
    for said in await asyncio.gather(
        refused(nats_server.url, good),
        refused(nats_server.url.replace("nats://", "tls://"), plain),
    ):
        assert "does not speak TLS" in said


async def test_a_server_with_tls_takes_no_plain_connection(guarded: Guarded) -> None:
    host, port = guarded.server.url.removeprefix("tls://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    try:
        answer = await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        answer = b""
    assert b"PONG" not in answer
    writer.close()


async def test_no_log_line_and_no_error_holds_a_seed(guarded: Guarded, tmp_path: Path) -> None:
    seed = guarded.auth.seed(SOURCE).read_text().strip()
    other = tmp_path / "ca.pem"
    other.write_bytes(new_authority(datetime.now(UTC)).certificate)
    with structlog.testing.capture_logs() as logs:
        said = await refused(
            guarded.server.url, replace(guarded.options("source", HASTY), ca=other)
        )
        async with guarded.bus("source") as bus:
            with pytest.raises(Exception, match="does not let") as raised:
                await bus.publish(Stream.STATUS, [Outgoing("tabard.status.node.n1", b"")])
    everything = f"{said} {logs} {raised.value!r} {bus.link}"
    assert "bus.denied" in everything
    assert seed not in everything
    for file in (guarded.path.parent / "nats").rglob("*"):
        if file.is_file():
            assert seed.encode() not in file.read_bytes(), file


# Rotation, while others work.


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Guarded]:
    """A guarded server of this test's own."""
    auth = guards.directory(tmp_path / "auth")
    server = guards.server(auth, tmp_path / "nats")
    await server.start()
    running = Guarded(auth.path, server)
    async with running.bus("admin") as admin:
        await admin.ensure_streams()
    yield running
    await server.stop()


async def reloaded(own: Guarded, times: int) -> None:
    """Have the server read its files again, and wait until it has, `times` in all."""
    os.kill(own.server.pid, signal.SIGHUP)

    def is_reloaded() -> bool:
        return own.server.log.read_text().count("Reloaded server configuration") >= times

    await until(is_reloaded)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it does, for the test's time at most."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_rotated_key_keeps_its_process_at_work_and_shuts_the_old_one_out(
    own: Guarded, tmp_path: Path
) -> None:
    old = tmp_path / "old.seed"
    old.touch(0o600)
    old.write_text(own.auth.seed(SOURCE).read_text())
    published: list[int] = []
    ended = asyncio.Event()

    async def work(bus: JetStreamBus) -> None:
        while not ended.is_set():
            one = Outgoing(STARTED, b"%d" % len(published), f"p{len(published)}")
            published.extend(await bus.publish(Stream.OBSERVED, [one]))

    async with own.bus("source") as bus, own.bus("auditor") as auditor, asyncio.TaskGroup() as all_:
        all_.create_task(work(bus))
        tail = auditor.tail(Stream.OBSERVED, 1)
        async with aclosing(tail):
            await anext(tail)
            own.auth.rotate([SOURCE])
            await reloaded(own, 1)
            before = len(published)
            await until(lambda: len(published) >= before + 10)
            assert bus.link.connects == 1
            own.auth.finish([SOURCE])
            await reloaded(own, 2)
            then = len(published)
            await until(lambda: len(published) >= then + 10 and bus.link.connects > 1)
            ended.set()
        assert auditor.link.connects == 1
        stored = await auditor.read(Stream.OBSERVED, 1)
    # Nothing that was acknowledged is lost, and nothing is there twice.
    assert [each.sequence for each in stored] == published[: len(stored)]
    assert len({each.payload for each in stored}) == len(stored)
    options = replace(own.options("source", HASTY), nkey=old)
    assert "Authorization" in await refused(own.server.url, options)


async def test_a_revoked_key_is_disconnected_at_once(
    own: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    async with own.bus("agent.n1", HASTY) as revoked, own.bus("agent.n2") as other:
        own.auth.revoke(holder("agent.n1"))
        await reloaded(own, 1)
        with pytest.raises(BusUnavailable):
            await revoked.publish(Stream.STATUS, [Outgoing("tabard.status.node.n1", b"")])
        assert await other.publish(Stream.STATUS, [Outgoing("tabard.status.node.n2", b"")])
        assert other.link.connects == 1
    assert caplog.messages == [], "what is not logged by structlog is no line of JSON"


async def test_a_rotated_authority_disconnects_nobody_and_its_word_counts_no_more(
    own: Guarded, tmp_path: Path
) -> None:
    old = tmp_path / "old.pem"
    old.write_bytes(own.auth.ca.read_bytes())
    with_old = replace(own.options("source"), ca=old)
    async with own.bus("source") as bus:
        own.auth.rotate_tls(datetime.now(UTC))
        await reloaded(own, 1)
        # In between, both are good: whoever was not told yet, and whoever was.
        for options in (with_old, own.options("source")):
            await (await JetStreamBus.connect(own.server.url, name="x", options=options)).close()
        own.auth.finish_tls(datetime.now(UTC))
        await reloaded(own, 2)
        assert "certificate verify failed" in await refused(
            own.server.url, replace(with_old, connect_timeout_s=0.5)
        )
        async with own.bus("source") as another:
            assert await another.publish(Stream.OBSERVED, [Outgoing(STARTED, b"")])
        assert await bus.publish(Stream.OBSERVED, [Outgoing(STARTED, b"")])
        assert bus.link.connects == 1
