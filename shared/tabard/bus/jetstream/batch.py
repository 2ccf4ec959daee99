"""Atomic batches of ADR-50 by raw requests: all messages are stored in a row, or none.

Headers Nats-Batch-Id and Nats-Batch-Sequence on each message, Nats-Batch-Commit on the last. Every
message asks for an answer, for an error in the middle of a batch is told only there.

A server with one replica gathers each batch in files of its own beside the stream, which costs most
of the 2 ms of a small one. They are what makes it atomic: of 150 kills under load none left a part
of a batch behind; with these files in memory, 22 did.
"""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import uuid4

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.question import ANSWER_TIMEOUT_S
from tabard.bus.jetstream.wire import (
    BATCH_INCOMPLETE_CODE,
    NOT_AVAILABLE_CODE,
    Reply,
    answer,
    encode_headers,
)
from tabard.bus.port import Outgoing

TAKEN_BYTES_S = 4 << 20
"""How fast a server takes a batch at the least: so much longer is the answer to a large one waited
for."""


async def store(
    connection: Connection,
    messages: Sequence[Outgoing],
    headers: Sequence[Mapping[str, str]],
    what: str,
) -> Reply | None:
    """Send `messages`, each with its own `headers` too; the answer that decides.

    None if the connection was lost, BusUnavailable if no answer came in time: then the outcome is
    unknown. `what` names it in errors.
    """
    decided: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

    def on_reply(reply: Reply | None) -> None:
        # An empty payload says "so far so good"; the first that says more decides.
        if not decided.done() and (reply is None or reply.payload or reply.status):
            decided.set_result(reply)

    size = sum(len(message.payload) for message in messages)
    answer_s = min(ANSWER_TIMEOUT_S + size / TAKEN_BYTES_S, connection.options.request_timeout_s)
    batch = uuid4().hex
    tokens: list[int] = []
    async with connection.deadline(what):
        session = await connection.session()
        try:
            for number, (message, own) in enumerate(zip(messages, headers, strict=True), 1):
                every = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number), **own}
                if number == len(messages):
                    every["Nats-Batch-Commit"] = "1"
                tokens.append(
                    session.send(message.subject, encode_headers(every), message.payload, on_reply)
                )
                if session.client.is_full:
                    await session.client.drain()
            # Its stream's leader may have been lost with it: nobody would say so.
            async with connection.deadline(what, answer_s):
                return await decided
        finally:
            for token in tokens:
                session.forget(token)


def is_for_want_of_a_leader(reply: Reply) -> bool:
    """Whether a batch was surely not stored, and because nobody leads the stream, or somebody has
    just begun to."""
    if reply.status == 503:
        return True
    return not reply.status and answer(reply)[1] in (BATCH_INCOMPLETE_CODE, NOT_AVAILABLE_CODE)
