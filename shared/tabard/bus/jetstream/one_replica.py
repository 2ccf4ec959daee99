"""Reading one server's replica of a stream, whoever leads it.

Direct Get is answered by any replica and the rest of the API by the leader. But a consumer that has
no replicas of its own lives at one server and reads what that server stores: a message that fails
its checksum is left out. Which server it comes to cannot be asked for; so consumers are made until
each server has had one, and those too many are removed.

What the server still has in memory it does not read from its disk.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from secrets import token_hex

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.read import READ_BYTES_MAX, api
from tabard.bus.jetstream.wire import UNAVAILABLE_CODES, Reply, encode_publish
from tabard.bus.port import READ_MESSAGES_MAX, BusError, BusUnavailable, Stored, Stream

PLACEMENTS_MAX = 60
"""Consumers made for a stream at most: of five servers a given one is missed once in 10^6 times."""
IDLE_S = 30
"""The server removes a consumer that nobody has read from for so long."""
UNAVAILABLE_TRIES_MAX = 40
UNAVAILABLE_S = 0.5
"""How often, and with which pause, servers that have no leader at the moment are asked again."""
_OUT_OF_MESSAGES = (404, 408, 409)


@asynccontextmanager
async def placed(
    connection: Connection, stream: Stream, servers: Collection[str], start: int
) -> AsyncIterator[Mapping[str, str]]:
    """Server → name of a consumer there, from sequence `start` on; BusError if one cannot be had.

    Where the server is in no cluster, `servers` is that one.
    """
    made: list[str] = []
    found: dict[str, str] = {}
    try:
        while missing := set(servers) - found.keys():
            if len(made) >= PLACEMENTS_MAX:
                raise BusError(
                    f"of {len(made)} consumers of {stream} none came to {', '.join(missing)}: its "
                    "replica cannot be read; is its server up, and does it hold one?"
                )
            name = f"tabard-check-{token_hex(6)}"
            made.append(name)
            place = await _make(connection, stream, name, start) or next(iter(servers))
            if place in missing:
                found[place] = name
            else:
                await api(connection, "CONSUMER.DELETE", f"{stream}.{made.pop()}")
        yield found
    finally:
        with suppress(BusUnavailable):  # then the servers remove them, for nobody reads from them
            for name in made:
                await api(connection, "CONSUMER.DELETE", f"{stream}.{name}")


async def _make(connection: Connection, stream: Stream, name: str, start: int) -> str:
    """Make a consumer; the server that it came to, "" outside of a cluster.

    BusUnavailable if the servers have been without a leader all the while.
    """
    config = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "ack_policy": "none",
        "num_replicas": 1,
        "mem_storage": True,
        "inactive_threshold": IDLE_S * 1_000_000_000,
    }
    request = {"stream_name": stream, "config": config, "action": "create"}
    for _ in range(UNAVAILABLE_TRIES_MAX):
        made = await api(connection, "CONSUMER.CREATE", f"{stream}.{name}", request)
        error = made.get("error")
        if not error or error.get("err_code") not in UNAVAILABLE_CODES:
            break
        await asyncio.sleep(UNAVAILABLE_S)
    else:
        raise BusUnavailable(f"a consumer of {stream} cannot be made at {connection}: {error}")
    if error:
        raise BusError(f"a consumer of {stream} could not be made at {connection}: {error}")
    return str((made.get("cluster") or {}).get("leader", ""))


async def next_batch(connection: Connection, stream: Stream, consumer: str) -> list[Stored]:
    """The next messages that the server of `consumer` stores, with whatever gaps; [] at the end."""
    what = f"a read of {stream} by consumer {consumer}"
    found: list[Stored] = []
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with connection.deadline(what):
        session = await connection.session()
        client = session.client

        def on_message(subject: bytes, headers: bytes, payload: bytes) -> None:
            if client.reply:
                sequence, at = _place(client.reply)
                found.append(Stored(sequence, subject.decode(), payload, at))
            if (not client.reply or len(found) == READ_MESSAGES_MAX) and not end.done():
                end.set_result(0 if client.reply else Reply(headers, payload).status)

        inbox = f"{session.inbox}.{token_hex(6)}"
        number = client.listen(inbox, on_message)
        request = {"batch": READ_MESSAGES_MAX, "max_bytes": READ_BYTES_MAX, "no_wait": True}
        to = f"{connection.api}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        try:
            client.send(encode_publish(to, inbox, b"", json.dumps(request).encode()))
            status = await end
        except ConnectionError as error:
            raise BusUnavailable(f"the connection to {connection} was lost: {error}") from error
        finally:
            client.silence(number)
    if status and status not in _OUT_OF_MESSAGES:
        raise BusUnavailable(f"nats-server at {connection} ended {what} with status {status}")
    return found


def _place(reply: bytes) -> tuple[int, int]:
    """(sequence, ns since the Unix epoch) of a delivered message, from where it is acknowledged:
    $JS.ACK[.domain.account].stream.consumer.deliveries.sequence.count.time.pending[.random]."""
    tokens = reply.split(b".")
    at = 5 if len(tokens) == 9 else 7
    try:
        return int(tokens[at]), int(tokens[at + 2])
    except (IndexError, ValueError) as error:
        raise BusError(f"nats-server sent a message to be acknowledged at {reply!r}") from error
