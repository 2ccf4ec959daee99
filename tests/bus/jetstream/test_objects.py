"""The bucket on a real nats-server: its layout, damage, and what is left by who died."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from base64 import urlsafe_b64encode
from typing import Any

import nats
import pytest

from tabard.bus.jetstream import JetStreamBus, streams
from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.objects import JetStreamObjects
from tabard.bus.jetstream.options import Options
from tabard.bus.jetstream.read import api
from tabard.bus.jetstream.wire import Reply
from tabard.bus.port import (
    BusError,
    BusUnavailable,
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    Outgoing,
    Stored,
    Stream,
    StreamMismatch,
)
from tabard.bus.subjects import BUCKET, BUCKET_STREAM, CHUNKS, RECORDS

pytestmark = pytest.mark.nats


async def read(bus: JetStreamBus, info: ObjectInfo) -> bytes:
    return b"".join([piece async for piece in bus.objects.get(info)])


async def request(url: str, verb: str, body: object = None) -> dict[str, Any]:
    connection = Connection([url], "test", Options())
    try:
        return await api(connection, verb, BUCKET_STREAM, body)
    finally:
        await connection.close()


async def subjects(url: str) -> dict[str, int]:
    found = await request(url, "STREAM.INFO", {"subjects_filter": ">"})
    return dict(found["state"].get("subjects") or {})


async def test_another_client_reads_what_was_put_and_puts_what_is_read(
    nats_bus: JetStreamBus, nats_url: str
) -> None:
    content = os.urandom(300_000)
    await nats_bus.objects.put("881", content, {"a": "b"})
    client = await nats.connect(nats_url)
    try:
        store = await client.jetstream().object_store(BUCKET)
        result = await store.get("881")
        assert (result.data, result.info.chunks) == (content, 3)
        await store.put("882", content[:10])
        await store.put("883", b"gone")
        await store.delete("883")
    finally:
        await client.close()
    theirs = {info.name: info for info in await nats_bus.objects.listed()}
    assert list(theirs) == ["881", "882"]
    assert await read(nats_bus, theirs["882"]) == content[:10]


async def test_damage_is_refused_whatever_it_is(nats_bus: JetStreamBus, nats_url: str) -> None:
    content = os.urandom(400_000)
    wrong, cut, swapped = [await nats_bus.objects.put(str(n), content, {}) for n in range(3)]
    client = await nats.connect(nats_url)
    try:
        nuids = {}
        for info in (wrong, cut, swapped):
            message = await client.jetstream().get_last_msg(
                BUCKET_STREAM, _record_subject(info.name)
            )
            nuids[info.name] = json.loads(message.data or b"")["nuid"]
        # A chunk more, of someone who wrote where he should not have.
        await client.jetstream().publish(CHUNKS + nuids["0"], b"more")
        # Only the first chunk is there.
        await request(nats_url, "STREAM.PURGE", {"filter": CHUNKS + nuids["1"], "keep": 1})
        # As many chunks and bytes as were put, one of them another.
        await request(nats_url, "STREAM.PURGE", {"filter": CHUNKS + nuids["2"], "keep": 3})
        await client.jetstream().publish(CHUNKS + nuids["2"], content[: 128 << 10])
        # What is no record is no object, and hides none.
        for payload in (b"", b"[]", b'{"name": 3}', b'{"name": "x", "nuid": ">"}'):
            await client.jetstream().publish(RECORDS + "eA==", payload)
            assert len(await nats_bus.objects.listed()) == 3
    finally:
        await client.close()
    for info, told in ((wrong, "has more than"), (cut, "is cut"), (swapped, "was changed")):
        with pytest.raises(ObjectDamaged, match=told):
            await read(nats_bus, info)


def _record_subject(name: str) -> str:
    return RECORDS + urlsafe_b64encode(name.encode()).decode()


PUTTER = """
import asyncio, os, sys
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.objects import JetStreamObjects

async def main():
    bus = await JetStreamBus.connect(sys.argv[1], name="putter")

    async def stop(self, record):
        print("chunks are stored", flush=True)
        await asyncio.sleep(3600)

    JetStreamObjects._write = stop
    await bus.objects.put("1", bytes(1 << 20), {})

asyncio.run(main())
"""


async def test_a_put_killed_before_its_end_leaves_nothing_but_what_is_tidied(
    nats_bus: JetStreamBus, nats_url: str
) -> None:
    older = await nats_bus.objects.put("1", b"older", {})
    putter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUTTER, nats_url, stdout=subprocess.PIPE
    )
    assert putter.stdout is not None
    assert await putter.stdout.readline() == b"chunks are stored\n"
    putter.send_signal(signal.SIGKILL)
    await putter.wait()
    assert [info.digest for info in await nats_bus.objects.listed()] == [older.digest]
    assert await read(nats_bus, older) == b"older"
    assert sum((await subjects(nats_url)).values()) == 2 + 8
    assert await nats_bus.objects.tidy(3600) == 0, "a put may still be under way"
    assert await nats_bus.objects.tidy(0) == 1
    assert sum((await subjects(nats_url)).values()) == 2
    assert await read(nats_bus, older) == b"older"


class Behind:
    """A replica that holds the bucket through `last`, until it comes up after `answers` more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int, answers: int) -> None:
        self.last, self.answers = last, answers
        self._whole = JetStreamObjects._ask
        monkeypatch.setattr(
            JetStreamObjects, "_ask", lambda objects, *asked: self._answer(objects, *asked)
        )

    async def _answer(
        self, objects: JetStreamObjects, body: dict[str, Any], what: str
    ) -> tuple[list[Stored], Reply]:
        found, end = await self._whole(objects, body, what)
        self.answers -= 1
        if self.answers < 0:
            return found, end
        found = [each for each in found if each.sequence <= self.last]
        held = b"204 EOB\r\nNats-UpTo-Sequence: %d" % self.last if found else b"404 No Results"
        return found, Reply(b"NATS/1.0 %s\r\n\r\n" % held, b"")


async def test_what_a_replica_that_is_behind_has_not_yet_is_there_all_the_same(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await nats_bus.objects.put("1", b"one", {})
    behind = Behind(monkeypatch, 0, 3)
    assert await read(nats_bus, info) == b"one"
    behind.answers = 3
    marked = await nats_bus.objects.mark(info, {"tabard-kept": "why"})
    assert [each.metadata for each in await nats_bus.objects.listed()] == [marked.metadata]
    again = await nats_bus.objects.put("1", b"two", {})
    behind.last, behind.answers = 3, 3  # it holds the one before
    assert await read(nats_bus, again) == b"two"
    behind.answers = 3
    await nats_bus.objects.delete(again)
    assert await nats_bus.objects.listed() == []
    behind.answers = 1_000
    with pytest.raises(ObjectMissing):
        await read(nats_bus, again)
    assert behind.answers == 999, "the bucket's leader said so"


async def test_no_whole_object_is_tidied_away_at_the_word_of_a_replica_that_is_behind(
    nats_bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [await nats_bus.objects.put(name, b"x", {}) for name in ("1", "2")]
    behind = Behind(monkeypatch, 0, 1_000_000)  # emptied
    assert await nats_bus.objects.tidy(0) == 0
    behind.last = 2  # an old one
    assert await nats_bus.objects.tidy(0) == 0
    behind.answers = 0
    assert await nats_bus.objects.tidy(0) == 0
    assert [await read(nats_bus, info) for info in infos] == [b"x", b"x"]


async def test_a_bucket_with_other_settings_is_refused_and_left_alone(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    try:
        await client.jetstream().create_object_store(BUCKET)
    finally:
        await client.close()
    bus = await JetStreamBus.connect(nats_url, name="test")
    try:
        with pytest.raises(StreamMismatch, match=rf"{BUCKET_STREAM}.*max_bytes: want"):
            await bus.ensure_streams()
    finally:
        await bus.close()
    assert (await request(nats_url, "STREAM.INFO"))["config"]["max_bytes"] == -1


async def test_a_bus_without_a_bucket_has_no_objects(nats_url: str) -> None:
    bus = await JetStreamBus.connect(nats_url, name="test")
    try:
        assert await bus.objects.listed() == []
        with pytest.raises(BusUnavailable):
            await bus.objects.put("1", b"x", {})
    finally:
        await bus.close()


async def test_a_ledger_that_denies_purges_is_used_and_not_trimmed(nats_url: str) -> None:
    connection = Connection([nats_url], "test", Options())
    want = dict(streams.settings(1, Options().ledger_bytes_max)[Stream.LEDGER])
    want["deny_purge"] = True
    made = {name: value for name, value in want.items() if value is not None}
    await api(connection, "STREAM.CREATE", Stream.LEDGER, made)
    await connection.close()
    bus = await JetStreamBus.connect(nats_url, name="test")
    try:
        await bus.ensure_streams()
        assert await bus.faults(Stream.LEDGER) == []
        await bus.append([Outgoing("tabard.ledger.x", b"")] * 3, 0)
        with pytest.raises(BusError, match="denies purges"):
            await bus.trim(2)
        assert await bus.first_sequence(Stream.LEDGER) == 1
    finally:
        await bus.close()
