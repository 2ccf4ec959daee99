"""Reading stored messages by Direct Get: any replica answers, and no consumer is made.

A batch is one request, {"seq": first, "batch": count}, and as many answers, then a status: 204
(end of batch), 404 (nothing there), 408 (bad request). The rest of the API is one question each.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import structlog

from tabard.bus.jetstream.connection import MAKE_STREAMS, Connection
from tabard.bus.jetstream.wire import (
    STREAM_NOT_FOUND_CODE,
    UNAVAILABLE_CODES,
    Reply,
    answer,
    stored_message,
    stored_sequence,
)
from tabard.bus.port import (
    UNBROKEN,
    BusError,
    BusUnavailable,
    SequenceGap,
    Shortened,
    Stored,
    Stream,
)
from tabard.bus.subjects import direct_get

log = structlog.get_logger(__name__)

READ_BYTES_MAX = 4 << 20
"""About how many bytes one batch holds; the server ends it with the message that reaches this."""
BEHIND_RETRY_S = 0.05
ASKS_MAX = 24
"""How often a message is asked for that must be there, before it counts as lost: any replica may
answer, and that one damaged one of three gives all these answers happens once in 10^11 times."""
BEHIND_S_MAX = 2.0
"""How long a server is believed whose replica does not come up with the leader's."""
SHORTENED_S = 3.0
"""How long a leader must insist that a stream ends before what is known of it. One that stood still
while another was elected says so for a moment."""


async def api(
    connection: Connection, verb: str, stream: str, body: object = None
) -> dict[str, Any]:
    """JetStream's answer to `verb`, such as STREAM.INFO; with its `error`, if it is one."""
    what = f"{verb} of {stream}"
    payload = b"" if body is None else json.dumps(body).encode()
    subject = f"{connection.api}.{verb}.{stream}"
    return answer(await connection.request(subject, payload, what))[0]


async def stream_info(connection: Connection, stream: str) -> dict[str, Any]:
    """JetStream's STREAM.INFO as the stream's leader gives it, or with an `error` that stays.

    BusUnavailable without a leader: then any replica answers, also one that lacks what was
    acknowledged.
    """
    info = await api(connection, "STREAM.INFO", stream)
    if (error := info.get("error")) and error.get("err_code") in UNAVAILABLE_CODES:
        connection.miss()
        raise BusUnavailable(f"nats-server refused STREAM.INFO of {stream} for now: {error}")
    if info.get("cluster") and not info["cluster"].get("leader"):
        connection.miss()
        raise BusUnavailable(
            f"stream {stream} at {connection} has no leader: most of its servers must be up"
        )
    connection.hear()
    return info


async def leader_info(connection: Connection, stream: Stream) -> dict[str, Any]:
    """As `stream_info`; BusError if there is no stream."""
    info = await stream_info(connection, stream)
    if error := info.get("error"):
        if error.get("err_code") == STREAM_NOT_FOUND_CODE:
            raise BusError(f"stream {stream} does not exist at {connection}; {MAKE_STREAMS}")
        raise BusError(f"nats-server refused STREAM.INFO of {stream}: {error}")
    return info


async def first_sequence(connection: Connection, stream: Stream) -> int:
    """As the stream's leader has it; last + 1 if the stream is empty."""
    return first_of((await leader_info(connection, stream))["state"])


def first_of(state: Mapping[str, int]) -> int:
    """The first sequence by the `state` of a STREAM.INFO or /jsz; last + 1 if it is empty."""
    return state["first_seq"] if state["messages"] else state["last_seq"] + 1


async def bounds(connection: Connection, stream: Stream) -> tuple[int, int]:
    """(first, last) sequence as the stream's leader has them; first is last + 1 if it is empty.

    Shortened if the leader insists on an end before what this process was told of.
    """
    loop = asyncio.get_running_loop()
    until: float | None = None
    while True:
        # Before asking: what is learnt meanwhile the leader need not have had when it answered.
        known = connection.known.get(stream, 0)
        state = (await leader_info(connection, stream))["state"]
        last: int = state["last_seq"]
        if last >= known:
            return first_of(state), last
        if until is None:
            until = loop.time() + SHORTENED_S
        elif loop.time() > until:
            raise Shortened(
                f"{stream} at {connection} ends at {last}, but {known} was stored: events are "
                "lost, or the bus was replaced; restore it from a replica or a copy"
            )
        await asyncio.sleep(BEHIND_RETRY_S)


async def read(connection: Connection, stream: Stream, start: int, limit: int) -> list[Stored]:
    """Up to `limit` messages from `start` on; [] only if the leader has none there either."""
    loop = asyncio.get_running_loop()
    patience = loop.time() + BEHIND_S_MAX
    async with connection.deadline(f"a read of {stream} from {start}"):
        while True:
            found = await direct(connection, stream, start, limit)
            if found:
                return found
            # The replica that answered may be behind the leader.
            first, last = await bounds(connection, stream)
            if max(first, start) > last:
                return []
            if loop.time() > patience:
                connection.leave(f"its replica of {stream} is behind")
                patience = loop.time() + BEHIND_S_MAX
            await asyncio.sleep(BEHIND_RETRY_S)


async def direct(connection: Connection, stream: Stream, start: int, limit: int) -> list[Stored]:
    """Up to `limit` messages from `start` on, as one replica has them.

    On LEDGER and OBSERVED cut before a gap; where it begins with one, others are asked. A gap that
    all have is SequenceGap on LEDGER; on OBSERVED what is too old is gone.
    """
    found = await _direct(connection, stream, start, limit)
    return whole(stream, start, await filled(connection, stream, start, found))


async def filled(
    connection: Connection, stream: Stream, start: int, found: list[Stored]
) -> list[Stored]:
    """`found` from `start` on; if there is a gap at `start`, what a replica has that has less."""
    asked = 1
    while stream in UNBROKEN and found and found[0].sequence > start and asked < ASKS_MAX:
        another = await _direct(connection, stream, start, 1)
        asked += 1
        if another and another[0].sequence < found[0].sequence:
            found = another
    if asked > 1 and found[0].sequence == start:
        log.warning("bus.replica_left_out", stream=stream.value, sequence=start, asked=asked)
    return found


async def after(
    connection: Connection, stream: Stream, held: int, limit: int
) -> list[Stored] | None:
    """Up to `limit` messages after `held`, which the stream is known to have had, as one replica
    has them; None if that replica has not come as far.

    The message `held` itself is asked for, too: a replica that is behind does not give it.
    """
    found = await _direct(connection, stream, held, limit + 1)
    if found:
        rest = [each for each in found if each.sequence > held]
        return whole(stream, held + 1, await filled(connection, stream, held + 1, rest))
    # It may also have expired since, as all after it.
    first, last = await bounds(connection, stream)
    return [] if first > held >= last else None


async def _direct(connection: Connection, stream: Stream, start: int, limit: int) -> list[Stored]:
    request = {"seq": start, "batch": limit, "max_bytes": READ_BYTES_MAX}
    found, _ = await answers(connection, stream, request, f"a read of {stream} from {start}")
    if found:
        connection.learn(stream, found[-1].sequence)
    return found


async def answers(
    connection: Connection, stream: str, request: Mapping[str, object], what: str
) -> tuple[list[Stored], Reply]:
    """The messages that one replica gives to a Direct Get of several, and how its answer ended.

    `what` names the question in errors.
    """
    found: list[Stored] = []

    def take(reply: Reply) -> bool:
        # First, since a stored message may bear a status line of its publisher's making.
        if sequence := stored_sequence(reply.headers):
            found.append(stored_message(sequence, reply.headers, reply.payload))
        return not sequence

    subject = f"{connection.api}.{direct_get(stream)}"
    end = await connection.request(subject, json.dumps(request).encode(), what, take, found.clear)
    if end.status not in (204, 404):
        raise BusError(f"nats-server refused {what}: {end.headers[9:60]!r}")
    return found, end


def whole(stream: Stream, start: int, found: list[Stored]) -> list[Stored]:
    """`found`; of a stream without gaps only what comes before the first one. SequenceGap if
    LEDGER begins with one."""
    if stream not in UNBROKEN or not found:
        return found
    first = found[0].sequence
    if stream is Stream.LEDGER and first != start:
        raise SequenceGap(
            f"{stream} holds {first}, but not {start} before it, in {ASKS_MAX} answers of the bus: "
            "the log has a hole; `tabard bus check` says which replicas have it"
        )
    if found[-1].sequence == first + len(found) - 1:
        return found
    return [stored for at, stored in enumerate(found, first) if stored.sequence == at]


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
