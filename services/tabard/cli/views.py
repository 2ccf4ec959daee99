"""What `tabard get` and `tabard status` show, as plain values: state in, rows out. Pure.

A row is a mapping of JSON values; its keys are the stable shape that `-o json` prints, documented
in `fields`. How a row looks in a table is said by the columns beside it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tabard.bus.port import StreamInfo
from tabard.cli.records import Row, date
from tabard.cluster.watermarks import Watermark, silent
from tabard.events.ledger import PolicyAccepted
from tabard.identity.labels import DERIVED_PREFIXES, NAMESPACE_KEY, LabelSet, split_label
from tabard.identity.numbers import FIXED_MAX, FIXED_MIN, is_cidr
from tabard.ledger.state import ObjectKey, State
from tabard.manifests.errors import ManifestError
from tabard.manifests.workloads import read_workload
from tabard.policy.kubernetes import read_policy
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Reading:
    """The ledger folded through one sequence, and what the nodes said last."""

    state: State
    words: Mapping[str, Watermark] = field(default_factory=dict)
    """By node; none of the past, which the bus does not keep."""
    observed_head: int | None = None
    ledger_head: int = 0
    observed_error: str = ""
    """Why the next observed event cannot be taken."""
    now: int = 0
    """By the bus's clock, as all times here: nanoseconds since the Unix epoch."""
    stored: Mapping[int, int] = field(default_factory=dict)
    """When some LEDGER sequences were stored: the state's, and the one past each watermark."""
    streams: tuple[StreamInfo, ...] = ()
    digests: Mapping[int, bytes] = field(default_factory=dict)
    """Sequence → digest of the ledger folded through it, where it was taken."""


@dataclass(frozen=True, slots=True)
class Column:
    """`key` of the row, shown under `title`; `wide` ones only by `-o wide`."""

    title: str
    key: str
    wide: bool = False
    short: Callable[[Any], Any] | None = None
    """What is shown of the value, but by `-o wide`."""
    form: Callable[[Any], str] | None = None
    """How the value is written, if it is not null."""

    def shown(self, row: Row, wide: bool) -> Any:
        value = row[self.key]
        if self.form is not None and value is not None:
            return self.form(value)
        return value if wide or self.short is None else self.short(value)


@dataclass(frozen=True, slots=True)
class View:
    """One kind of object that `get` shows."""

    rows: Callable[[Reading], list[Row]]
    columns: tuple[Column, ...]
    name: tuple[str, ...]
    """Keys that make a row's name: `pod/shop/web-0`."""
    labels: Callable[[State, Row], Mapping[str, str]] | None
    """What a label selector is held against; None where it fits nothing."""
    key: tuple[str, ...] = ()
    """Keys that tell a row from all others; none where the name does."""
    namespaced: bool = True
    volatile: frozenset[str] = frozenset()
    """Keys whose change alone is no news."""

    def identity(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[key] for key in self.key or self.name)


def pods(reading: Reading) -> list[Row]:
    """By namespace and name: bound pods, and those that were refused or wait."""
    found = []
    for endpoint in reading.state.endpoints.values():
        word = reading.words.get(endpoint.node)
        enforced = word is not None and word.status.sequence >= endpoint.bound_at
        found.append(
            _pod(endpoint)
            | {
                "addresses": list(endpoint.addresses),
                "identity": endpoint.identity,
                "status": "Enforced" if enforced else "Bound",
                "reason": "",
                "sequence": endpoint.bound_at,
            }
        )
    for refused in reading.state.refused_pods.values():
        waits = refused.uid in reading.state.waiting
        found.append(
            _pod(refused)
            | {
                "addresses": list(refused.addresses),
                "identity": None,
                "status": "Waiting" if waits else "Refused",
                "reason": refused.reason,
                "sequence": None,
            }
        )
    return sorted(found, key=_by_place)


def _pod(pod: Any) -> Row:
    """What a bound and a refused pod have in common."""
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "node": pod.node,
        "labels": dict(pod.labels),
        "owner": pod.owner,
        "service_account": pod.service_account,
        "ports": [
            {"name": name, "port": number, "protocol": protocol}
            for name, number, protocol in pod.ports
        ],
        "host_network": pod.host_network,
        "started_at": pod.started_at,
    }


def identities(reading: Reading) -> list[Row]:
    """By number: live ones, and those in quarantine."""
    found: list[Row] = [
        {
            "identity": number,
            "namespace": _namespace(identity.labels),
            "status": "Used" if identity.users else "Idle",
            "scope": _scope(number),
            "labels": list(identity.labels),
            "users": identity.users,
            "sequence": identity.allocated_at,
        }
        for number, identity in reading.state.identities.items()
    ]
    found += [
        {
            "identity": number,
            "namespace": None,
            "status": "Quarantined",
            "scope": _scope(number),
            "labels": [],
            "users": 0,
            "sequence": sequence,
        }
        for number, sequence in reading.state.retired.items()
    ]
    return sorted(found, key=lambda row: int(row["identity"]))


def _namespace(labels: LabelSet) -> str | None:
    return labels_of(labels).get(("k8s", NAMESPACE_KEY))


def _short_labels(labels: Iterable[str]) -> list[str]:
    """What an author wrote: no derived keys, no `k8s:`; of a CIDR its prefix."""
    found = (label.removeprefix("cidr:").removeprefix("k8s:") for label in labels)
    return [label for label in found if not label.startswith(DERIVED_PREFIXES)]


def _scope(number: int) -> str:
    if is_cidr(number):
        return "cidr"
    return "fixed" if FIXED_MIN <= number <= FIXED_MAX else "cluster"


def nodes(reading: Reading) -> list[Row]:
    """By name."""
    found = []
    for name, node in sorted(reading.state.nodes.items()):
        word = reading.words.get(name)
        said = word.status if word is not None else None
        found.append(
            {
                "name": name,
                "status": _node_status(reading, word),
                "addresses": list(node.addresses),
                "pod_cidrs": list(node.pod_cidrs),
                "endpoints": len(reading.state.by_node.get(name, {})),
                "watermark": said and said.sequence,
                "lag": said and max(0, reading.ledger_head - said.sequence),
                "lag_ms": said and _lag_ms(reading, said.sequence),
                "dataplane": said and said.dataplane,
                "enforced_endpoints": said and said.endpoints,
                "map_writes": said and dict(said.map_writes),
                "drift": said and said.drift,
                "full": said and dict(said.full),
                "error": said and said.error,
                "said_at": word and word.stored_at,
                "digest": said and said.digest.hex(),
                "digest_at": said and said.digest_at,
                "digest_agrees": said and _agrees(reading, said.digest_at, said.digest),
            }
        )
    return found


def _node_status(reading: Reading, word: Watermark | None) -> str:
    if word is None:
        return "Unknown"
    if silent(word, reading.now):
        return "Silent"
    if word.status.error:
        return "Failing"
    return "Current" if word.status.sequence >= reading.ledger_head else "Lagging"


def _agrees(reading: Reading, sequence: int, digest: bytes) -> bool | None:
    own = reading.digests.get(sequence)
    return own == digest if own and digest else None


def _lag_ms(reading: Reading, watermark: int) -> int:
    since = reading.stored.get(watermark + 1)
    return 0 if since is None else max(0, reading.now - since) // 1_000_000


def policies(reading: Reading) -> list[Row]:
    """By kind and place: in force or refused."""
    state = reading.state
    keys = sorted(state.policies.keys() | state.refused_policies.keys())
    return [_policy(state, key) for key in keys]


def _policy(state: State, key: ObjectKey) -> Row:
    kind, namespace, name = key
    accepted, refused = state.policies.get(key), state.refused_policies.get(key)
    status = "Accepted" if refused is None else "Refused" if accepted is None else "Outdated"
    row: Row = {
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "status": status,
        "reason": refused.reason if refused is not None else "",
        "isolates": None,
        "rules": None,
        "pods": None,
        "origin": refused.origin if refused is not None else accepted.origin if accepted else "",
    }
    return row if accepted is None else row | _in_force(state, accepted)


def _in_force(state: State, accepted: PolicyAccepted) -> Row:
    policy = read_policy(accepted.document, accepted.origin)
    return {
        "isolates": [direction.name.lower() for direction in sorted(policy.isolates)],
        "rules": len(policy.rules),
        "pods": selected(state, policy),
    }


def selected(state: State, policy: Policy) -> int:
    """How many pods `policy` selects."""
    numbers = selected_identities(state, policy)
    return sum(endpoint.identity in numbers for endpoint in state.endpoints.values())


def selected_identities(state: State, policy: Policy) -> set[int]:
    """Numbers of the live identities that `policy` selects."""
    return {
        number
        for number, identity in state.identities.items()
        if matches(policy.subject, labels_of(identity.labels))
    }


def bindings(reading: Reading) -> list[Row]:
    """By namespace, name and address."""
    found = []
    for address, uid in reading.state.bindings.items():
        endpoint = reading.state.endpoints[uid]
        found.append(
            {
                "address": address,
                "identity": endpoint.identity,
                "namespace": endpoint.namespace,
                "name": endpoint.name,
                "uid": uid,
                "node": endpoint.node,
            }
        )
    return sorted(found, key=lambda row: (*_by_place(row), row["address"]))


def workloads(reading: Reading) -> list[Row]:
    """By namespace and name. A DaemonSet desires one pod on each node."""
    state = reading.state
    bound = Counter(endpoint.owner for endpoint in state.endpoints.values())
    found = [
        {
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "desired": desired(workload.document, len(state.nodes)),
            "bound": bound[f"{kind}/{namespace}/{name}"],
            "origin": workload.origin,
        }
        for (kind, namespace, name), workload in state.workloads.items()
    ]
    return sorted(found, key=_by_place)


def desired(document: Mapping[str, Any], nodes: int) -> int | None:
    """How many pods a workload asks for on `nodes` nodes; None if it is none that asks for any."""
    try:
        replicas = read_workload(document).replicas
    except ManifestError:
        return None
    return nodes if replicas is None else replicas


def streams(reading: Reading) -> list[Row]:
    """In the order of `Stream`."""
    return [
        {
            "name": str(info.stream),
            "first": info.first,
            "last": info.last,
            "messages": info.messages,
            "bytes": info.bytes,
            "holes": info.holes,
            "first_at": info.first_at,
            "last_at": info.last_at,
            "replicas": info.replicas,
            "storage": info.storage,
            "retention": {
                "age_s_max": info.age_s_max,
                "bytes_max": info.bytes_max,
                "per_subject_max": info.per_subject_max,
                "when_full": "refuses" if info.refuses else "drops",
            },
        }
        for info in reading.streams
    ]


def status(reading: Reading) -> Row:
    """All of it but `cluster` and `error`, which are not the ledger's to say."""
    state = reading.state
    cursor = state.cursors.get("OBSERVED", 0)
    rows = nodes(reading)
    marks = [row["watermark"] for row in rows]
    return {
        "ledger": {
            "sequence": state.sequence,
            "stored_at": reading.stored.get(state.sequence),
            "head": reading.ledger_head,
            "digest": reading.digests.get(state.sequence, b"").hex(),
        },
        "observed": {
            "head": reading.observed_head,
            "cursor": cursor,
            "lag": None
            if reading.observed_head is None
            else max(0, reading.observed_head - cursor),
            "error": reading.observed_error,
        },
        "allocator": {"epoch": state.epoch, "holder": state.holder},
        "pods": {
            "bound": len(state.endpoints),
            "waiting": len(state.waiting),
            "refused": len(state.refused_pods.keys() - state.waiting.keys()),
        },
        "nodes": rows,
        "enforced": min(marks) if marks and None not in marks else None,
        "diverged": [row["name"] for row in rows if row["digest_agrees"] is False],
        "quarantined": [f"{stream}/{sequence}" for stream, sequence in sorted(state.quarantined)],
    }


def chosen(
    rows: Iterable[Row],
    view: View,
    state: State,
    namespace: str,
    selector: Callable[[Mapping[str, str]], bool],
) -> list[Row]:
    """The rows in `namespace` (all if empty) that `selector` takes."""
    return [
        row
        for row in rows
        if (not namespace or row["namespace"] == namespace)
        and (view.labels is None or selector(view.labels(state, row)))
    ]


def _by_place(row: Row) -> tuple[str, str]:
    return (row["namespace"], row["name"])


def _own_labels(state: State, row: Row) -> Mapping[str, str]:
    labels: Mapping[str, str] = row["labels"]
    return labels


def _identity_labels(state: State, row: Row) -> Mapping[str, str]:
    return {key: value for _, key, value in map(split_label, row["labels"])}


def _bound_pod_labels(state: State, row: Row) -> Mapping[str, str]:
    return dict(state.endpoints[row["uid"]].labels)


def _document_labels(state: State, row: Row) -> Mapping[str, str]:
    key = (row["kind"], row["namespace"], row["name"])
    kept = state.workloads.get(key) or state.policies.get(key)
    metadata = (kept.document.get("metadata") or {}) if kept is not None else {}
    return metadata.get("labels") or {}


def _node_labels(state: State, row: Row) -> Mapping[str, str]:
    return {"kubernetes.io/hostname": row["name"]}


def sized(count: int) -> str:
    """`1.5 MiB`"""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.4g} {unit}"


def _kept(retention: Row) -> str:
    """`7 d`, `last per subject`, `for ever, refuses at 16 GiB`"""
    per_subject, age = retention["per_subject_max"], retention["age_s_max"]
    parts = []
    if per_subject is not None:
        parts.append(
            f"last {per_subject if per_subject > 1 else ''} per subject".replace("  ", " ")
        )
    if age is not None:
        parts.append(f"{age / 86400:g} d" if age >= 86400 else f"{age / 3600:g} h")
    if retention["bytes_max"] is not None:
        parts.append(f"{retention['when_full']} at {sized(retention['bytes_max'])}")
    if per_subject is None and age is None:
        parts.insert(0, "for ever")
    return ", ".join(parts)


VIEWS: Mapping[str, View] = {
    "pods": View(
        pods,
        (
            Column("NAMESPACE", "namespace"),
            Column("NAME", "name"),
            Column("STATUS", "status"),
            Column("IDENTITY", "identity"),
            Column("ADDRESSES", "addresses"),
            Column("NODE", "node"),
            Column("SEQUENCE", "sequence", wide=True),
            Column("OWNER", "owner", wide=True),
            Column("UID", "uid", wide=True),
            Column("LABELS", "labels", wide=True),
            Column("REASON", "reason", wide=True),
        ),
        ("namespace", "name"),
        _own_labels,
        key=("uid",),
    ),
    "identities": View(
        identities,
        (
            Column("IDENTITY", "identity"),
            Column("NAMESPACE", "namespace"),
            Column("STATUS", "status"),
            Column("SCOPE", "scope", wide=True),
            Column("USERS", "users"),
            Column("SEQUENCE", "sequence", wide=True),
            Column("LABELS", "labels", short=_short_labels),
        ),
        ("identity",),
        _identity_labels,
    ),
    "nodes": View(
        nodes,
        (
            Column("NAME", "name"),
            Column("STATUS", "status"),
            Column("WATERMARK", "watermark"),
            Column("LAG", "lag"),
            Column("LAG-MS", "lag_ms"),
            Column("DATAPLANE", "dataplane"),
            Column("ENDPOINTS", "endpoints"),
            Column("ADDRESSES", "addresses"),
            Column("POD-CIDRS", "pod_cidrs"),
            Column("MAP-WRITES", "map_writes", wide=True),
            Column("DRIFT", "drift", wide=True),
            Column("ERROR", "error"),
        ),
        ("name",),
        _node_labels,
        namespaced=False,
        volatile=frozenset({"lag_ms", "said_at"}),
    ),
    "policies": View(
        policies,
        (
            Column("NAMESPACE", "namespace"),
            Column("NAME", "name"),
            Column("KIND", "kind", wide=True),
            Column("STATUS", "status"),
            Column("ISOLATES", "isolates"),
            Column("RULES", "rules"),
            Column("PODS", "pods"),
            Column("ORIGIN", "origin", wide=True),
            Column("REASON", "reason"),
        ),
        ("namespace", "name"),
        _document_labels,
        key=("kind", "namespace", "name"),
    ),
    "bindings": View(
        bindings,
        (
            Column("ADDRESS", "address"),
            Column("IDENTITY", "identity"),
            Column("NAMESPACE", "namespace"),
            Column("NAME", "name"),
            Column("NODE", "node"),
            Column("UID", "uid", wide=True),
        ),
        ("address",),
        _bound_pod_labels,
    ),
    "workloads": View(
        workloads,
        (
            Column("NAMESPACE", "namespace"),
            Column("NAME", "name"),
            Column("KIND", "kind"),
            Column("DESIRED", "desired"),
            Column("BOUND", "bound"),
            Column("ORIGIN", "origin", wide=True),
        ),
        ("namespace", "name"),
        _document_labels,
        key=("kind", "namespace", "name"),
    ),
    "streams": View(
        streams,
        (
            Column("NAME", "name"),
            Column("FIRST", "first"),
            Column("LAST", "last"),
            Column("MESSAGES", "messages"),
            Column("BYTES", "bytes", form=sized),
            Column("HOLES", "holes"),
            Column("FIRST-STORED", "first_at", form=date),
            Column("LAST-STORED", "last_at", form=date),
            Column("REPLICAS", "replicas"),
            Column("STORAGE", "storage", wide=True),
            Column("RETENTION", "retention", form=_kept),
        ),
        ("name",),
        None,
        namespaced=False,
    ),
}
"""What `get` knows, by its plural name."""
