"""Appending to the ledger: all or nothing, once, and never from a place that was lost."""

from collections.abc import Awaitable, Callable

import structlog

from tabard.bus.port import (
    Bus,
    BusError,
    BusUnavailable,
    Conflict,
    Outgoing,
    SequenceGap,
    Stored,
    Stream,
)

_log = structlog.get_logger()


class FencedError(Exception):
    """Another allocator leads. Nothing was written; this one must not decide any more."""


class LostError(Exception):
    """A stream ends before what it had acknowledged."""


async def append(
    bus: Bus,
    messages: list[Outgoing],
    expected_last: int,
    pause: Callable[[int], Awaitable[None]],
) -> None:
    """Store `messages` right behind `expected_last`, once, however often that must be tried.

    `pause(attempt)` waits before the next try (from 1). Raises FencedError if someone else wrote
    there, LostError if the ledger has become shorter.
    """
    attempt = 0
    while True:
        try:
            await bus.append(messages, expected_last)
            return
        except (Conflict, BusUnavailable) as error:
            # Even a conflict may be with ourselves: an append given up may be stored much later.
            stored = await _stored(bus, messages, expected_last, error)
            reason = str(error)
        # A batch is stored message by message, so readers see its beginning first; and should a
        # bus that died in the middle leave it at that, the rest must follow.
        messages, expected_last = messages[stored:], expected_last + stored
        if not messages:
            return
        attempt += 1
        _log.warning(
            "allocator.append_retried",
            sequence=expected_last + 1,
            messages=len(messages),
            attempt=attempt,
            reason=reason,
        )
        await pause(attempt)


async def _stored(bus: Bus, messages: list[Outgoing], expected_last: int, error: BusError) -> int:
    """How many of these very messages the ledger is seen to hold; 0 if that cannot be learnt."""
    try:
        found = await _behind(bus, expected_last, len(messages))
        if not found and isinstance(error, Conflict):
            last = await bus.last_sequence(Stream.LEDGER)
            if last < expected_last:
                raise LostError(
                    f"LEDGER ends at {last}, but {expected_last} was acknowledged: events are "
                    "lost or the bus was replaced; restore it before you start an allocator"
                )
    except BusUnavailable:
        return 0
    ours = [message.payload for message in messages[: len(found)]]
    if [message.payload for message in found] != ours:
        raise FencedError(
            f"LEDGER/{expected_last + 1} was written by someone else: another allocator leads"
        )
    return len(found)


async def _behind(bus: Bus, sequence: int, limit: int) -> list[Stored]:
    """What the ledger holds behind `sequence`; FencedError if that was trimmed away."""
    try:
        return await bus.read(Stream.LEDGER, sequence + 1, limit)
    except SequenceGap as error:
        first = await bus.first_sequence(Stream.LEDGER)
        if first <= sequence + 1:
            raise
        raise FencedError(
            f"LEDGER begins at {first}: another allocator led, and what it wrote from "
            f"{sequence + 1} on was trimmed away since"
        ) from error
