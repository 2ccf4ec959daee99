"""The digest of a state: 16 bytes that two readers of one ledger compare at one sequence.

It is taken over a form of the state that is spelt out here, and depends on nothing else: not on
snapshots, on the order of classes' fields, or on the order in which a dictionary was filled. The
form is a set of rows; a row is a section's name and the values of that section's columns, in the
order of `COLUMNS`. Where order decides something (who falls due first), a row's place in it is the
first column. Each row is packed (msgpack, as on the wire) and hashed to a number, and the digest is
a hash of their sum, so rows may be taken in any order, and a part at a time.

    row(r)  = BLAKE2b-256(msgpack([section, *values]))
    digest  = BLAKE2b-128("tabard state 1" + (sum of row(r) over all rows r, modulo 2^256))

A digest once given to a ledger stays for ever (tests/golden holds some). So `COLUMNS` only grows: a
field added to the state later becomes a section of its own, such as `"endpoint.zone": ("uid",
"zone")`, with a row only where the value is not the field's default. A ledger from before the field
has none of those, and keeps its digest. Should this form ever have to go, its successor is a second
function with another "state 2" before the sum, and NodeStatus says by a field which one it bears.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgpack

from tabard.ledger.state import State

Row = tuple[Any, ...]

_FORM = b"tabard state 1"
_NAMES_KEPT_MS = 3_600_000
"""The default when the field came."""
_REFUSED_POD = (
    *("uid", "namespace", "name", "reason", "retry", "node", "addresses", "labels", "started_at"),
    *("service_account", "ports", "owner", "host_network"),
)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "ledger": ("sequence", "chain"),
    "leader": ("epoch", "holder"),
    "settings": (
        *("cluster", "cluster_id", "cluster_bits", "include", "exclude", "fixed"),
        "retire_grace_ms",
    ),
    "settings.enforcement": ("enforcement",),
    "cursor": ("stream", "sequence"),
    "node": ("name", "addresses", "pod_cidrs"),
    "node.labels": ("name", "labels"),
    "namespace": ("name", "labels"),
    "identity": ("number", "labels", "allocated_at", "users", "idle_since"),
    "retired": ("number", "sequence"),
    "idle": ("place", "number"),
    "endpoint": (
        *("uid", "namespace", "name", "node", "identity", "addresses", "labels", "started_at"),
        *("service_account", "ports", "owner", "host_network", "bound_at"),
    ),
    "binding": ("address", "uid"),
    "tombstone": ("uid", "sequence"),
    "waiting": ("place", *_REFUSED_POD),
    "refused_pod": ("place", *_REFUSED_POD),
    "policy": ("kind", "namespace", "name", "document", "origin"),
    "refused_policy": ("place", "kind", "namespace", "name", "reason", "origin"),
    "workload": ("kind", "namespace", "name", "document", "origin"),
    "quarantined": ("stream", "sequence", "reason"),
    "settings.names_kept_ms": ("names_kept_ms",),
    "name": ("name", "address", "expires_at"),
    "lost_node": ("name", "watermark", "lost_at"),
    "refused_node": ("place", "name", "addresses", "pod_cidrs", "labels", "reason"),
    "doubtful": ("number", "sequence"),
    "exhausted": ("identities", "heaviest"),
    "relabel": ("place", "uid", "identity", "labels", "planned_at", "since"),
}
"""Section → its columns. Maps in a value are sorted by key; addresses and labels are text."""


def digest(state: State) -> bytes:
    """The digest of `state`, 16 bytes. Some 2 µs an endpoint."""
    total = Sum()
    total.add(rows(state))
    return total.digest()


class Sum:
    """A digest in the making, for who cannot spare the time at once."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Take in rows, each of which must be taken in once."""
        pack, number = msgpack.Packer().pack, int.from_bytes
        begun = blake2b(digest_size=32).copy  # a copy costs less than a beginning
        total = self._sum
        for row in rows:
            hashed = begun()
            hashed.update(pack(row))
            total += number(hashed.digest(), "big")
        self._sum = total

    def digest(self) -> bytes:
        """The digest of all rows that were taken in."""
        total = self._sum % (1 << 256)
        return blake2b(_FORM + total.to_bytes(32, "big"), digest_size=16).digest()


def rows(state: State) -> Iterator[Row]:
    """The form of `state`, row by row. `state` must not change before the last one."""
    yield ("ledger", state.sequence, state.chain)
    yield ("leader", state.epoch, state.holder)
    if state.settings is not None:
        yield ("settings", *attrgetter(*COLUMNS["settings"])(state.settings))
        if state.settings.enforcement != "default":
            yield ("settings.enforcement", state.settings.enforcement)
    for stream, cursor in state.cursors.items():
        yield ("cursor", stream, cursor)
    for node in state.nodes.values():
        yield ("node", node.name, node.addresses, node.pod_cidrs)
        if node.labels:
            yield ("node.labels", node.name, node.labels)
    for name, labels in state.namespaces.items():
        yield ("namespace", name, sorted(labels.items()))
    for number, held in state.identities.items():
        yield ("identity", number, held.labels, held.allocated_at, held.users, held.idle_since)
    for number, at in state.retired.items():
        yield ("retired", number, at)
    for place, number in enumerate(state.idle):
        yield ("idle", place, number)
    endpoint_values = attrgetter(*COLUMNS["endpoint"])
    for endpoint in state.endpoints.values():
        yield ("endpoint", *endpoint_values(endpoint))
    for address, uid in state.bindings.items():
        yield ("binding", address, uid)
    for uid, at in state.tombstones.items():
        yield ("tombstone", uid, at)
    refused_values = attrgetter(*_REFUSED_POD)
    for section, pods in (("waiting", state.waiting), ("refused_pod", state.refused_pods)):
        for place, pod in enumerate(pods.values()):
            yield (section, place, *refused_values(pod))
    for policy in state.policies.values():
        document = _sorted(policy.document)
        yield ("policy", policy.kind, policy.namespace, policy.name, document, policy.origin)
    for place, refused in enumerate(state.refused_policies.values()):
        key = (refused.kind, refused.namespace, refused.name)
        yield ("refused_policy", place, *key, refused.reason, refused.origin)
    for load in state.workloads.values():
        yield (
            "workload",
            load.kind,
            load.namespace,
            load.name,
            _sorted(load.document),
            load.origin,
        )
    for (stream, sequence), reason in state.quarantined.items():
        yield ("quarantined", stream, sequence, reason)
    if state.settings is not None and state.settings.names_kept_ms != _NAMES_KEPT_MS:
        yield ("settings.names_kept_ms", state.settings.names_kept_ms)
    for name, addresses in state.names.items():
        for address, expires_at in addresses.items():
            yield ("name", name, address, expires_at)
    for lost in state.lost.values():
        yield ("lost_node", lost.name, lost.watermark, lost.lost_at)
    for place, joined in enumerate(state.refused_nodes.values()):
        node_values = (joined.name, joined.addresses, joined.pod_cidrs, joined.labels)
        yield ("refused_node", place, *node_values, joined.reason)
    for number, at in state.doubtful.items():
        yield ("doubtful", number, at)
    if state.exhausted is not None:
        yield ("exhausted", state.exhausted.identities, state.exhausted.heaviest)
    for place, plan in enumerate(state.relabels.values()):
        plan_values = (plan.uid, plan.identity, plan.labels, plan.planned_at, plan.since)
        yield ("relabel", place, *plan_values)


def _sorted(value: Any) -> Any:
    """A document with its maps' keys in order, all the way down."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value
