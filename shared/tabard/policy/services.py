"""Reading v1 Service, discovery.k8s.io/v1 EndpointSlice and v1 Endpoints: what toServices names.

Only what says who is behind a Service is read and checked; the rest of these objects is for load
balancers, and any of it is taken. Readers return (kind, namespace, name) and the referent.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

from tabard.identity.labels import NAMESPACE_KEY, LabelSet, label_set
from tabard.policy import schema
from tabard.policy.model import Requirement, Selector
from tabard.policy.referred import Backends, ServiceFront

SERVICE, SLICE, ENDPOINTS = "Service", "EndpointSlice", "Endpoints"
CORE_VERSION, SLICE_VERSION = "v1", "discovery.k8s.io/v1"
SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service that it belongs to (discovery/v1 LabelServiceName)."""
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
"""Who makes the slices of Services that have a selector."""

Key = tuple[str, str, str]


def read_service(document: Mapping[str, Any]) -> tuple[Key, ServiceFront]:
    """A Service; one without spec.selector has whatever its EndpointSlices say behind it."""
    metadata, namespace, name = schema.metadata(document)
    spec = _mapping(document.get("spec"), "spec")
    own = schema.labels(metadata.get("labels", {}), "metadata.labels")
    selector = schema.labels(spec.get("selector") or {}, "spec.selector")
    pods = None
    if selector:
        place = Requirement(NAMESPACE_KEY, "In", frozenset((namespace,)))
        needs = (Requirement(key, "In", frozenset((value,))) for key, value in selector)
        pods = Selector((place, *needs))
    return (SERVICE, namespace, name), ServiceFront(namespace, name, _k8s(own), pods)


def read_slice(document: Mapping[str, Any]) -> tuple[Key, Backends]:
    """The addresses of an EndpointSlice that may be used; none if it is of domain names."""
    metadata, namespace, name = schema.metadata(document)
    own = dict(schema.labels(metadata.get("labels", {}), "metadata.labels"))
    kind = document.get("addressType")
    if kind not in ("IPv4", "IPv6", "FQDN"):
        schema.fail("addressType", kind, "it must be IPv4, IPv6 or FQDN")
    found: list[str] = []
    for path, item in schema.items(_present(document), "endpoints", ""):
        endpoint = _mapping(item, path)
        conditions = _mapping(endpoint.get("conditions"), f"{path}.conditions")
        addresses = schema.items(endpoint, "addresses", path)
        if kind != "FQDN" and _is_usable(conditions):
            found += (_prefix(value, at, kind) for at, value in addresses)
    service = own.get(SERVICE_NAME, "")
    return (SLICE, namespace, name), Backends(namespace, service, _unique(found))


def read_endpoints(document: Mapping[str, Any]) -> tuple[Key, Backends]:
    """The addresses of an Endpoints that are ready; it bears its Service's name."""
    _, namespace, name = schema.metadata(document)
    found = [
        _prefix(_mapping(address, at).get("ip"), f"{at}.ip")
        for path, subset in schema.items(_present(document), "subsets", "")
        for at, address in schema.items(_mapping(subset, path), "addresses", path)
    ]
    return (ENDPOINTS, namespace, name), Backends(namespace, name, _unique(found))


def is_derived(document: Mapping[str, Any]) -> bool:
    """Whether an EndpointSlice says what its Service's selector says already."""
    metadata = document.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    return isinstance(labels, Mapping) and labels.get(MANAGED_BY) == CONTROLLER


def _is_usable(conditions: Mapping[str, Any]) -> bool:
    """Ready, or still serving while it ends; unknown counts as ready (discovery/v1)."""
    return conditions.get("ready") is not False or conditions.get("serving") is True


def _prefix(value: object, path: str, kind: str = "") -> str:
    try:
        address = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        schema.fail(path, value, "it must be an IP address")
    if kind not in ("", f"IPv{address.version}"):
        schema.fail(path, value, f"it must be an address of the slice's addressType, {kind}")
    return str(ipaddress.ip_network(address))


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        schema.fail(path, value, "it must be a mapping of fields")
    return _present(value)


def _present(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _unique(prefixes: list[str]) -> tuple[str, ...]:
    return tuple(sorted(set(prefixes)))


def _k8s(labels: tuple[tuple[str, str], ...]) -> LabelSet:
    return label_set(f"k8s:{key}={value}" for key, value in labels)
