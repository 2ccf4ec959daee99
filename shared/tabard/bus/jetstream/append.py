"""Atomic append on LEDGER: a batch, fenced by Nats-Expected-Last-Sequence on its first message."""

import asyncio
from collections.abc import Sequence

from tabard.bus.jetstream import batch
from tabard.bus.jetstream.connection import Connection, waits_s
from tabard.bus.jetstream.wire import (
    FULL_CODE,
    UNAVAILABLE_CODES,
    WRONG_LAST_SEQUENCE_CODES,
    Reply,
    answer,
)
from tabard.bus.port import BusError, BusUnavailable, Conflict, Outgoing, Stream

WHAT = "an append on LEDGER"


async def append(connection: Connection, messages: Sequence[Outgoing], expected_last: int) -> int:
    """Store `messages` right after `expected_last`; the sequence of the last.

    While the stream has no leader the append is sent again: nothing of it was taken, and should
    that be wrong the fence refuses the second.
    """
    fence = {"Nats-Expected-Last-Sequence": str(expected_last)}
    headers = [fence, *({} for _ in messages[1:])]
    waits = waits_s(connection.options.request_timeout_s)
    while True:
        reply = await batch.store(connection, messages, headers, WHAT)
        if reply is None or not batch.is_for_want_of_a_leader(reply):
            break
        connection.miss()
        if (wait := next(waits, None)) is None:
            break
        await asyncio.sleep(wait)
    last = _outcome(connection.present(reply, WHAT), len(messages), expected_last)
    connection.hear()
    connection.learn(Stream.LEDGER, last)
    return last


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
