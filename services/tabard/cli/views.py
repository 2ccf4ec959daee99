"""What `tabard get` and `tabard status` show, as plain values: state in, rows out. Pure.

A row is a mapping of JSON values; its keys are the stable shape that `-o json` prints, documented
at each function. How a row looks in a table is said by the columns beside it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tabard.cluster.watermarks import Watermark
from tabard.events.ledger import PolicyAccepted
from tabard.identity.labels import DERIVED_PREFIXES, NAMESPACE_KEY, LabelSet, split_label
from tabard.identity.numbers import FIXED_MAX, FIXED_MIN, is_cidr
from tabard.ledger.state import ObjectKey, State
from tabard.manifests.errors import ManifestError
from tabard.manifests.workloads import read_workload
from tabard.policy.kubernetes import read_policy
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import Policy

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """The ledger folded through one sequence, and what the nodes said last."""

    state: State
    words: Mapping[str, Watermark] = field(default_factory=dict)
    observed_head: int = 0
    ledger_head: int = 0
    observed_error: str = ""
    """Why the next observed event cannot be taken."""
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


@dataclass(frozen=True, slots=True)
class View:
    """One kind of object that `get` shows."""

    rows: Callable[[Reading], list[Row]]
    columns: tuple[Column, ...]
    name: tuple[str, ...]
    """Keys that make a row's name: `pod/shop/web-0`."""
    labels: Callable[[State, Row], Mapping[str, str]]
    """What a label selector is held against."""


def pods(reading: Reading) -> list[Row]:
    """{namespace, name, uid, node, addresses, identity, labels, status, reason, owner,
    service_account, ports, host_network, started_at, sequence}, by namespace and name.

    `status`: Enforced (its node enforces the ledger past its binding), Bound (not yet), Waiting
    (for a free number) or Refused; `identity` is null for the last two. `sequence` is LEDGER's at
    its latest binding or change, `started_at` in nanoseconds since the Unix epoch.
    """
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
    """{identity, namespace, status, scope, labels, users, sequence}, by number.

    `status`: Used, Idle (nobody's; retires after the grace) or Quarantined (retired: no labels, not
    yet free for reuse); `namespace`: of its pods, null if it is not one of pods; `scope`:
    cluster, fixed or cidr; `users`: endpoints that have it, or policies that name its CIDR;
    `sequence`: LEDGER's at its allocation or retirement.
    """
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
    """{name, addresses, pod_cidrs, endpoints, watermark, lag, dataplane, enforced_endpoints,
    map_writes, drift, full, error, said_at, digest, digest_at, digest_agrees}, by name.

    `endpoints` are those that the ledger has on the node, `enforced_endpoints` those that its agent
    has; `full` are maps that had no room, with the writes that each refused. `watermark`, `lag`
    (LEDGER's head minus watermark) and all else the agent says are null as long as it said nothing;
    `said_at` in nanoseconds since the Unix epoch. `digest` (hex, empty if the agent took none yet)
    is that of its folded state at `digest_at`; `digest_agrees` says whether it is the ledger's at
    that sequence, null where the two were not compared.
    """
    found = []
    for name, node in sorted(reading.state.nodes.items()):
        word = reading.words.get(name)
        said = word.status if word is not None else None
        found.append(
            {
                "name": name,
                "addresses": list(node.addresses),
                "pod_cidrs": list(node.pod_cidrs),
                "endpoints": len(reading.state.by_node.get(name, {})),
                "watermark": said and said.sequence,
                "lag": said and max(0, reading.ledger_head - said.sequence),
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


def _agrees(reading: Reading, sequence: int, digest: bytes) -> bool | None:
    own = reading.digests.get(sequence)
    return own == digest if own and digest else None


def policies(reading: Reading) -> list[Row]:
    """{kind, namespace, name, status, reason, isolates, rules, pods, origin}, by kind and place.

    `status`: Accepted, Refused, or Outdated (a newer version was refused for `reason`, the one
    accepted before stays in force); `isolates` lists directions, `rules` counts rules, `pods` the
    endpoints that it selects; null where nothing is in force.
    """
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
    numbers = {
        number
        for number, identity in state.identities.items()
        if matches(policy.subject, labels_of(identity.labels))
    }
    return sum(endpoint.identity in numbers for endpoint in state.endpoints.values())


def bindings(reading: Reading) -> list[Row]:
    """{address, identity, namespace, name, uid, node}, by namespace, name and address."""
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
    """{kind, namespace, name, desired, bound, origin}, by namespace and name.

    `desired` is null for a kind that asks for no pods; a DaemonSet desires one on each node.
    """
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


def status(reading: Reading) -> Row:
    """{ledger: {sequence, head, digest}, observed: {head, cursor, lag, error}, allocator: {epoch,
    holder}, pods: {bound, waiting, refused}, nodes: [as `get nodes`], enforced, diverged,
    quarantined}.

    `enforced` is the lowest watermark of all nodes, null if one said nothing or there are none;
    `digest` (hex) is that of the state at `sequence`; `diverged` names the nodes whose state is not
    what the ledger says.
    """
    state = reading.state
    cursor = state.cursors.get("OBSERVED", 0)
    rows = nodes(reading)
    marks = [row["watermark"] for row in rows]
    return {
        "ledger": {
            "sequence": state.sequence,
            "head": reading.ledger_head,
            "digest": reading.digests.get(state.sequence, b"").hex(),
        },
        "observed": {
            "head": reading.observed_head,
            "cursor": cursor,
            "lag": max(0, reading.observed_head - cursor),
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
        if (not namespace or row["namespace"] == namespace) and selector(view.labels(state, row))
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
            Column("WATERMARK", "watermark"),
            Column("LAG", "lag"),
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
    ),
}
"""What `get` knows, by its plural name."""
