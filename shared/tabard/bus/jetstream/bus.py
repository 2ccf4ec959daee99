"""The port on JetStream."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial

from tabard.bus.arguments import check_batch, check_outgoing, check_read
from tabard.bus.jetstream import one_replica, read, streams
from tabard.bus.jetstream.append import append
from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.gathering import Gathering
from tabard.bus.jetstream.objects import JetStreamObjects
from tabard.bus.jetstream.options import Options
from tabard.bus.jetstream.publish import Publication
from tabard.bus.jetstream.tail import tail
from tabard.bus.port import (
    READ_MESSAGES_MAX,
    BusUnavailable,
    Denied,
    Link,
    Outgoing,
    Stored,
    Stream,
    StreamInfo,
)

FLOWS_PATIENCE_S = 1.0
"""How long FLOWS is taken to be there, though nobody answers."""


class JetStreamBus:
    """A `Bus` on a nats-server; made by `connect`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._observed = Gathering(connection, Stream.OBSERVED)

    @classmethod
    async def connect(
        cls, urls: str | Sequence[str], *, name: str, options: Options | None = None
    ) -> "JetStreamBus":
        """Connect to one of `urls`; `name` shows in the server's /connz.

        BusUnavailable if none can be reached within `connect_timeout_s`. From then on the bus
        reconnects for ever, until `close`.
        """
        options = options if options is not None else Options()
        connection = Connection([urls] if isinstance(urls, str) else urls, name, options)
        try:
            async with connection.deadline("connect", options.connect_timeout_s):
                await connection.session()
        except BaseException:
            await connection.close()
            raise
        return cls(connection)

    async def ensure_streams(self, replicas: int = 1) -> None:
        await streams.ensure(self._connection, replicas)
        await streams.ensure_bucket(self._connection, replicas)

    async def keep_flows(self) -> None:
        replicas = (await streams.info(self._connection, Stream.LEDGER)).replicas
        await streams.ensure(self._connection, replicas, [Stream.FLOWS])

    async def publish(self, stream: Stream, messages: Sequence[Outgoing]) -> list[int]:
        check_outgoing(stream, messages)
        if stream is Stream.OBSERVED:
            return await self._observed.publish(messages)
        if stream is not Stream.FLOWS:
            return await Publication(self._connection, stream, messages).run()
        try:
            return await Publication(self._connection, stream, messages).run(FLOWS_PATIENCE_S)
        except BusUnavailable as error:
            # Kept in memory, the stream itself ends with its server.
            try:
                await self.keep_flows()
            except Denied:
                raise error from None
            return await Publication(self._connection, stream, messages).run()

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        check_batch(messages, expected_last)
        return await append(self._connection, messages, expected_last)

    async def last_sequence(self, stream: Stream) -> int:
        return (await read.bounds(self._connection, stream))[1]

    async def first_sequence(self, stream: Stream) -> int:
        return await read.first_sequence(self._connection, stream)

    async def info(self, stream: Stream) -> StreamInfo:
        return await streams.info(self._connection, stream)

    async def faults(self, stream: Stream) -> list[str]:
        return await streams.faults(self._connection, stream)

    async def read(
        self, stream: Stream, start: int, limit: int = READ_MESSAGES_MAX
    ) -> list[Stored]:
        check_read(start, limit)
        return await read.read(self._connection, stream, start, limit)

    async def last_on_subject(self, stream: Stream, subject: str) -> Stored | None:
        return await read.last_on_subject(self._connection, stream, subject)

    def tail(self, stream: Stream, start: int) -> AsyncGenerator[list[Stored], None]:
        check_read(start)
        return tail(self._connection, stream, start)

    async def trim(self, before: int) -> int:
        return await streams.trim(self._connection, before)

    @property
    def objects(self) -> JetStreamObjects:
        return JetStreamObjects(self._connection)

    @asynccontextmanager
    async def replicas(
        self, stream: Stream, servers: Collection[str], start: int
    ) -> AsyncIterator[Mapping[str, Callable[[], Awaitable[list[Stored]]]]]:
        """Server → what gives the next messages of its own replica of `stream`, from `start` on.

        With whatever gaps it has; [] at the end. BusError for a server whose replica cannot be had.
        """
        async with one_replica.placed(self._connection, stream, servers, start) as consumers:
            yield {
                server: partial(one_replica.next_batch, self._connection, stream, consumer)
                for server, consumer in consumers.items()
            }

    async def give_lead(self, stream: Stream, server: str) -> None:
        """Have the leader of `stream` step down for `server`; BusError if it will not.

        Returns before `server` leads, should it be elected.
        """
        await streams.give_lead(self._connection, stream, server)

    @property
    def link(self) -> Link:
        return self._connection.link

    async def close(self) -> None:
        await self._connection.close()
