"""The state as bytes and back, for checkpoints.

A snapshot is a list of chunks: the first is the header, each other one a piece of one section of
the state. What can be derived (the indexes) is derived again. Endpoints, of which there may be a
million, stand column by column, after a table of the values that many of them share. A snapshot
only saves replay time: a reader that cannot take one throws it away and folds the ledger.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, TypeVar

import msgpack

from tabard.events.ledger import (
    NodeRefused,
    NumbersExhausted,
    PodRefused,
    PolicyAccepted,
    PolicyRefused,
    SettingsAdopted,
    WorkloadAccepted,
)
from tabard.identity.labels import LabelSet
from tabard.ledger.state import (
    EndpointState,
    Identity,
    LostNode,
    Node,
    Relabel,
    State,
    shared,
)

SCHEMA = 6
"""Version of this form; a change of State or of a type that it holds takes the next number."""
CHUNK_ROWS = 4_096
"""Most rows in one chunk."""

_ENDPOINT = tuple(field.name for field in dataclasses.fields(EndpointState))
_SHARED = frozenset({"namespace", "node", "labels", "service_account", "ports", "owner"})
"""Endpoint fields with few different values: their columns hold places in the table of values."""

T = TypeVar("T")


class SnapshotError(Exception):
    """The bytes are no snapshot that this release can take: delete it and fold the ledger."""


def freeze(state: State) -> list[bytes]:
    """`state` as chunks that share nothing with it. About 1 µs an endpoint."""
    places: dict[Any, int] = {}
    endpoints = [
        msgpack.packb(("endpoints", _columns(some, places)))
        for some in _chunked(state.endpoints.values())
    ]
    sections: dict[str, Iterable[Any]] = {
        "cursors": state.cursors.items(),
        "nodes": map(_row, state.nodes.values()),
        "lost": map(_row, state.lost.values()),
        "refused_nodes": map(_row, state.refused_nodes.values()),
        "namespaces": ((name, tuple(pairs.items())) for name, pairs in state.namespaces.items()),
        "identities": ((number, *_row(held)) for number, held in state.identities.items()),
        "retired": state.retired.items(),
        "doubtful": state.doubtful.items(),
        "exhausted": [] if state.exhausted is None else [_row(state.exhausted)],
        "idle": state.idle,
        "relabels": map(_row, state.relabels.values()),
        "tombstones": state.tombstones.items(),
        "waiting": map(_row, state.waiting.values()),
        "refused_pods": map(_row, state.refused_pods.values()),
        "policies": map(_document_row, state.policies.values()),
        "refused_policies": map(_row, state.refused_policies.values()),
        "workloads": map(_document_row, state.workloads.values()),
        "names": ((name, tuple(held.items())) for name, held in state.names.items()),
        "quarantined": ((*place, reason) for place, reason in state.quarantined.items()),
        "shared": places,
    }
    chunks = [
        msgpack.packb((name, rows)) for name, every in sections.items() for rows in _chunked(every)
    ]
    chunks += endpoints
    digest = blake2b(digest_size=16)
    for chunk in chunks:
        digest.update(chunk)
    settings = None if state.settings is None else _row(state.settings)
    head = (state.sequence, state.chain, state.epoch, state.holder, settings, digest.digest())
    packed = msgpack.packb(head)
    return [msgpack.packb((SCHEMA, packed, blake2b(packed, digest_size=16).digest())), *chunks]


def thaw(chunks: Sequence[bytes]) -> State:
    """The state that `freeze` was given. SnapshotError on anything else than what it returned."""
    try:
        return _thaw(chunks)
    except SnapshotError:
        raise
    except Exception as error:  # bytes of unknown origin fail in ways of any type
        raise SnapshotError(f"the snapshot cannot be read ({error!r})") from error


def _thaw(chunks: Sequence[bytes]) -> State:
    if not chunks:
        raise SnapshotError("the snapshot is empty")
    schema, packed, check = _unpack(chunks[0])
    if schema != SCHEMA:
        raise SnapshotError(f"the snapshot has schema {schema!r}, this release reads {SCHEMA}")
    digest = blake2b(digest_size=16)
    for chunk in chunks[1:]:
        digest.update(chunk)
    sequence, chain, epoch, holder, settings, claimed = _unpack(packed)
    if blake2b(packed, digest_size=16).digest() != check or digest.digest() != claimed:
        raise SnapshotError("the snapshot was changed or is not whole: its digest differs")
    rows: dict[str, list[Any]] = {}
    values: list[Any] = []
    state = State(sequence=sequence, chain=chain, epoch=epoch, holder=holder)
    for chunk in chunks[1:]:
        name, part = _unpack(chunk)
        if name == "endpoints":
            _add_endpoints(state, part, values)
        elif name == "shared":
            values.extend(map(shared, part))
        else:
            rows.setdefault(name, []).extend(part)

    def section(name: str, take: Callable[..., T]) -> Iterator[T]:
        return (take(*row) for row in rows.get(name, ()))

    state.settings = None if settings is None else SettingsAdopted(*settings)
    state.cursors = dict(rows.get("cursors", ()))
    state.nodes = {node.name: node for node in section("nodes", Node)}
    state.lost = {node.name: node for node in section("lost", LostNode)}
    state.refused_nodes.update((node.name, node) for node in section("refused_nodes", NodeRefused))
    state.namespaces = {name: dict(pairs) for name, pairs in rows.get("namespaces", ())}
    for number, labels, *rest in rows.get("identities", ()):
        held = LabelSet(tuple(map(shared, labels)))
        state.identities[number] = Identity(held, *rest)
        state.numbers[held] = number
    state.retired = dict(rows.get("retired", ()))
    state.doubtful = dict(rows.get("doubtful", ()))
    state.exhausted = next(section("exhausted", NumbersExhausted), None)
    state.idle = dict.fromkeys(rows.get("idle", ()))
    state.relabels = {plan.uid: plan for plan in section("relabels", Relabel)}
    state.tombstones.update(rows.get("tombstones", ()))
    state.waiting = {pod.uid: pod for pod in section("waiting", PodRefused)}
    state.refused_pods.update((pod.uid, pod) for pod in section("refused_pods", PodRefused))
    for accepted in section("policies", _with_document(PolicyAccepted)):
        state.policies[(accepted.kind, accepted.namespace, accepted.name)] = accepted
    for refused in section("refused_policies", PolicyRefused):
        state.refused_policies[(refused.kind, refused.namespace, refused.name)] = refused
    for workload in section("workloads", _with_document(WorkloadAccepted)):
        state.workloads[(workload.kind, workload.namespace, workload.name)] = workload
    state.names = {name: dict(held) for name, held in rows.get("names", ())}
    state.quarantined = {
        (stream, number): reason for stream, number, reason in rows.get("quarantined", ())
    }
    return state


def _columns(endpoints: list[EndpointState], places: dict[Any, int]) -> list[Any]:
    """One column for each field: its values, or for a shared field their `places` in the table, to
    which new ones are added."""
    columns: list[Any] = []
    for name in _ENDPOINT:
        column = list(map(attrgetter(name), endpoints))
        if name in _SHARED:
            column = [places.setdefault(value, len(places)) for value in column]
        columns.append(column)
    return columns


def _add_endpoints(state: State, part: tuple[Any, ...], values: list[Any]) -> None:
    columns: dict[str, Sequence[Any]] = {}
    for name, column in zip(_ENDPOINT, part, strict=True):
        if name in _SHARED:
            column = list(map(values.__getitem__, column))
        columns[name] = column
    uids = columns["uid"]
    state.endpoints.update(zip(uids, map(EndpointState, *columns.values()), strict=True))
    for uid, addresses in zip(uids, columns["addresses"], strict=True):
        for address in addresses:
            state.bindings[address] = uid
    for index, name in ((state.by_node, "node"), (state.by_namespace, "namespace")):
        for uid, key in zip(uids, columns[name], strict=True):
            if key in index:
                index[key][uid] = None
            else:
                index[key] = {uid: None}


def _row(value: Any) -> tuple[Any, ...]:
    return tuple([getattr(value, name) for name in value.__slots__])


def _document_row(value: PolicyAccepted | WorkloadAccepted) -> tuple[Any, ...]:
    # Packed on its own: a document's lists must come back as lists, all other arrays as tuples.
    packed = msgpack.packb(value.document)
    return (value.kind, value.namespace, value.name, packed, value.origin)


def _with_document(cls: Callable[..., T]) -> Callable[..., T]:
    def take(kind: str, namespace: str, name: str, packed: bytes, origin: str) -> T:
        document = msgpack.unpackb(packed, strict_map_key=False)
        return cls(kind=kind, namespace=namespace, name=name, document=document, origin=origin)

    return take


def _unpack(chunk: bytes) -> Any:
    return msgpack.unpackb(chunk, use_list=False, strict_map_key=False)


def _chunked(rows: Iterable[Any]) -> Iterator[list[Any]]:
    every = list(rows)
    for start in range(0, len(every), CHUNK_ROWS):
        yield every[start : start + CHUNK_ROWS]


# Rows are read back by position, so every one of these must be a slotted dataclass.
for _cls in (
    *(Identity, EndpointState, Node, LostNode, Relabel, NodeRefused, NumbersExhausted),
    *(PodRefused, PolicyRefused, SettingsAdopted),
):
    assert tuple(field.name for field in dataclasses.fields(_cls)) == tuple(_cls.__slots__)
