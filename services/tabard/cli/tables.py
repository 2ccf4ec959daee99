"""How rows look in a table, by what they are named, and what a label selector is held against.

Pure.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tabard.cli.records import Row, date
from tabard.cli.views import (
    Reading,
    bindings,
    identities,
    names,
    nodes,
    pods,
    policies,
    streams,
    workloads,
)
from tabard.identity.labels import DERIVED_PREFIXES, split_label
from tabard.ledger.state import State

POLICY_SHORT = {
    "NetworkPolicy": "netpol",
    "CiliumNetworkPolicy": "cnp",
    "CiliumClusterwideNetworkPolicy": "ccnp",
    "AdminNetworkPolicy": "anp",
    "BaselineAdminNetworkPolicy": "banp",
}
"""What kubectl's users call a kind of policy; ClusterNetworkPolicy has no name but its own."""


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
    whole: Callable[[Row], Any] | None = None
    """What is shown of the whole row, instead of its value."""

    def shown(self, row: Row, wide: bool) -> Any:
        if self.whole is not None:
            return self.whole(row)
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
    volatile: frozenset[str] = frozenset()
    """Keys whose change alone is no news."""

    def identity(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[key] for key in self.key or self.name)


def laid_out(
    columns: Iterable[Column], rows: Iterable[Row], *, wide: bool
) -> tuple[list[str], list[list[Any]]]:
    """Titles and cells of a table."""
    chosen = [column for column in columns if wide or not column.wide]
    cells = [[column.shown(row, wide) for column in chosen] for row in rows]
    return [column.title for column in chosen], cells


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


def _identity(pod: Row) -> str:
    """`259`, or `259→264` while it is to be another."""
    if pod["planned"] is None:
        return "" if pod["identity"] is None else str(pod["identity"])
    return f"{pod['identity']}→{pod['planned']['identity']}"


def trouble(node: Row) -> str:
    """Why a node does not go on, and why it is lost or refused."""
    return "; ".join(filter(None, (node["reason"], node["error"])))


def _addresses(held: Iterable[Row]) -> str:
    return ",".join(row["address"] for row in held)


def _short_labels(labels: Iterable[str]) -> list[str]:
    """What an author wrote: no derived keys, no `k8s:`; of a CIDR its prefix."""
    found = (label.removeprefix("cidr:").removeprefix("k8s:") for label in labels)
    return [label for label in found if not label.startswith(DERIVED_PREFIXES)]


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
            Column("IDENTITY", "identity", whole=_identity),
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
            Column("LABELS", "labels", wide=True),
            Column("ERROR", "error", whole=trouble),
        ),
        ("name",),
        _own_labels,
        volatile=frozenset({"lag_ms", "said_at", "fresh_at"}),
    ),
    "policies": View(
        policies,
        (
            Column("NAMESPACE", "namespace"),
            Column("NAME", "name"),
            Column("KIND", "kind", short=lambda kind: POLICY_SHORT.get(kind, kind)),
            Column("STATUS", "status"),
            Column("TIER", "tier"),
            Column("PRIORITY", "priority", wide=True),
            Column("ISOLATES", "isolates"),
            Column("RULES", "rules"),
            Column("DENIALS", "denials", wide=True),
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
    "names": View(
        names,
        (
            Column("NAME", "name"),
            Column("ADDRESSES", "addresses", form=_addresses),
            Column("UNTIL", "expires_at", form=date),
            Column("POLICIES", "policies"),
        ),
        ("name",),
        None,
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
            Column("FIRST-STORED", "first_at", wide=True, form=date),
            Column("LAST-STORED", "last_at", form=date),
            Column("REPLICAS", "replicas", wide=True),
            Column("STORAGE", "storage", wide=True),
            Column("RETENTION", "retention", form=_kept),
        ),
        ("name",),
        None,
    ),
}
"""What `get` knows, by its plural name."""
