"""Publishing observed events, and learning from the ledger what became of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from tabard.bus.port import Bus, Stream
from tabard.cluster.errors import ClusterError, NotReached
from tabard.events import observed as events
from tabard.events.errors import EventError
from tabard.events.ledger import (
    CursorAdvanced,
    EndpointRelabelled,
    EndpointsRebound,
    EndpointUnbound,
    PodRefused,
    PolicyRefused,
    RebindPlanned,
    RelabelPlanned,
)
from tabard.ledger.messages import first_cause, observed, recorded
from tabard.policy.reading import CLUSTERWIDE_KINDS

Refused = PolicyRefused | PodRefused


@dataclass(frozen=True, slots=True)
class Published:
    """Where events went: their OBSERVED sequences, and LEDGER's last one before."""

    sequences: tuple[int, ...]
    ledger: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the allocator made of published events, complete through LEDGER/`ledger`."""

    ledger: int
    refused: tuple[Refused, ...]


def key_of(event: events.ObservedEvent) -> str:
    """The entity that an observed event is about: a pod's UID, or `Kind/namespace/name`."""
    match event:
        case events.PodStarted() | events.PodLabelsChanged() | events.PodStopped():
            return event.uid
        case events.NamespaceLabelsSet() | events.NamespaceRemoved():
            return f"Namespace//{event.name}"
        case events.NodeJoined() | events.NodeLeft():
            return f"Node//{event.name}"
        case events.PolicySet() | events.WorkloadSet():
            metadata = event.document.get("metadata") or {}
            kind = event.document.get("kind", "")
            place = "" if kind in CLUSTERWIDE_KINDS else metadata.get("namespace", "default")
            return f"{kind}/{place}/{metadata.get('name', '')}"
        case events.PolicyRemoved() | events.WorkloadRemoved():
            return f"{event.kind}/{event.namespace}/{event.name}"
        case events.NameAnswered():
            return event.name
        case events.QuarantineRequested():
            return f"{event.stream}/{event.sequence}"
        case events.TrimRequested():
            return f"LEDGER/{event.before}"
        case _:
            assert_never(event)


async def publish(bus: Bus, batch: Sequence[events.ObservedEvent]) -> Published:
    """Store `batch` on OBSERVED in order; returns once all of it is durable."""
    at = time.time_ns()
    before = await bus.last_sequence(Stream.LEDGER)
    try:
        messages = [observed(event, first_cause(key_of(event), at)) for event in batch]
    except ValueError as error:
        raise ClusterError(f"nothing was published: {error}") from error
    sequences = await bus.publish(Stream.OBSERVED, messages) if messages else []
    return Published(tuple(sequences), before)


async def outcome(bus: Bus, published: Published, timeout_s: float) -> Outcome:
    """Wait until the allocator's cursor has passed `published`, and what it planned for running
    pods is carried out; what of it was refused.

    NotReached if that takes longer than `timeout_s`.
    """
    if not published.sequences:
        return Outcome(published.ledger, ())
    wanted = {f"{Stream.OBSERVED}/{sequence}" for sequence in published.sequences}
    last = max(published.sequences)
    refused: list[Refused] = []
    planned: set[str] = set()
    is_taken = False
    tail = bus.tail(Stream.LEDGER, published.ledger + 1)
    try:
        async with asyncio.timeout(timeout_s):
            async for messages in tail:
                for message in messages:
                    record = recorded(Stream.LEDGER, message)
                    is_ours = record.envelope.cause in wanted
                    match record.event:
                        case PolicyRefused() | PodRefused() if is_ours:
                            refused.append(record.event)
                        case RelabelPlanned(uid) if is_ours:
                            planned.add(uid)
                        case RebindPlanned(_, changes) if is_ours:
                            planned.update(uid for uid, _ in changes)
                        case RelabelPlanned(uid) | EndpointRelabelled(uid) | EndpointUnbound(uid):
                            planned.discard(uid)  # a plan of someone else's is none of ours
                        case RebindPlanned(_, changes) | EndpointsRebound(_, changes):
                            planned.difference_update(uid for uid, _ in changes)
                        case CursorAdvanced(Stream.OBSERVED, sequence):
                            is_taken |= sequence >= last
                    if is_taken and not planned:
                        return Outcome(message.sequence, tuple(refused))
    except TimeoutError as error:
        raise NotReached(
            f"published through OBSERVED/{last}, but the allocator did not "
            f"{'carry it out' if is_taken else 'take it'} within {timeout_s:g} s",
            "tabard status",
        ) from error
    except EventError as error:
        raise ClusterError(
            f"published through OBSERVED/{last}, but its outcome cannot be read: {error}",
            "tabard events verify",
        ) from error
    finally:
        await tail.aclose()
    raise AssertionError("a tail never ends by itself")
