"""Events as bus messages: which subject, which id, and the chain hash on LEDGER."""

import uuid
from collections.abc import Iterable
from typing import Any

from tabard.bus.port import Outgoing, Stored, Stream, subject
from tabard.events import chain
from tabard.events.codec import TYPES, decode, encode, type_name
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import EventQuarantined, LedgerEvent
from tabard.events.observed import ObservedEvent, QuarantineRequested
from tabard.events.status import AllocatorStatus, NodeStatus


def first_cause(key: str, at: int, event_id: bytes | None = None) -> Envelope:
    """The envelope of an event that starts a story: its own id is the correlation."""
    event_id = event_id or uuid.uuid4().bytes
    return Envelope(event_id, key, at, "", event_id)


def observed(event: ObservedEvent, envelope: Envelope) -> Outgoing:
    """`event` as a message for OBSERVED; published twice with one envelope, it is stored once."""
    if isinstance(event, QuarantineRequested):
        to = quarantine_subject(Stream.OBSERVED, event.stream, event.sequence)
    else:
        to = subject(Stream.OBSERVED, type_name(event))
    return Outgoing(to, encode(event, envelope), envelope.id.hex())


def status(event: NodeStatus | AllocatorStatus, envelope: Envelope) -> Outgoing:
    """`event` as a message for STATUS, where the last one of each node and allocator is kept."""
    if isinstance(event, AllocatorStatus):
        return Outgoing(allocator_subject(event.name), encode(event, envelope))
    return Outgoing(status_subject(event.node), encode(event, envelope))


def status_subject(node: str) -> str:
    """Where the last word of `node` is kept."""
    return subject(Stream.STATUS, node.replace(".", "_"))


def allocator_subject(name: str) -> str:
    """Where the last word of the allocator `name` is kept; no node's name has two tokens."""
    return subject(Stream.STATUS, "allocator", name.replace(".", "_"))


def sealed(
    previous: bytes, batch: Iterable[tuple[LedgerEvent, Envelope]]
) -> tuple[list[Outgoing], bytes]:
    """A batch for LEDGER, chained to the event of chain hash `previous`; and its own last hash."""
    messages = []
    for event, envelope in batch:
        payload, previous = chain.link(previous, encode(event, envelope))
        messages.append(Outgoing(_ledger_subject(event), payload))
    return messages, previous


def _ledger_subject(event: LedgerEvent) -> str:
    if isinstance(event, EventQuarantined):
        return quarantine_subject(Stream.LEDGER, event.stream, event.sequence)
    return subject(Stream.LEDGER, type_name(event))


def quarantine_subject(on: Stream, stream: str, sequence: int) -> str:
    """Where a reader that is stopped before `stream`/`sequence` looks for leave to go on.

    On OBSERVED stands the operator's request, on LEDGER the allocator's record of it.
    """
    kind = QuarantineRequested if on is Stream.OBSERVED else EventQuarantined
    return subject(on, TYPES[kind][0], stream, str(sequence))


def recorded(stream: Stream, message: Stored) -> Recorded[Any]:
    """The event that a stored message holds; EventError if it holds none that can be read."""
    return decode(message.payload, stream, message.sequence, message.stored_at)
