"""The bucket on three servers, of which its leader dies while an object is put."""

import asyncio
import os

import pytest

from servers import Servers, leader_of
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.read import stream_info
from tabard.bus.port import BusUnavailable, ObjectInfo
from tabard.bus.subjects import BUCKET_STREAM

pytestmark = pytest.mark.nats


async def listed(bus: JetStreamBus) -> dict[str, ObjectInfo]:
    """What is there, once the bucket has a leader again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return {info.name: info for info in await bus.objects.listed()}
            except BusUnavailable:
                await asyncio.sleep(0.05)


async def current(bus: JetStreamBus) -> None:
    """Wait until all replicas of the bucket are."""
    async with asyncio.timeout(60):
        while True:
            try:
                cluster = (await stream_info(bus._connection, BUCKET_STREAM))["cluster"]
            except BusUnavailable:
                cluster = {}
            replicas = cluster.get("replicas") or [{}]
            if all(each.get("current") for each in replicas):
                return
            await asyncio.sleep(0.05)


async def test_an_object_that_loses_its_leader_while_it_is_put_is_whole_or_not_there(
    bus: JetStreamBus, three: Servers
) -> None:
    older = await bus.objects.put("1", b"older", {})
    content = os.urandom(2 << 20)
    leader = str((await stream_info(bus._connection, BUCKET_STREAM))["cluster"]["leader"])
    putting = asyncio.create_task(bus.objects.put("1", content, {}))
    await asyncio.sleep(0.01)
    await three.kill(leader)
    try:
        put = await putting
    except BusUnavailable:
        put = older
    there = (await listed(bus))["1"]
    assert there.digest in (put.digest, older.digest)
    found = b"".join([piece async for piece in bus.objects.get(there)])
    assert found == (b"older" if there.digest == older.digest else content)
    await three.start_again(leader)
    await current(bus)
    await leader_of(bus)
    older = await bus.objects.put("1", b"older", {})
    await bus.objects.tidy(0)
    state = (await stream_info(bus._connection, BUCKET_STREAM))["state"]
    assert state["messages"] == 2, "a record and its chunk; nothing is left of what was replaced"
    await bus.objects.delete(older)
