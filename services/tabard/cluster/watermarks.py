"""How far everyone is: the ledger's head, the allocator's cursor, each node's watermark."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from tabard.bus.port import Bus, Stored, Stream
from tabard.cluster.errors import NotReached
from tabard.events.errors import EventError
from tabard.events.status import NodeStatus
from tabard.ledger.follow import follow
from tabard.ledger.messages import recorded, status_subject
from tabard.ledger.state import State


@dataclass(frozen=True, slots=True)
class Watermark:
    """What a node said last; `stored_at` in nanoseconds since the Unix epoch."""

    status: NodeStatus
    stored_at: int


def watermark(message: Stored) -> Watermark | None:
    """None for a message that is no readable NodeStatus: it counts as one that never came."""
    try:
        event = recorded(Stream.STATUS, message).event
    except EventError:
        return None
    return Watermark(event, message.stored_at) if isinstance(event, NodeStatus) else None


async def watermarks(bus: Bus, nodes: Iterable[str]) -> dict[str, Watermark]:
    """The last word of each of `nodes` that spoke."""
    names = list(nodes)
    found = await asyncio.gather(
        *(bus.last_on_subject(Stream.STATUS, status_subject(name)) for name in names)
    )
    said = (
        (name, watermark(message)) for name, message in zip(names, found, strict=True) if message
    )
    return {name: word for name, word in said if word is not None}


async def taken(bus: Bus, state: State, observed: int) -> None:
    """Fold the ledger into `state` until the allocator's cursor has passed OBSERVED/`observed`.

    Waits for ever: set a time-out around it. Stopped as `follow`.
    """
    if state.cursors.get(Stream.OBSERVED, 0) >= observed:
        return
    async with aclosing(follow(bus, state)) as records:
        async for _ in records:
            if state.cursors.get(Stream.OBSERVED, 0) >= observed:
                return


async def enforced(
    bus: Bus,
    sequence: int,
    nodes: Iterable[str],
    timeout_s: float,
    pods: Mapping[str, int] | None = None,
) -> None:
    """Wait until every one of `nodes` enforces LEDGER through `sequence`; NotReached if too slow.

    With `pods`, each node must have that many endpoints or more in its dataplane as well.
    """
    pods = pods or {}
    wanted = set(nodes)
    words: dict[str, Watermark] = {}
    behind = set(wanted)
    if not behind:
        return
    tail = bus.tail(Stream.STATUS, 1)
    try:
        async with asyncio.timeout(timeout_s):
            async for messages in tail:
                for word in filter(None, map(watermark, messages)):
                    words[word.status.node] = word
                behind = {
                    name
                    for name in wanted
                    if name not in words
                    or words[name].status.sequence < sequence
                    or words[name].status.endpoints < pods.get(name, 0)
                }
                if not behind:
                    return
    except TimeoutError as error:
        raise NotReached(
            f"not enforced through LEDGER/{sequence} within {timeout_s:g} s: "
            + "; ".join(_where(name, words.get(name)) for name in sorted(behind)),
            "tabard status",
        ) from error
    finally:
        await tail.aclose()


def _where(name: str, word: Watermark | None) -> str:
    if word is None:
        return f"node {name} said nothing yet"
    error = f" ({word.status.error})" if word.status.error else ""
    return f"node {name} is at {word.status.sequence} with {word.status.endpoints} pods{error}"
