"""Envelopes of ledger events: which entity, what cause, whose story."""

from hashlib import blake2b
from typing import assert_never

from tabard.events import ledger as events
from tabard.events.envelope import Envelope, Recorded
from tabard.events.ledger import LedgerEvent
from tabard.events.observed import ObservedEvent

Cause = Recorded[ObservedEvent] | None
"""The observed event that a decision answers; None if it answers a clock or a start."""


def envelope(event: LedgerEvent, sequence: int, at: int, cause: Cause = None) -> Envelope:
    """The envelope of the event at LEDGER/`sequence`; the same for the same event at that place."""
    place = "" if cause is None else cause.place
    made = _hashed(f"{place} > LEDGER/{sequence}".encode())
    if cause is None:
        return Envelope(made, entity(event), at, "", made)
    story = cause.envelope.correlation or cause.envelope.id
    # Sources may send any length; what follows from it carries 16 bytes.
    return Envelope(
        made, entity(event), at, place, story if len(story) == len(made) else _hashed(story)
    )


def _hashed(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def entity(event: LedgerEvent) -> str:
    """What an event is about, as its envelope's key."""
    match event:
        case events.EpochClaimed():
            return event.holder
        case events.SettingsAdopted():
            return event.cluster
        case (
            events.NodeAdded()
            | events.NodeRemoved()
            | events.NodeRefused()
            | events.NodeLost()
            | events.NodeReturned()
        ):
            return event.name
        case events.NamespaceLabelled() | events.NamespaceForgotten():
            return event.name
        case events.NameResolved() | events.NameForgotten():
            return event.name
        case events.EndpointsRebound() | events.RebindPlanned():
            return event.namespace
        case events.IdentityAllocated() | events.IdentityRetired() | events.IdentityReleased():
            return str(event.identity)
        case (
            events.EndpointBound()
            | events.RelabelPlanned()
            | events.EndpointRelabelled()
            | events.EndpointUnbound()
            | events.EndpointTombstoned()
            | events.PodRefused()
        ):
            return event.uid
        case (
            events.PolicyAccepted()
            | events.PolicyRefused()
            | events.PolicyForgotten()
            | events.WorkloadAccepted()
            | events.WorkloadForgotten()
        ):
            return f"{event.kind}/{event.namespace}/{event.name}"
        case events.EventQuarantined():
            return f"{event.stream}/{event.sequence}"
        case events.LedgerTrimmed():
            return f"LEDGER/{event.before}"
        case events.CursorAdvanced():
            return event.stream
        case events.NumbersExhausted() | events.NumbersAvailable():
            return "numbers"
        case _:
            assert_never(event)
