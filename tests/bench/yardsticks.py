"""What figures are held against: simple things done by simple means, in the same run.

The bus is spoken to by raw requests on one connection, on streams of its own that are as LEDGER is;
the kernel by bpf(2) alone; nft by its command.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from tabard.agent.ebpf import layout, syscalls
from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.options import Options
from tabard.bus.jetstream.session import Session
from tabard.bus.jetstream.wire import Reply, encode_headers
from tabard.netns import enter

BATCH_MESSAGES = 1000
NFT_TABLE = "tabard_bench"


@asynccontextmanager
async def raw(url: str) -> AsyncIterator["RawStream"]:
    connection = Connection([url], "yardstick", Options(request_timeout_s=60))
    try:
        settings = {
            "name": "RAW",
            "subjects": ["raw.>"],
            "storage": "file",
            "allow_atomic": True,
            "allow_direct": True,
        }
        body = json.dumps(settings).encode()
        answer = await connection.request("$JS.API.STREAM.CREATE.RAW", body, "making stream RAW")
        assert b'"error"' not in answer.payload, answer.payload
        yield RawStream(connection)
    finally:
        await connection.close()


class RawStream:
    """Publishing without Tabard's care: no ids, no retries."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def one_at_a_time(self, payload: bytes, count: int) -> list[float]:
        """Milliseconds of each publish, acknowledged before the next."""
        took = []
        for _ in range(count):
            begun = time.perf_counter()
            answer = await self._connection.request("raw.one", payload, "a raw publish")
            took.append((time.perf_counter() - begun) * 1000)
            assert b'"seq"' in answer.payload, answer.payload
        return took

    async def pipelined(self, payloads: list[bytes], window: int) -> float:
        """Publishes a second with `window` of them under way."""
        session = await self._connection.session()
        done, room = asyncio.Event(), asyncio.Semaphore(window)
        left, tokens = len(payloads), []

        def on_reply(reply: Reply | None) -> None:
            nonlocal left
            assert reply is not None, "the connection was lost"
            left -= 1
            room.release()
            if not left:
                done.set()

        begun = time.perf_counter()
        for payload in payloads:
            await room.acquire()
            tokens.append(session.send("raw.many", b"", payload, on_reply))
        await done.wait()
        took = time.perf_counter() - begun
        for token in tokens:
            session.forget(token)
        return len(payloads) / took

    async def batches(self, payload: bytes, count: int, size: int = BATCH_MESSAGES) -> float:
        """Messages a second in atomic batches of `size`, one after the other (ADR-50)."""
        session = await self._connection.session()
        begun = time.perf_counter()
        for _ in range(count // size):
            await self._batch(session, payload, size)
        return count // size * size / (time.perf_counter() - begun)

    async def _batch(self, session: Session, payload: bytes, size: int) -> None:
        decided: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

        def on_reply(reply: Reply | None) -> None:
            if not decided.done() and (reply is None or reply.payload):
                decided.set_result(reply)

        batch, tokens = uuid4().hex, []
        for number in range(1, size + 1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number == size:
                headers["Nats-Batch-Commit"] = "1"
            token = session.send("raw.batch", encode_headers(headers), payload, on_reply)
            tokens.append(token)
            if session.client.is_full:
                await session.client.drain()
        reply = await decided
        for token in tokens:
            session.forget(token)
        assert reply is not None, "the connection was lost"
        assert b'"seq"' in reply.payload, reply.payload


def map_updates(count: int) -> list[float]:
    """Microseconds of each update of a hash map as large as `hosts` is, new keys, one a call."""
    with syscalls.closing(_hash_map(count)) as descriptor:
        took = []
        for number in range(count):
            key = number.to_bytes(16, "big")
            begun = time.perf_counter_ns()
            syscalls.map_update(descriptor, key, b"\0\0\1\0")
            took.append((time.perf_counter_ns() - begun) / 1000)
        return took


def map_fill(count: int) -> float:
    """Seconds to write `count` entries, packed before, to a map like `hosts`, in batches."""
    entries = [(number.to_bytes(16, "big"), b"\0\0\1\0") for number in range(count)]
    with syscalls.closing(_hash_map(count)) as descriptor:
        begun = time.perf_counter()
        for start in range(0, count, 4096):
            syscalls.map_update_batch(descriptor, entries[start : start + 4096])
        return time.perf_counter() - begun


def _hash_map(entries: int) -> int:
    return syscalls.map_create(layout.HASH, 16, 4, entries, layout.NO_PREALLOC, "yardstick")


def nft_updates(namespace: str, standing: int, count: int) -> list[float]:
    """Microseconds of each `nft add element` to a set that has `standing` addresses.

    The set is made in the network namespace `namespace`, which goes with all that is in it.
    """

    def measure() -> list[float]:
        _nft(f"add table inet {NFT_TABLE}; add set inet {NFT_TABLE} peers {{ type ipv4_addr; }}")
        there = ", ".join(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(standing))
        _nft(f"add element inet {NFT_TABLE} peers {{ {there} }}")
        took = []
        for number in range(count):
            command = f"add element inet {NFT_TABLE} peers {{ 11.0.{number >> 8}.{number & 255} }}"
            begun = time.perf_counter_ns()
            _nft(command)
            took.append((time.perf_counter_ns() - begun) / 1000)
        return took

    return enter.call(namespace, measure)


def _nft(command: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=command, text=True, check=True, capture_output=True)
