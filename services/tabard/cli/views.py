"""What `tabard get` and `tabard status` show, as plain values: state in, rows out. Pure.

A row is a mapping of JSON values; its keys are the stable shape that `-o json` prints, documented
in `fields`. How a row looks in a table is said by `tables`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tabard.bus.port import StreamInfo
from tabard.cli.records import Row
from tabard.cluster.allocators import AllocatorWord
from tabard.cluster.watermarks import Watermark, denies_new, silent, stale_since
from tabard.dataplane.maps import Action
from tabard.events.ledger import PolicyAccepted
from tabard.events.status import Holder
from tabard.identity.labels import NAMESPACE_KEY, LabelSet, cidr_label, host_cidr, split_label
from tabard.identity.numbers import FIXED_MAX, FIXED_MIN, is_cidr, is_pod
from tabard.ledger.state import Node, ObjectKey, Relabel, State, enforcement_of
from tabard.manifests.errors import ManifestError
from tabard.manifests.workloads import read_workload
from tabard.policy.matching import labels_of, matches
from tabard.policy.model import Policy
from tabard.policy.names import Asked
from tabard.policy.reading import REFERENT_KINDS, read_policies


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
    """When some LEDGER sequences were stored: the state's, and the one past each watermark; of one
    that was trimmed away, when the first that is kept was."""
    streams: tuple[StreamInfo, ...] = ()
    digests: Mapping[int, bytes] = field(default_factory=dict)
    """Sequence → digest of the ledger folded through it, where it was taken."""
    allocators: Mapping[str, AllocatorWord] = field(default_factory=dict)
    """By name; none of the past."""


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
                "planned": _planned(reading.state.relabels.get(endpoint.uid)),
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
                "planned": None,
                "status": "Waiting" if waits else "Refused",
                "reason": refused.reason,
                "sequence": None,
            }
        )
    return sorted(found, key=_by_place)


def _planned(plan: Relabel | None) -> Row | None:
    if plan is None:
        return None
    return {
        "identity": plan.identity,
        "labels": dict(plan.labels),
        "since": plan.since,
        "sequence": plan.planned_at,
    }


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
            "status": status,
            "scope": _scope(number),
            "labels": [],
            "users": 0,
            "sequence": sequence,
        }
        for status, numbers in (
            ("Quarantined", reading.state.retired),
            ("Doubtful", reading.state.doubtful),
        )
        for number, sequence in numbers.items()
    ]
    return sorted(found, key=lambda row: int(row["identity"]))


def _namespace(labels: LabelSet) -> str | None:
    return labels_of(labels).get(("k8s", NAMESPACE_KEY))


def _scope(number: int) -> str:
    if is_cidr(number):
        return "cidr"
    return "fixed" if FIXED_MIN <= number <= FIXED_MAX else "cluster"


def nodes(reading: Reading) -> list[Row]:
    """By name: those that joined, and those that were refused."""
    state = reading.state
    refused = {
        name: Node(name, node.addresses, node.pod_cidrs, node.labels)
        for name, node in state.refused_nodes.items()
    }
    found = []
    for name, node in sorted({**refused, **state.nodes}.items()):
        word = reading.words.get(name)
        said = word.status if word is not None else None
        found.append(
            {
                "name": name,
                "status": _node_status(reading, name, word),
                "reason": _node_reason(state, name),
                "addresses": list(node.addresses),
                "pod_cidrs": list(node.pod_cidrs),
                "labels": {key: value for _, key, value in map(split_label, node.label_set())},
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
                "fresh_at": said and (said.fresh_at or None),
                "stale_since": word and stale_since(word, reading.now),
                "denies_new": word and denies_new(word, reading.now),
                "holder": said and said.holder and _holder(said.holder),
            }
        )
    return found


def _holder(holder: Holder) -> Row:
    return {name: getattr(holder, name) for name in ("host", "pid", "since", "data")}


def _node_status(reading: Reading, name: str, word: Watermark | None) -> str:
    if name not in reading.state.nodes:
        return "Refused"
    if name in reading.state.lost:
        return "Lost"
    if word is None:
        return "Unknown"
    if word.status.stopped:
        return "Stopped"
    if silent(word, reading.now):
        return "Silent"
    if word.status.error:
        return "Failing"
    return "Current" if word.status.sequence >= reading.ledger_head else "Lagging"


def _node_reason(state: State, name: str) -> str:
    lost, refused = state.lost.get(name), state.refused_nodes.get(name)
    parts = []
    if lost is not None:
        parts.append(f"lost at LEDGER/{lost.lost_at}, where it was at {lost.watermark}")
    if refused is not None:
        what = "what it wants to be now is refused: " if name in state.nodes else ""
        parts.append(f"{what}{refused.reason}")
    return "; ".join(parts)


def _agrees(reading: Reading, sequence: int, digest: bytes) -> bool | None:
    own = reading.digests.get(sequence)
    return own == digest if own and digest else None


def _lag_ms(reading: Reading, watermark: int) -> int:
    since = reading.stored.get(watermark + 1)
    return 0 if since is None else max(0, reading.now - since) // 1_000_000


def policies(reading: Reading) -> list[Row]:
    """By kind and place: in force or refused. What policies refer to is here only if refused."""
    state = reading.state
    stating = (key for key in state.policies if key[0] not in REFERENT_KINDS)
    keys = sorted({*stating, *state.refused_policies})
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
        "tier": None,
        "priority": None,
        "isolates": None,
        "rules": None,
        "denials": None,
        "pods": None,
        "origin": refused.origin if refused is not None else accepted.origin if accepted else "",
    }
    return row if accepted is None else row | _in_force(state, accepted)


def _in_force(state: State, accepted: PolicyAccepted) -> Row:
    policies = read_policies(accepted.document, accepted.origin)
    isolates = {direction for policy in policies for direction in policy.isolates}
    rules = [rule for policy in policies for rule in policy.rules]
    # All that one object states is of one tier and priority.
    first = next(iter(policies), None)
    return {
        "tier": first and first.tier.name.lower(),
        "priority": first and first.priority,
        "isolates": [direction.name.lower() for direction in sorted(isolates)],
        "rules": len(rules),
        "denials": sum(rule.action is Action.DENY for rule in rules),
        "pods": selected(state, policies),
    }


def selected(state: State, policies: Iterable[Policy]) -> int:
    """How many pods any of `policies` selects."""
    numbers = selected_identities(state, policies)
    return sum(endpoint.identity in numbers for endpoint in state.endpoints.values())


def selected_identities(state: State, policies: Iterable[Policy]) -> set[int]:
    """Numbers of the live pod identities that any of `policies` selects."""
    subjects = {policy.subject for policy in policies if not policy.selects_nodes}
    return {
        number
        for number, identity in state.identities.items()
        if is_pod(number)
        and any(matches(subject, labels_of(identity.labels)) for subject in subjects)
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


def names(reading: Reading) -> list[Row]:
    """By name: the domain names that policies ask for, with the addresses that stand for them."""
    state, asked = reading.state, Asked(reading.state)
    return [
        {
            "name": name,
            "addresses": [
                {
                    "address": address,
                    "identity": state.numbers.get(LabelSet((cidr_label(host_cidr(address)),))),
                    "expires_at": expires_at,
                }
                for address, expires_at in sorted(held.items())
            ],
            "expires_at": max(held.values()),
            "policies": ["/".join(key) for key in asked.by(name)],
        }
        for name, held in sorted(state.names.items())
    ]


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


def allocators(reading: Reading) -> list[Row]:
    """By name."""
    return [
        _allocator(reading, word)
        for _, word in sorted(reading.allocators.items())
        if not word.gone(reading.now)
    ]


def _allocator(reading: Reading, word: AllocatorWord) -> Row:
    said = word.status
    head = reading.observed_head
    return {
        "name": said.name,
        "status": _allocator_status(reading, word),
        "role": said.role,
        "holder": said.holder,
        "epoch": said.epoch,
        "sequence": said.sequence,
        "lag": max(0, reading.ledger_head - said.sequence),
        "cursor": said.cursor,
        "observed_lag": None if head is None else max(0, head - said.cursor),
        "waiting": said.waiting,
        "superseded": said.superseded,
        "error": said.error,
        "said_at": word.stored_at,
        "age_ms": round(word.age_s(reading.now) * 1000),
    }


def _allocator_status(reading: Reading, word: AllocatorWord) -> str:
    said = word.status
    if word.silent(reading.now):
        return "Silent"
    if said.error:
        return "Failing"
    if said.role == "leading" and said.holder != reading.state.holder:
        return "Fenced"
    return said.role.capitalize()


def status(reading: Reading, rows: list[Row]) -> Row:
    """All of it but `cluster` and `error`, which are not the ledger's to say.

    `rows`: those of `nodes` that it is about.
    """
    state = reading.state
    cursor = state.cursors.get("OBSERVED", 0)
    marks = [row["watermark"] for row in rows if row["status"] not in ("Lost", "Refused")]
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
        "allocators": allocators(reading),
        "enforcement": enforcement_of(state),
        "pods": {
            "bound": len(state.endpoints),
            "waiting": len(state.waiting),
            "refused": len(state.refused_pods.keys() - state.waiting.keys()),
        },
        "exhausted": _exhausted(state),
        "nodes": rows,
        "enforced": min(marks) if marks and None not in marks else None,
        "diverged": [row["name"] for row in rows if row["digest_agrees"] is False],
        "quarantined": [f"{stream}/{sequence}" for stream, sequence in sorted(state.quarantined)],
    }


def _exhausted(state: State) -> Row | None:
    if state.exhausted is None:
        return None
    heaviest = [{"key": key, "values": values} for key, values in state.exhausted.heaviest]
    return {"identities": state.exhausted.identities, "heaviest": heaviest}


def _by_place(row: Row) -> tuple[str, str]:
    return (row["namespace"], row["name"])
