"""Syntax of what sources send, checked again here: each rule returns what is wrong, "" if nothing.

Rules of names and labels are Kubernetes' own (apimachinery/pkg/util/validation).
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tabard.events.observed import NameAnswered, NodeJoined, Pairs, PodStarted, TrimRequested
from tabard.identity.labels import LABELS_MAX
from tabard.identity.syntax import (
    DNS_LABEL,
    LABEL_VALUE,
    PORT_NAME,
    is_dns_subdomain,
    is_label_key,
)
from tabard.policy.names import ADDRESSES_OF_NAME_MAX
from tabard.policy.patterns import is_name
from tabard.policy.reading import CLUSTERWIDE_KINDS

ADDRESSES_MAX = 16
"""Most addresses of one pod or node."""
CIDRS_MAX = 64
"""Most pod CIDRs of one node."""
OWNER_MAX = 512
ARCHIVE_MAX = 1024
DOCUMENT_DEPTH_MAX = 64
"""Deepest nesting of a manifest; Kubernetes' own objects have about 15 levels."""

_UID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_Fault = str


def uid(value: str) -> _Fault:
    if _UID.fullmatch(value):
        return ""
    return f"uid {_shown(value)} is none: 1-128 letters, digits, '-', '_' and '.'"


def dns_label(field: str, value: str) -> _Fault:
    """RFC 1123 label, as of a namespace."""
    if DNS_LABEL.fullmatch(value):
        return ""
    return f"{field} {_shown(value)} is no RFC 1123 label (63 lower-case letters, digits, '-')"


def dns_subdomain(field: str, value: str) -> _Fault:
    """RFC 1123 subdomain, as of most objects."""
    if is_dns_subdomain(value):
        return ""
    return f"{field} {_shown(value)} is no RFC 1123 subdomain (253 lower-case letters, digits, -.)"


def label_pairs(labels: Pairs) -> _Fault:
    """Kubernetes label syntax; sorted by key, each key once. Their number is not judged here."""
    previous = ""
    for key, value in labels:
        if key <= previous:
            return f"label {_shown(key)} is out of order: labels are sorted by key, each key once"
        previous = key
        if fault := _label(key, value):
            return fault
    return ""


@lru_cache(maxsize=65_536)
def _label(key: str, value: str) -> _Fault:
    if not is_label_key(key):
        return f"label key {_shown(key)} is not [prefix/]name in Kubernetes label syntax"
    if not LABEL_VALUE.fullmatch(value):
        return f"label {key} has value {_shown(value)}, which is not in Kubernetes label syntax"
    return ""


def addresses(values: tuple[str, ...]) -> _Fault:
    """Canonical text of unicast addresses that a pod or node may hold, each once."""
    if len(values) > ADDRESSES_MAX:
        return f"{len(values)} addresses are more than {ADDRESSES_MAX}"
    if len(set(values)) != len(values):
        return "an address is named twice"
    return next((fault for value in values if (fault := _address(value))), "")


def _canonical(value: str) -> _Fault:
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        return f"address {_shown(value)} is none"
    if str(parsed) != value or "%" in value or getattr(parsed, "ipv4_mapped", None):
        return f"address {_shown(value)} is not in canonical form"
    return ""


def _address(value: str) -> _Fault:
    if fault := _canonical(value):
        return fault
    parsed = ipaddress.ip_address(value)
    if parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or parsed.is_link_local:
        return f"address {value} is not one that a pod or node can have to itself"
    return ""


def pod(event: PodStarted) -> _Fault:
    """What is wrong with a started pod (its UID aside)."""
    return (
        dns_label("namespace", event.namespace)
        or dns_subdomain("name", event.name)
        or dns_subdomain("node", event.node)
        or (event.service_account and dns_subdomain("service account", event.service_account))
        or addresses(event.addresses)
        or label_pairs(event.labels)
        or next((fault for port in event.ports if (fault := _port(*port))), "")
        or (f"owner is longer than {OWNER_MAX}" if len(event.owner) > OWNER_MAX else "")
    )


def answer(event: NameAnswered) -> _Fault:
    if not is_name(event.name):
        return f"name {_shown(event.name)} is no domain name in lower case, without the last dot"
    if not 0 <= event.ttl_s < 1 << 31:  # RFC 2181 8
        return f"ttl_s {event.ttl_s} is no time to live (0 to {(1 << 31) - 1})"
    if len(event.addresses) > ADDRESSES_OF_NAME_MAX:
        return f"{len(event.addresses)} addresses are more than {ADDRESSES_OF_NAME_MAX}"
    if len(set(event.addresses)) != len(event.addresses):
        return "an address is named twice"
    return next((fault for value in event.addresses if (fault := _canonical(value))), "")


def trim(event: TrimRequested) -> _Fault:
    if event.before < 1:
        return f"before is {event.before}; sequences start at 1"
    if len(event.digest) != 16 or len(event.archive_sha256) != 32:
        return "a digest has 16 bytes, a SHA-256 32"
    if not 1 <= len(event.archive) <= ARCHIVE_MAX:
        return f"the archive's name has {len(event.archive)} characters, not 1 to {ARCHIVE_MAX}"
    return ""


def _port(name: str, number: int, protocol: str) -> _Fault:
    if not PORT_NAME.fullmatch(name):
        return f"port name {_shown(name)} is none (RFC 6335: 15 lower-case letters, digits, '-')"
    if not 1 <= number <= 65_535 or protocol not in _PROTOCOLS:
        return f"port {name} is {number}/{_shown(protocol)}, not 1-65535 of {'/'.join(_PROTOCOLS)}"
    return ""


def node(event: NodeJoined) -> _Fault:
    if len(event.pod_cidrs) > CIDRS_MAX:
        return f"{len(event.pod_cidrs)} pod CIDRs are more than {CIDRS_MAX}"
    return (
        dns_subdomain("node", event.name)
        or addresses(event.addresses)
        or _labels(event.labels)
        or next((fault for prefix in event.pod_cidrs if (fault := _cidr(prefix))), "")
    )


def _cidr(value: str) -> _Fault:
    try:
        if str(ipaddress.ip_network(value)) == value:
            return ""
    except ValueError:
        pass
    return f"pod CIDR {_shown(value)} is not in canonical form (10.244.1.0/24)"


def namespace(name: str, labels: Pairs) -> _Fault:
    return dns_label("namespace", name) or _labels(labels)


def _labels(labels: Pairs) -> _Fault:
    if len(labels) > LABELS_MAX:
        return f"{len(labels)} labels are more than {LABELS_MAX}"
    return label_pairs(labels)


def object_key(kind: str, in_namespace: str, name: str) -> _Fault:
    """The key of a policy or workload; `in_namespace` is "" for a cluster-wide kind."""
    if not re.fullmatch(r"[A-Za-z]{1,63}", kind):
        return f"kind {_shown(kind)} is none"
    if kind in CLUSTERWIDE_KINDS:
        place = (
            f"metadata.namespace is {_shown(in_namespace)}, and a {kind} has none"
            if in_namespace
            else ""
        )
    else:
        place = dns_label("metadata.namespace", in_namespace)
    return place or dns_subdomain("metadata.name", name)


def key_of(document: Mapping[str, Any]) -> tuple[str, str, str]:
    """(kind, namespace, name) of a manifest; what is not text counts as empty.

    A namespaced object without metadata.namespace lies in `default`, a cluster-wide one in "".
    """
    metadata = document.get("metadata")
    fields = metadata if isinstance(metadata, Mapping) else {}
    kind = _text(document.get("kind"))
    place = _text(fields.get("namespace", "default")) or "default"
    return (kind, "" if kind in CLUSTERWIDE_KINDS else place, _text(fields.get("name")))


def document(value: Mapping[str, Any]) -> _Fault:
    """A manifest is plain data of bounded depth."""
    level: list[Any] = [value]
    for _ in range(DOCUMENT_DEPTH_MAX):
        below: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                if not all(isinstance(key, str) for key in item):
                    return "the document has a field whose name is no text"
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif not isinstance(item, str | int | float | bool | None):
                return f"the document holds a {type(item).__name__}, which no manifest has"
        if not below:
            return ""
        level = below
    return f"the document is nested deeper than {DOCUMENT_DEPTH_MAX} levels"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 80 else f"{value[:77]!r}…"
