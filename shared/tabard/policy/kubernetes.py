"""Reading networking.k8s.io/v1 NetworkPolicy, as upstream means it.

The schema is checked here, at the edge: a wrong type, an unknown field or a value that the API
server would refuse (kubernetes/pkg/apis/networking/validation) is a PolicyError with the field's
path. After reading, nothing about the document can fail. Null stands for an absent field, as in the
API; a null list item is refused, since upstream would read it as an empty, all-allowing one.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NoReturn

import msgpack

from tabard.dataplane.maps import Direction, Protocol
from tabard.identity.labels import (
    DERIVED_PREFIXES,
    NAMESPACE_KEY,
    NAMESPACE_LABELS_PREFIX,
    LabelFilter,
)
from tabard.identity.syntax import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    LABEL_NAME,
    LABEL_VALUE,
    PORT_NAME,
)
from tabard.policy.model import (
    ALL_PORTS,
    Cidr,
    Peer,
    Policy,
    PolicyError,
    Port,
    Requirement,
    Rule,
    Selector,
)

API_VERSION = "networking.k8s.io/v1"
KIND = "NetworkPolicy"
READ_CACHE_MAX = 4_096
"""Policies kept in parsed form; each is read on every fold, check and compile that meets it."""

# fmt: off
_METADATA = (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp",
    "finalizers", "generateName", "generation", "labels", "managedFields", "name", "namespace",
    "ownerReferences", "resourceVersion", "selfLink", "uid",
)
# fmt: on
_DIRECTIONS = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
_PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


def read_policy(document: Mapping[str, Any], origin: str = "") -> Policy:
    """The policy that `document` states; PolicyError names the first field that is wrong.

    Without metadata.namespace it lies in `default`. Rules of a direction that policyTypes leaves
    out are checked and have no effect, as upstream.
    """
    try:
        packed: bytes = msgpack.packb(document)
    except (TypeError, ValueError, OverflowError):
        return _policy(document, origin)  # holds what no bus carries, such as a YAML date
    return _read_packed(packed, origin)


@lru_cache(maxsize=READ_CACHE_MAX)
def _read_packed(packed: bytes, origin: str) -> Policy:
    return _policy(msgpack.unpackb(packed, strict_map_key=False), origin)


def check_keys(policy: Policy, label_filter: LabelFilter) -> None:
    """PolicyError if a selector asks for a label that `label_filter` keeps out of identities.

    Such a requirement could never see its label: the policy would mean something else than it says.
    """
    selectors = [("spec.podSelector", policy.subject)]
    for rule in policy.rules:
        side = "from" if rule.direction is Direction.INGRESS else "to"
        selectors += [
            (f"{rule.path}.{side}[{index}]", peer)
            for index, peer in enumerate(rule.peers or ())
            if isinstance(peer, Selector)
        ]
    for path, selector in selectors:
        for need in selector.requirements:
            if not label_filter.relevant_key(need.key, need.source):
                key = need.key.removeprefix(NAMESPACE_LABELS_PREFIX)
                of = "namespace" if key != need.key else "pod"
                raise PolicyError(
                    path,
                    f"selects by {of} label {key!r}, which the label filter keeps out of "
                    "identities, so that it can never match; select by another label, or include "
                    "this one in the label filter (a setting of the install)",
                )


def _fail(path: str, value: object, reason: str) -> NoReturn:
    raise PolicyError(path or "(document)", f"is {_shown(value)}; {reason}")


def _shown(value: object) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fields(value: object, path: str, *known: str) -> Mapping[str, Any]:
    """A mapping with no field but `known`; null fields are left out, as if absent."""
    if not isinstance(value, Mapping):
        _fail(path, value, "it must be a mapping of fields")
    for name in value:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise PolicyError(_join(path, str(name)), f"unknown field; {hint}")
    return {name: item for name, item in value.items() if item is not None}


def _items(fields: Mapping[str, Any], name: str, path: str) -> list[tuple[str, Any]]:
    """(path, item) for each item of the list field `name`; none if it is absent."""
    path = _join(path, name)
    value = fields.get(name, [])
    if not isinstance(value, list | tuple):
        _fail(path, value, "it must be a list (begin each item with '- ')")
    return [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _text(
    value: object, path: str, pattern: re.Pattern[str], rule: str, length_max: int = 253
) -> str:
    if not isinstance(value, str):
        _fail(path, value, "it must be a string (put it in quotes)")
    if len(value) > length_max or not pattern.fullmatch(value):
        _fail(path, value, rule)
    return value


def _policy(document: object, origin: str) -> Policy:
    top = _fields(document, "", "apiVersion", "kind", "metadata", "spec", "status")
    if top.get("apiVersion") != API_VERSION:
        _fail(
            "apiVersion", top.get("apiVersion"), f"only {API_VERSION} is read; convert the policy"
        )
    if top.get("kind") != KIND:
        _fail("kind", top.get("kind"), f"it must be {KIND}")
    metadata = _fields(top.get("metadata", {}), "metadata", *_METADATA)
    dns = "it must be lower-case letters, digits, '-' and '.', at most 253 (RFC 1123 subdomain)"
    name = _text(metadata.get("name"), "metadata.name", DNS_SUBDOMAIN, dns)
    namespace = _text(
        metadata.get("namespace", "default"),
        "metadata.namespace",
        DNS_LABEL,
        "it must be lower-case letters, digits and '-', at most 63 (RFC 1123 label)",
    )
    spec = _fields(top.get("spec", {}), "spec", "podSelector", "policyTypes", "ingress", "egress")
    subject = _pods_of(namespace, spec.get("podSelector", {}), "spec.podSelector")
    rules = [
        _rule(item, path, direction, namespace)
        for direction, field in ((Direction.INGRESS, "ingress"), (Direction.EGRESS, "egress"))
        for path, item in _items(spec, field, "spec")
    ]
    isolates = _isolates(spec)
    return Policy(
        kind=KIND,
        namespace=namespace,
        name=name,
        subject=subject,
        isolates=isolates,
        rules=tuple(rule for rule in rules if rule.direction in isolates),
        origin=origin,
    )


def _isolates(spec: Mapping[str, Any]) -> frozenset[Direction]:
    """policyTypes, with the defaults of kubernetes/pkg/apis/networking/v1/defaults.go."""
    types = _items(spec, "policyTypes", "spec")
    for path, value in types:
        if not isinstance(value, str) or value not in _DIRECTIONS:
            _fail(path, value, "it must be Ingress or Egress")
    if types:
        return frozenset(_DIRECTIONS[value] for _, value in types)
    return frozenset(_DIRECTIONS.values() if spec.get("egress") else (Direction.INGRESS,))


def _rule(value: object, path: str, direction: Direction, namespace: str) -> Rule:
    side = "from" if direction is Direction.INGRESS else "to"
    fields = _fields(value, path, side, "ports")
    peers = [_peer(item, at, namespace) for at, item in _items(fields, side, path)]
    ports = [_port(item, at) for at, item in _items(fields, "ports", path)]
    # An empty list means what an absent one does: all peers, all ports (NetworkPolicyIngressRule).
    return Rule(direction, tuple(peers) or None, tuple(ports) or ALL_PORTS, path)


def _peer(value: object, path: str, namespace: str) -> Peer:
    fields = _fields(value, path, "podSelector", "namespaceSelector", "ipBlock")
    if not fields:
        _fail(path, value, "it must have a podSelector, a namespaceSelector or an ipBlock")
    if "ipBlock" in fields:
        if len(fields) > 1:
            _fail(path, value, "an ipBlock stands alone; give the selector a list item of its own")
        return _ip_block(fields["ipBlock"], f"{path}.ipBlock")
    if "namespaceSelector" not in fields:
        return _pods_of(namespace, fields["podSelector"], f"{path}.podSelector")
    # Namespaces are known by the labels their pods inherit, so only what has a namespace matches.
    requirements = [
        Requirement(NAMESPACE_KEY, "Exists"),
        *_selector(
            fields["namespaceSelector"],
            f"{path}.namespaceSelector",
            lambda key, _: NAMESPACE_LABELS_PREFIX + key,
        ),
        *_selector(fields.get("podSelector", {}), f"{path}.podSelector", _pod_key),
    ]
    return Selector(tuple(requirements))


def _pods_of(namespace: str, selector: object, path: str) -> Selector:
    own = Requirement(NAMESPACE_KEY, "In", frozenset((namespace,)))
    return Selector((own, *_selector(selector, path, _pod_key)))


def _pod_key(key: str, path: str) -> str:
    if key.startswith(DERIVED_PREFIXES):
        raise PolicyError(
            path,
            f"key {key!r} is no label that a pod can carry (Tabard derives it from the pod's "
            "place); use a namespaceSelector",
        )
    return key


def _selector(value: object, path: str, label_key: Callable[[str, str], str]) -> list[Requirement]:
    """The requirements of a meta/v1 LabelSelector, ANDed."""
    fields = _fields(value, path, "matchLabels", "matchExpressions")
    found = []
    labels_path = f"{path}.matchLabels"
    labels = fields.get("matchLabels", {})
    if not isinstance(labels, Mapping):
        _fail(labels_path, labels, "it must be a mapping of label keys to values")
    for key, label_value in labels.items():
        at = f"{labels_path}[{key!r}]"
        checked = label_key(_label_key(key, at), at)
        found.append(Requirement(checked, "In", frozenset((_label_value(label_value, at),))))
    for at, item in _items(fields, "matchExpressions", path):
        found.append(_expression(item, at, label_key))
    return found


def _expression(value: object, path: str, label_key: Callable[[str, str], str]) -> Requirement:
    fields = _fields(value, path, "key", "operator", "values")
    key = label_key(_label_key(fields.get("key"), f"{path}.key"), f"{path}.key")
    operator = fields.get("operator")
    values = frozenset(_label_value(item, at) for at, item in _items(fields, "values", path))
    match operator:
        case "In" | "NotIn":
            if not values:
                _fail(f"{path}.values", [], f"operator {operator} needs one value or more")
        case "Exists" | "DoesNotExist":
            if values:
                _fail(f"{path}.values", sorted(values), f"operator {operator} takes no values")
        case _:
            _fail(f"{path}.operator", operator, "it must be In, NotIn, Exists or DoesNotExist")
    return Requirement(key, operator, values)


def _label_key(value: object, path: str) -> str:
    rule = (
        "a label key is [prefix/]name: the name at most 63 letters, digits, '-', '_' and '.', "
        "letter or digit at both ends; the prefix a lower-case DNS name"
    )
    if not isinstance(value, str):
        _fail(path, value, rule)
    prefix, slash, name = value.rpartition("/")
    if slash:
        _text(prefix, path, DNS_SUBDOMAIN, rule)
    _text(name, path, LABEL_NAME, rule)
    return value


def _label_value(value: object, path: str) -> str:
    rule = (
        "a label value is empty or at most 63 letters, digits, '-', '_' and '.', letter or digit "
        "at both ends"
    )
    return _text(value, path, LABEL_VALUE, rule)


def _ip_block(value: object, path: str) -> Cidr:
    fields = _fields(value, path, "cidr", "except")
    network = _network(fields.get("cidr"), f"{path}.cidr")
    excepts = []
    for at, item in _items(fields, "except", path):
        hole = _network(item, at)
        if hole.version != network.version or hole == network or not _within(hole, network):
            _fail(at, item, f"it must lie inside cidr {network} and be smaller")
        excepts.append(str(hole))
    return Cidr(str(network), tuple(sorted(set(excepts))))


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _within(inner: _Network, outer: _Network) -> bool:
    return inner.subnet_of(outer)  # type: ignore[arg-type]


def _network(value: object, path: str) -> _Network:
    rule = "it must be a CIDR such as 10.0.0.0/8 or fd00::/8"
    if not isinstance(value, str) or "/" not in value:
        _fail(path, value, rule)
    address, _, length = value.partition("/")
    if not length.isdecimal():
        _fail(path, value, rule)
    try:
        # Bits beyond the length are dropped, as upstream does (ParseCIDRSloppy).
        network = ipaddress.ip_network((address, int(length)), strict=False)
    except ValueError as error:
        raise PolicyError(path, f"is {_shown(value)}; {rule}") from error
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        _fail(path, value, "IPv4 addresses are written as IPv4 (10.0.0.0/8), not mapped into IPv6")
    return network


def _port(value: object, path: str) -> Port:
    fields = _fields(value, path, "protocol", "port", "endPort")
    name = fields.get("protocol", "TCP")
    if not isinstance(name, str) or name not in _PROTOCOLS:
        _fail(f"{path}.protocol", name, "it must be TCP, UDP or SCTP")
    protocol = _PROTOCOLS[name]
    port, end = fields.get("port"), fields.get("endPort")
    if isinstance(port, str):
        _text(
            port,
            f"{path}.port",
            PORT_NAME,
            "a port is a number without quotes, or the name of a containerPort: at most 15 "
            "lower-case letters, digits and '-', with one letter at least",
        )
    elif port is not None:
        _port_number(port, f"{path}.port")
    if end is None:
        if port is None:
            return Port(protocol)
        if isinstance(port, str):
            return Port(protocol, name=port)
        return Port(protocol, port, port)
    if not isinstance(port, int):
        _fail(f"{path}.endPort", end, "endPort needs a port that is a number")
    last = _port_number(end, f"{path}.endPort")
    if last < port:
        _fail(f"{path}.endPort", end, f"it must not be below port ({port})")
    return Port(protocol, port, last)


def _port_number(value: object, path: str) -> int:
    if type(value) is not int or not 1 <= value <= 65_535:  # a bool is no number here
        _fail(path, value, "it must be a number in 1-65535")
    return value
