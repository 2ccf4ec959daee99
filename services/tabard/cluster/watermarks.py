"""How far everyone is: the ledger's head, the allocator's cursor, each node's watermark."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from tabard.bus.port import Bus, Stored, Stream
from tabard.cluster.errors import NotReached
from tabard.events.errors import EventError
from tabard.events.status import NodeStatus
from tabard.ledger.follow import follow
from tabard.ledger.messages import recorded, status_subject
from tabard.ledger.state import State

SILENT_BEATS, SILENT_S = 5, 15.0
"""A node whose agent said nothing for so many heartbeats, and so long, is not live: its agent is
down, or cut off. Its kernel goes on enforcing what it had."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """What a node said last; `stored_at` in nanoseconds since the Unix epoch."""

    status: NodeStatus
    stored_at: int


def silent(word: Watermark, now: int) -> bool:
    """Whether the node said nothing for as long as SILENT_S says; `now` by the bus's clock."""
    silent_s = max(SILENT_S, SILENT_BEATS * word.status.heartbeat_ms / 1000)
    return now - word.stored_at > silent_s * 1e9


def speaks(word: Watermark, now: int) -> bool:
    """Whether the node's agent is there: it did not say that it stops, and is not silent."""
    return not word.status.stopped and not silent(word, now)


def stale_since(word: Watermark, now: int) -> int | None:
    """When what the node knows of the ledger became too old; None if it did not.

    While its agent speaks it says so itself; after that its kernel goes by what it last knew.
    """
    said = word.status
    if said.stale_since:
        return said.stale_since
    if not said.fresh_at or speaks(word, now):
        return None
    bound_ms = min(filter(None, (said.stale_after_ms, said.deny_after_ms)), default=0)
    since = said.fresh_at + bound_ms * 1_000_000
    return since if bound_ms and since < now else None


def denies_new(word: Watermark, now: int) -> bool:
    """Whether it is so old that some pods of the node open no new flows."""
    said = word.status
    if not said.deny_after_ms or stale_since(word, now) is None:
        return False
    return now - said.fresh_at > said.deny_after_ms * 1_000_000


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
    """Fold the ledger into `state` until the allocator's cursor has passed OBSERVED/`observed`, and
    what was planned for running pods by then is carried out.

    Waits for ever: set a time-out around it. Stopped as `follow`.
    """
    planned: set[str] | None = None

    def is_done() -> bool:
        nonlocal planned
        if planned is None and state.cursors.get(Stream.OBSERVED, 0) >= observed:
            planned = set(state.relabels)
        if planned is not None:
            planned &= state.relabels.keys()
        return planned is not None and not planned

    if is_done():
        return
    async with aclosing(follow(bus, state)) as records:
        async for _ in records:
            if is_done():
                return


def lagging(
    words: Mapping[str, Watermark],
    nodes: Iterable[str],
    sequence: int,
    pods: Mapping[str, int] | None = None,
) -> set[str]:
    """Those of `nodes` that do not enforce LEDGER through `sequence`, or lack endpoints."""
    pods = pods or {}
    return {
        name
        for name in nodes
        if name not in words
        or words[name].status.sequence < sequence
        or words[name].status.endpoints < pods.get(name, 0)
    }


def all_silent(
    words: Mapping[str, Watermark], nodes: Collection[str], behind: Collection[str], now: int
) -> bool:
    """Whether all that are `behind` are silent; false if so is every node: then nobody is live."""
    quiet = {name for name in nodes if name in words and silent(words[name], now)}
    return quiet.issuperset(behind) and len(quiet) < len(nodes)


async def enforced(
    bus: Bus,
    sequence: int,
    nodes: Iterable[str],
    timeout_s: float,
    pods: Mapping[str, int] | None = None,
    *,
    everyone: bool = True,
    heard: Callable[[Mapping[str, Watermark]], None] = lambda words: None,
) -> frozenset[str]:
    """Wait until every one of `nodes` enforces LEDGER through `sequence`; NotReached if too slow.

    With `pods`, each node must have that many endpoints or more in its dataplane as well. Unless
    `everyone`, nodes that fall silent are not waited for, as long as one is live; gives those.
    `heard` is told what all of them said last, as it comes.
    """
    wanted = set(nodes)
    words: dict[str, Watermark] = {}
    behind = set(wanted)
    if not behind:
        return frozenset()
    now = 0
    tail = bus.tail(Stream.STATUS, 1)
    try:
        async with asyncio.timeout(timeout_s):
            now = (await bus.info(Stream.STATUS)).now
            async for messages in tail:
                for word in filter(None, map(watermark, messages)):
                    words[word.status.node] = word
                now = max(now, messages[-1].stored_at)
                heard(words)
                behind = lagging(words, wanted, sequence, pods)
                if not behind or (not everyone and all_silent(words, wanted, behind, now)):
                    return frozenset(behind)
    except TimeoutError as error:
        raise NotReached(
            f"not enforced through LEDGER/{sequence} within {timeout_s:g} s: "
            + "; ".join(_where(name, words.get(name), now) for name in sorted(behind)),
            "tabard status",
        ) from error
    finally:
        await tail.aclose()
    raise AssertionError("a tail never ends by itself")


def _where(name: str, word: Watermark | None, now: int) -> str:
    if word is None:
        return f"node {name} said nothing yet"
    error = f" ({word.status.error})" if word.status.error else ""
    since = f", silent for {(now - word.stored_at) / 1e9:.0f} s" if silent(word, now) else ""
    at, pods = word.status.sequence, word.status.endpoints
    return f"node {name} is at {at} with {pods} pods{since}{error}"
