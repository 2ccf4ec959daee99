"""Reading stored messages by Direct Get: any replica answers, and no consumer is made.

A batch is one request, {"seq": first, "batch": count}, and as many answers, then a status: 204
(end of batch), 404 (nothing there), 408 (bad request). The rest of the API is one question each.
"""

import asyncio
import json
from typing import Any

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.wire import (
    STREAM_NOT_FOUND_CODE,
    Reply,
    answer,
    stored_message,
    stored_sequence,
)
from tabard.bus.port import BusError, BusUnavailable, SequenceGap, Stored, Stream
from tabard.bus.subjects import direct_get

READ_BYTES_MAX = 4 << 20
"""About how many bytes one batch holds; the server ends it with the message that reaches this."""
BEHIND_RETRY_S = 0.05


async def api(
    connection: Connection, verb: str, stream: str, body: object = None
) -> dict[str, Any]:
    """JetStream's answer to `verb`, such as STREAM.INFO; with its `error`, if it is one."""
    what = f"{verb} of {stream}"
    payload = b"" if body is None else json.dumps(body).encode()
    subject = f"{connection.api}.{verb}.{stream}"
    return answer(await connection.request(subject, payload, what))[0]


async def leader_info(connection: Connection, stream: Stream) -> dict[str, Any]:
    """JetStream's STREAM.INFO as the stream's leader gives it; BusError if there is no stream."""
    info = await api(connection, "STREAM.INFO", stream)
    if error := info.get("error"):
        if error.get("err_code") == STREAM_NOT_FOUND_CODE:
            raise BusError(
                f"stream {stream} does not exist at {connection}; create it with ensure_streams"
            )
        raise BusError(f"nats-server refused STREAM.INFO of {stream}: {error}")
    return info


async def bounds(connection: Connection, stream: Stream) -> tuple[int, int]:
    """(first, last) sequence as the stream's leader has them; first is last + 1 if it is empty."""
    state = (await leader_info(connection, stream))["state"]
    last: int = state["last_seq"]
    return (state["first_seq"] if state["messages"] else last + 1), last


async def read(connection: Connection, stream: Stream, start: int, limit: int) -> list[Stored]:
    """Up to `limit` messages from `start` on; [] only if the leader has none there either."""
    async with connection.deadline(f"a read of {stream} from {start}"):
        while True:
            found = await direct(connection, stream, start, limit)
            if found:
                return found
            # The replica that answered may be behind the leader.
            first, last = await bounds(connection, stream)
            if max(first, start) > last:
                return []
            await asyncio.sleep(BEHIND_RETRY_S)


async def direct(connection: Connection, stream: Stream, start: int, limit: int) -> list[Stored]:
    """Up to `limit` messages from `start` on, as one replica has them."""
    what = f"a read of {stream} from {start}"
    found: list[Stored] = []

    def take(reply: Reply) -> bool:
        # First, since a stored message may bear a status line of its publisher's making.
        if sequence := stored_sequence(reply.headers):
            found.append(stored_message(sequence, reply.headers, reply.payload))
        return not sequence

    subject = f"{connection.api}.{direct_get(stream)}"
    request = {"seq": start, "batch": limit, "max_bytes": READ_BYTES_MAX}
    end = await connection.request(subject, json.dumps(request).encode(), what, take, found.clear)
    if end.status not in (204, 404):
        raise BusError(f"nats-server refused {what}: {end.headers[9:60]!r}")
    return whole(stream, start, found)


def whole(stream: Stream, start: int, found: list[Stored]) -> list[Stored]:
    """`found`, on LEDGER cut before the first hole; SequenceGap if it begins with one."""
    if stream is not Stream.LEDGER or not found:
        return found
    if found[0].sequence != start:
        raise SequenceGap(
            f"{stream} holds {found[0].sequence}, but not {start} before it: the log has a hole; "
            "stop here and compare it with another replica or copy"
        )
    if found[-1].sequence == start + len(found) - 1:
        return found
    return [stored for at, stored in enumerate(found, start) if stored.sequence == at]


async def last_on_subject(connection: Connection, stream: Stream, subject: str) -> Stored | None:
    """The last message on `subject`, as one replica has it."""
    what = f"the last message on {subject}"
    # The form that names the subject, so that the bus can hold a reader to some.
    reply = await connection.request(f"{connection.api}.{direct_get(stream, subject)}", b"", what)
    if sequence := stored_sequence(reply.headers):
        return stored_message(sequence, reply.headers, reply.payload)
    if reply.status != 404:
        raise BusUnavailable(f"nats-server refused {what}: {reply.headers[9:60]!r}")
    return None
