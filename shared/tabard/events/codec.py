"""The one codec: events to bytes and back.

On the wire an event is one msgpack array `[type, version, id, key, occurred_at, cause,
correlation, data]`, and on LEDGER a ninth element, the chain hash (`tabard.events.chain`). `data`
maps field names to values, so that a field can be added with a default and an upcaster can see
what an old version wrote.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NotRequired, get_args, get_type_hints

import msgpack
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from tabard.events import ledger, observed, status
from tabard.events.envelope import Envelope, Recorded
from tabard.events.errors import NewerVersionError, UndecodableError, UnknownTypeError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

ENVELOPE_FIELDS = 8
MESSAGE_BYTES_MAX = (1 << 20) - 4096 - 18
"""Largest event in bytes: what the bus takes (its port's PAYLOAD_BYTES_MAX) less a chain hash."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Type:
    name: str
    version: int
    cls: type
    fields: tuple[str, ...]


TYPES: Mapping[type, tuple[str, int]] = {
    observed.PodStarted: ("pod.started", 1),
    observed.PodLabelsChanged: ("pod.labels_changed", 1),
    observed.PodStopped: ("pod.stopped", 1),
    observed.NamespaceLabelsSet: ("namespace.labels_set", 1),
    observed.NamespaceRemoved: ("namespace.removed", 1),
    observed.PolicySet: ("policy.set", 1),
    observed.PolicyRemoved: ("policy.removed", 1),
    observed.NodeJoined: ("node.joined", 2),
    observed.NodeLeft: ("node.left", 1),
    observed.WorkloadSet: ("workload.set", 1),
    observed.WorkloadRemoved: ("workload.removed", 1),
    observed.NameAnswered: ("name.answered", 1),
    observed.QuarantineRequested: ("quarantine.requested", 1),
    observed.TrimRequested: ("trim.requested", 1),
    ledger.EpochClaimed: ("epoch.claimed", 1),
    ledger.SettingsAdopted: ("settings.adopted", 2),
    ledger.NodeAdded: ("node.added", 2),
    ledger.NodeRemoved: ("node.removed", 1),
    ledger.NodeRefused: ("node.refused", 1),
    ledger.NodeLost: ("node.lost", 1),
    ledger.NodeReturned: ("node.returned", 1),
    ledger.NamespaceLabelled: ("namespace.labelled", 1),
    ledger.NamespaceForgotten: ("namespace.forgotten", 1),
    ledger.IdentityAllocated: ("identity.allocated", 1),
    ledger.IdentityRetired: ("identity.retired", 1),
    ledger.IdentityReleased: ("identity.released", 1),
    ledger.NumbersExhausted: ("numbers.exhausted", 1),
    ledger.NumbersAvailable: ("numbers.available", 1),
    ledger.EndpointBound: ("endpoint.bound", 1),
    ledger.RelabelPlanned: ("endpoint.relabel_planned", 1),
    ledger.RebindPlanned: ("endpoint.rebind_planned", 1),
    ledger.EndpointRelabelled: ("endpoint.relabelled", 2),
    ledger.EndpointsRebound: ("endpoint.rebound", 2),
    ledger.EndpointUnbound: ("endpoint.unbound", 1),
    ledger.EndpointTombstoned: ("endpoint.tombstoned", 1),
    ledger.PodRefused: ("pod.refused", 1),
    ledger.PolicyAccepted: ("policy.accepted", 1),
    ledger.PolicyRefused: ("policy.refused", 1),
    ledger.PolicyForgotten: ("policy.forgotten", 1),
    ledger.WorkloadAccepted: ("workload.accepted", 1),
    ledger.WorkloadForgotten: ("workload.forgotten", 1),
    ledger.NameResolved: ("name.resolved", 1),
    ledger.NameForgotten: ("name.forgotten", 1),
    ledger.EventQuarantined: ("quarantine.recorded", 1),
    ledger.LedgerTrimmed: ("ledger.trimmed", 1),
    ledger.CursorAdvanced: ("cursor.advanced", 1),
    status.NodeStatus: ("node.status", 2),
    status.AllocatorStatus: ("allocator.status", 1),
    status.FlowSeen: ("flow.seen", 1),
    status.FlowsSeen: ("flows.seen", 1),
}
"""Every event type with its name on the wire and its current version."""


def _as_it_was(data: dict[str, Any]) -> dict[str, Any]:
    """The next version has a field more, whose default is what this one meant."""
    return data


UPCASTERS: Mapping[tuple[str, int], Upcaster] = {
    ("node.joined", 1): _as_it_was,
    ("node.added", 1): _as_it_was,
    ("settings.adopted", 1): _as_it_was,
    ("node.status", 1): _as_it_was,
    ("endpoint.relabelled", 1): _as_it_was,
    ("endpoint.rebound", 1): _as_it_was,
}
"""(type, old version) → function from that version's data to the next one's."""

_STRICT = ConfigDict(strict=True, extra="forbid")


@cache
def _validator(cls: type) -> Callable[[Any], Any]:
    """Checks a map of fields against the dataclass's annotations, strictly.

    Built for the first event of its type: a process sees few of the types, and each takes memory.
    """
    hints = get_type_hints(cls, include_extras=True)
    optional = {
        field.name for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING
    }
    shape = TypedDict(  # type: ignore[misc]
        cls.__name__,
        {name: NotRequired[hint] if name in optional else hint for name, hint in hints.items()},
    )
    return TypeAdapter(with_config(_STRICT)(shape)).validate_python


@cache
def _by_class() -> dict[type, _Type]:
    return {
        cls: _Type(
            name,
            version,
            cls,
            tuple(field.name for field in dataclasses.fields(cls)),
        )
        for cls, (name, version) in TYPES.items()
    }


@cache
def _by_name() -> dict[str, _Type]:
    return {kind.name: kind for kind in _by_class().values()}


def type_name(event: object) -> str:
    """The event's type as it stands on the wire and in subjects."""
    return TYPES[type(event)][0]


def encode(event: Any, envelope: Envelope) -> bytes:
    """One event as the bytes that the bus stores; ValueError if larger than the bus takes."""
    kind = _by_class()[type(event)]
    data = {field: getattr(event, field) for field in kind.fields}
    packed: bytes = msgpack.packb(
        (
            kind.name,
            kind.version,
            envelope.id,
            envelope.key,
            envelope.occurred_at,
            envelope.cause,
            envelope.correlation,
            data,
        )
    )
    if len(packed) > MESSAGE_BYTES_MAX:
        raise ValueError(
            f"{kind.name} for {envelope.key!r} has {len(packed)} bytes, more than the "
            f"{MESSAGE_BYTES_MAX} that the bus takes; make it smaller (fewer labels or rules)"
        )
    return packed


def decode(
    payload: bytes,
    stream: str,
    sequence: int,
    stored_at: int = 0,
    *,
    types: Mapping[str, _Type] | None = None,
    upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
) -> Recorded[Any]:
    """The event that `payload` holds, at its place.

    Raises UndecodableError, UnknownTypeError or NewerVersionError, each naming the place.
    """
    place = f"{stream}/{sequence}"
    try:
        parts = msgpack.unpackb(payload, use_list=False, strict_map_key=True)
    except Exception as error:  # msgpack raises many unrelated types on bad bytes
        raise UndecodableError(f"{place}: not msgpack ({error})") from error
    if not isinstance(parts, tuple) or len(parts) not in (ENVELOPE_FIELDS, ENVELOPE_FIELDS + 1):
        raise UndecodableError(f"{place}: not an event envelope of {ENVELOPE_FIELDS} fields")
    name, version, event_id, key, occurred_at, cause, correlation, data = parts[:ENVELOPE_FIELDS]
    if not (
        type(name) is str
        and type(version) is int
        and type(event_id) is bytes
        and type(key) is str
        and type(occurred_at) is int
        and type(cause) is str
        and type(correlation) is bytes
        and type(data) is dict
    ):
        raise UndecodableError(f"{place}: an envelope field has the wrong type")
    kind = (_by_name() if types is None else types).get(name)
    if kind is None:
        raise UnknownTypeError(
            f"{place}: event type {name!r} is unknown to this release; upgrade the reader"
        )
    if version > kind.version:
        raise NewerVersionError(
            f"{place}: {name} is of version {version}, this release reads up to {kind.version}; "
            "upgrade the reader"
        )
    known = UPCASTERS if upcasters is None else upcasters
    for old in range(version, kind.version):
        upcast = known.get((name, old))
        if upcast is None:
            raise UndecodableError(f"{place}: no upcaster from {name} version {old}")
        try:
            data = upcast(data)
        except Exception as error:  # whatever an upcaster meets in data that it was not written for
            raise UndecodableError(
                f"{place}: {name} version {old} is not as that version was ({error!r})"
            ) from error
    try:
        event = kind.cls(**_validator(kind.cls)(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UndecodableError(f"{place}: {name}.{where}: {first['msg']}") from error
    except RecursionError as error:
        raise UndecodableError(f"{place}: {name}: its document is nested too deeply") from error
    envelope = Envelope(event_id, key, occurred_at, cause, correlation)
    return Recorded(stream, sequence, envelope, event, stored_at)


# Every member of the unions is in TYPES: a new event without a name fails at import.
for _union in (observed.ObservedEvent, ledger.LedgerEvent, status.StatusEvent):
    assert set(get_args(_union)) <= set(TYPES), "an event type has no name in TYPES"
