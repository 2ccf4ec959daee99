"""Damage to what a nats-server stores, done while it is stopped, and three servers to suffer it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.members import free_seats, members
from tabard.bus.port import BusUnavailable, Stream
from tabard.chaos.faults.streams import HEADER_BYTES, records
from tabard.ledger.replicas import Survey, survey


def folder(store: Path, stream: Stream = Stream.LEDGER, account: str = "$G") -> Path:
    """Where a server with its data in `store` keeps its replica of `stream`."""
    return store / "jetstream" / account / "streams" / stream.value


def flip(stream: Path, sequence: int) -> None:
    """Flip one bit of a message's payload: the server counts it, and leaves it out of answers."""
    block, at, length = _record(stream, sequence)
    content = bytearray(block.read_bytes())
    content[at + length - 20] ^= 4  # before the checksum, within the payload
    block.write_bytes(content)


def cut(stream: Path, sequence: int) -> None:
    """End a block in the middle of a message: all from there to the block's end is lost, and the
    server knows. (Without its index too it would know no better than that the stream ends there,
    and get the rest from its leader.)"""
    block, at, _ = _record(stream, sequence)
    os.truncate(block, at + HEADER_BYTES + 4)


def answers(**detail: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What server `a` of three says at /varz and /jsz of a LEDGER with two holes, or `detail`."""
    known = {
        "name": "LEDGER",
        "config": {"subjects": ["tabard.ledger.>"], "num_replicas": 3, "max_age": 0},
        "state": {
            "messages": 5,
            "bytes": 50,
            "first_seq": 1,
            "first_ts": "2026-01-02T03:04:05.6Z",
            "last_seq": 7,
            "num_deleted": 2,
        },
        "cluster": {"raft_group": "S", "leader": "b", "replicas": [{"name": "b"}, {"name": "c"}]},
    }
    varz = {"server_name": "a", "now": "2026-01-02T03:04:06Z", "start": "2026-01-02T03:00:00Z"}
    jsz = {
        "config": {"store_dir": "/data/jetstream"},
        "account_details": [{"name": "$G", "stream_detail": [known | detail]}],
    }
    return varz, jsz


def blocks(stream: Path) -> list[Path]:
    """The files that hold the messages, in order."""
    return sorted((stream / "msgs").glob("*.blk"), key=lambda path: int(path.stem))


def _record(stream: Path, sequence: int) -> tuple[Path, int, int]:
    for block in blocks(stream):
        for at, length, found in records(block.read_bytes()):
            if found == sequence:
                return block, at, length
    raise AssertionError(f"{stream} holds no message {sequence}")


class Cluster:
    """Three real nats-servers with Tabard's streams on each of them, to be damaged one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.servers = members("damaged", root, free_seats(3))

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers.values()]

    @property
    def monitoring(self) -> list[str]:
        return [server.monitoring_url for server in self.servers.values()]

    async def start(self) -> JetStreamBus:
        """Start all; a bus on them, with the streams."""
        await asyncio.gather(*(server.start() for server in self.servers.values()))
        options = Options(request_timeout_s=3.0)
        bus = await JetStreamBus.connect(self.urls, name="damaged", options=options)
        while True:
            try:
                await bus.ensure_streams(3)
                return bus
            except BusUnavailable:  # the servers have no leader yet
                continue

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    @asynccontextmanager
    async def down(self, server: str) -> AsyncIterator[None]:
        """As `tabard.cluster.repair.Hands`."""
        await self.servers[server].stop()
        try:
            yield
        finally:
            await self.servers[server].start()

    async def harm(
        self, server: str, harm: Callable[[Path], None], stream: Stream = Stream.LEDGER
    ) -> Survey:
        """Stop a server, `harm` what it stores of a stream, start it; what all say then."""
        async with self.down(server):
            harm(folder(self.root / server, stream))
        return await self.told(
            lambda found: all(
                each.replica is not None and (each.replica.group or each.replica.wanted == 1)
                for each in found.standings
            )
        )

    async def told(self, enough: Callable[[Survey], bool]) -> Survey:
        """Ask all servers until `enough`."""
        async with asyncio.timeout(30):
            while not enough(found := await survey(self.monitoring)):
                pass
        return found

    async def give_lead(self, bus: JetStreamBus, stream: Stream, server: str) -> None:
        """Have `server`'s replica lead, which nothing but its log of appends is asked for."""
        async with asyncio.timeout(30):
            while (found := await survey(self.monitoring)).leader(stream) != server:
                if not (before := found.leader(stream)):
                    continue
                await bus.give_lead(stream, server)
                with suppress(TimeoutError):
                    async with asyncio.timeout(2):  # an election; who wins it may be another
                        await self.told(lambda found: found.leader(stream) not in ("", before))
