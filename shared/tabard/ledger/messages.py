"""Events as bus messages: which subject, which id, and the chain hash on LEDGER.

The bus holds each writer to the subjects that are its own, so what a message says counts only on
its own subject (`recorded`); the name of the node that speaks is part of it.
"""

import re
import uuid
from collections.abc import Iterable
from typing import Any, assert_never, get_args

from tabard.bus.port import Outgoing, Stored, Stream, subject
from tabard.events import chain
from tabard.events.codec import TYPES, decode, encode, type_name
from tabard.events.envelope import Envelope, Recorded
from tabard.events.errors import EventError, MisplacedError
from tabard.events.ledger import EventQuarantined, LedgerEvent
from tabard.events.observed import NameAnswered, NodeJoined, ObservedEvent, QuarantineRequested
from tabard.events.status import AllocatorStatus, FlowSeen, FlowsSeen, NodeStatus, StatusEvent

BY_NODES = (NodeJoined, NameAnswered)
"""What nodes say on OBSERVED, each of itself."""


def first_cause(key: str, at: int, event_id: bytes | None = None) -> Envelope:
    """The envelope of an event that starts a story: its own id is the correlation."""
    event_id = event_id or uuid.uuid4().bytes
    return Envelope(event_id, key, at, "", event_id)


def observed(event: ObservedEvent, envelope: Envelope) -> Outgoing:
    """`event` as a message for OBSERVED; published twice with one envelope, it is stored once."""
    return Outgoing(observed_subject(event), encode(event, envelope), envelope.id.hex())


def observed_subject(event: ObservedEvent) -> str:
    """The only subject on which `event` counts."""
    match event:
        case QuarantineRequested(stream, sequence):
            return quarantine_subject(Stream.OBSERVED, stream, sequence)
        case NodeJoined(node) | NameAnswered(node):
            return subject(Stream.OBSERVED, TYPES[type(event)][0], node_token(node))
        case _:
            return subject(Stream.OBSERVED, type_name(event))


def holds_up(message: Stored, error: EventError) -> bool:
    """Whether the allocator stops before this message of OBSERVED, unreadable because of `error`.

    By no more than nodes may write, and by nothing on another subject than its own, is anybody held
    up: that is refused.
    """
    return not (isinstance(error, MisplacedError) or speaker(message))


def speaker(message: Stored) -> str:
    """The token of the node whose own subject of OBSERVED a message came on; "" if on none's."""
    return message.subject.rpartition(".")[2] if message.subject.startswith(_BY_NODES) else ""


_BY_NODES = tuple(subject(Stream.OBSERVED, TYPES[kind][0]) + "." for kind in BY_NODES)


def status(event: NodeStatus | AllocatorStatus, envelope: Envelope) -> Outgoing:
    """`event` as a message for STATUS, where the last one of each node and allocator is kept."""
    return Outgoing(_status_subject(event), encode(event, envelope))


def status_subject(node: str) -> str:
    """Where the last word of `node` is kept."""
    return subject(Stream.STATUS, "node", node_token(node))


def flows(event: FlowsSeen, envelope: Envelope) -> Outgoing:
    """`event` as a message for FLOWS."""
    return Outgoing(flows_subject(event.node), encode(event, envelope))


def flows_subject(node: str) -> str:
    """Where the flows that `node` saw are."""
    return subject(Stream.FLOWS, node_token(node))


def node_token(node: str) -> str:
    """A node's or allocator's name as one token of a subject: no two names have the same.

    A dot is `_`, and what a node's name cannot hold anyway is its bytes in hex, as `=5F`.
    """
    return _NO_TOKEN.sub(_escaped, node)


_NO_TOKEN = re.compile(r"[^A-Za-z0-9-]")


def _escaped(found: re.Match[str]) -> str:
    if found[0] == ".":
        return "_"
    return "".join(f"={byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


def _status_subject(event: StatusEvent) -> str:
    match event:
        case NodeStatus():
            return status_subject(event.node)
        case AllocatorStatus():
            return allocator_subject(event.name)
        case FlowSeen() | FlowsSeen():
            return flows_subject(event.node)
        case _:
            assert_never(event)


def allocator_subject(name: str) -> str:
    """Where the last word of the allocator `name` is kept; no node's name has two tokens."""
    return subject(Stream.STATUS, "allocator", node_token(name))


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


_EVENTS = {
    Stream.OBSERVED: frozenset(get_args(ObservedEvent)),
    Stream.LEDGER: frozenset(get_args(LedgerEvent)),
    Stream.STATUS: frozenset(get_args(StatusEvent)),
    Stream.FLOWS: frozenset(get_args(StatusEvent)),
}


def recorded(stream: Stream, message: Stored) -> Recorded[Any]:
    """The event that a stored message holds; EventError if it holds none that can be read.

    MisplacedError for one that is another stream's, or did not come on its own subject. On LEDGER
    only leading allocators write, and the chain holds them.
    """
    record: Recorded[Any] = decode(message.payload, stream, message.sequence, message.stored_at)
    if type(record.event) not in _EVENTS[stream]:
        raise MisplacedError(f"{record.place}: {type_name(record.event)} is no event of {stream}")
    if stream is not Stream.LEDGER:
        event = record.event
        own = _status_subject(event) if isinstance(event, StatusEvent) else observed_subject(event)
        if message.subject != own:
            raise MisplacedError(
                f"{record.place}: {type_name(event)} came on {message.subject}, but its own "
                f"subject is {own}: it may have been written by someone who may not say this"
            )
    return record
