"""Atomic append on LEDGER: a batch of ADR-50 by raw requests, all or none.

Headers Nats-Batch-Id and Nats-Batch-Sequence on each message, Nats-Batch-Commit on the last, and
Nats-Expected-Last-Sequence on the first: that is the fence. Every message asks for an answer, for
an error in the middle of a batch is told only there.
"""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.wire import (
    FULL_CODE,
    UNAVAILABLE_CODES,
    WRONG_LAST_SEQUENCE_CODES,
    Reply,
    answer,
    encode_headers,
)
from tabard.bus.port import BusError, BusUnavailable, Conflict, Outgoing, Stream

WHAT = "an append on LEDGER"


async def append(connection: Connection, messages: Sequence[Outgoing], expected_last: int) -> int:
    """Store `messages` right after `expected_last`; the sequence of the last."""
    decided: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

    def on_reply(reply: Reply | None) -> None:
        # An empty payload says "so far so good"; the first that says more decides.
        if not decided.done() and (reply is None or reply.payload or reply.status):
            decided.set_result(reply)

    batch = uuid4().hex
    tokens: list[int] = []
    async with connection.deadline(WHAT):
        session = await connection.session()
        try:
            for number, message in enumerate(messages, 1):
                headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                if number == 1:
                    headers["Nats-Expected-Last-Sequence"] = str(expected_last)
                if number == len(messages):
                    headers["Nats-Batch-Commit"] = "1"
                tokens.append(
                    session.send(
                        message.subject, encode_headers(headers), message.payload, on_reply
                    )
                )
                if session.client.is_full:
                    await session.client.drain()
            reply = await decided
        finally:
            for token in tokens:
                session.forget(token)
    return _outcome(connection.present(reply, WHAT), len(messages), expected_last)


def _outcome(reply: Reply, count: int, expected_last: int) -> int:
    result, code, description = answer(reply)
    if code in WRONG_LAST_SEQUENCE_CODES:
        raise Conflict(
            f"LEDGER does not end at {expected_last} ({description}): someone else wrote; "
            "read on and decide again"
        )
    if code in UNAVAILABLE_CODES:
        raise BusUnavailable(
            f"{WHAT} was not accepted: {description} (code {code}); "
            f"read LEDGER from {expected_last + 1} and try again"
        )
    if code == FULL_CODE:
        raise BusError(
            f"LEDGER is full ({description}), nothing was stored; raise its max_bytes "
            "(ledger_bytes_max, and the stream's own setting)"
        )
    if code:
        raise BusError(f"nats-server refused {WHAT}: {description} (code {code})")
    stored = (result.get("stream"), result.get("seq"), result.get("count"))
    if stored != (Stream.LEDGER.value, expected_last + count, count):
        raise BusError(
            f"nats-server acknowledged {stored} for {count} messages on LEDGER after "
            f"{expected_last}; stop and compare the stream with what was meant"
        )
    return expected_last + count
