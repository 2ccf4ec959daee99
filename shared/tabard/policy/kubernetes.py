"""Reading networking.k8s.io/v1 NetworkPolicy, as upstream means it.

The schema is checked here, at the edge (kubernetes/pkg/apis/networking/validation); after reading,
nothing about the document can fail.
"""

from collections.abc import Mapping
from typing import Any

from tabard.dataplane.maps import Direction, Protocol
from tabard.identity.labels import DERIVED_PREFIXES, NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX
from tabard.identity.syntax import PORT_NAME
from tabard.policy import schema
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

_DIRECTIONS = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


def read(document: object, origin: str) -> Policy:
    """The policy that `document` states; PolicyError names the first field that is wrong.

    Without metadata.namespace it lies in `default`. Rules of a direction that policyTypes leaves
    out are checked and have no effect, as upstream.
    """
    top = schema.fields(document, "", "apiVersion", "kind", "metadata", "spec", "status")
    _, namespace, name = schema.metadata(top)
    spec = schema.fields(
        top.get("spec", {}), "spec", "podSelector", "policyTypes", "ingress", "egress"
    )
    subject = _pods_of(namespace, spec.get("podSelector", {}), "spec.podSelector")
    rules = [
        _rule(item, path, direction, namespace)
        for direction, field in ((Direction.INGRESS, "ingress"), (Direction.EGRESS, "egress"))
        for path, item in schema.items(spec, field, "spec")
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
    types = schema.items(spec, "policyTypes", "spec")
    if types:
        return frozenset(
            _DIRECTIONS[schema.choice(value, path, _DIRECTIONS)] for path, value in types
        )
    return frozenset(_DIRECTIONS.values() if spec.get("egress") else (Direction.INGRESS,))


def _rule(value: object, path: str, direction: Direction, namespace: str) -> Rule:
    side = "from" if direction is Direction.INGRESS else "to"
    given = schema.fields(value, path, side, "ports")
    peers = [_peer(item, at, namespace) for at, item in schema.items(given, side, path)]
    ports = [_port(item, at) for at, item in schema.items(given, "ports", path)]
    # An empty list means what an absent one does: all peers, all ports (NetworkPolicyIngressRule).
    return Rule(
        direction,
        tuple(peers) or None,
        tuple(ports) or ALL_PORTS,
        path,
        peer_paths=tuple(f"{side}[{index}]" for index in range(len(peers))),
        port_paths=tuple(f"ports[{index}]" for index in range(len(ports))),
    )


def _peer(value: object, path: str, namespace: str) -> Peer:
    given = schema.fields(value, path, "podSelector", "namespaceSelector", "ipBlock")
    if not given:
        schema.fail(path, value, "it must have a podSelector, a namespaceSelector or an ipBlock")
    if "ipBlock" in given:
        if len(given) > 1:
            schema.fail(
                path, value, "an ipBlock stands alone; give the selector a list item of its own"
            )
        return _ip_block(given["ipBlock"], f"{path}.ipBlock")
    if "namespaceSelector" not in given:
        return _pods_of(namespace, given["podSelector"], f"{path}.podSelector")
    return pods_among(
        given["namespaceSelector"],
        f"{path}.namespaceSelector",
        given.get("podSelector", {}),
        f"{path}.podSelector",
    )


def pods_among(namespaces: object, namespaces_path: str, pods: object, pods_path: str) -> Selector:
    """Pods by the LabelSelectors of their namespaces and of their own, written at these paths."""
    # Namespaces are known by the labels their pods inherit, so only what has a namespace matches.
    requirements = [
        Requirement(NAMESPACE_KEY, "Exists"),
        *schema.selector(namespaces, namespaces_path, lambda key, _: NAMESPACE_LABELS_PREFIX + key),
        *schema.selector(pods, pods_path, _pod_key),
    ]
    return Selector(tuple(requirements))


def _pods_of(namespace: str, selector: object, path: str) -> Selector:
    own = Requirement(NAMESPACE_KEY, "In", frozenset((namespace,)))
    return Selector((own, *schema.selector(selector, path, _pod_key)))


def _pod_key(key: str, path: str) -> str:
    if key.startswith(DERIVED_PREFIXES):
        raise PolicyError(
            path,
            f"key {key!r} is no label that a pod can carry (Tabard derives it from the pod's "
            "place); use a namespaceSelector",
        )
    return key


def _ip_block(value: object, path: str) -> Cidr:
    given = schema.fields(value, path, "cidr", "except")
    network = schema.network(given.get("cidr"), f"{path}.cidr")
    excepts = []
    for at, item in schema.items(given, "except", path):
        hole = schema.network(item, at)
        if hole.version != network.version or hole == network or not schema.within(hole, network):
            schema.fail(at, item, f"it must lie inside cidr {network} and be smaller")
        excepts.append(str(hole))
    return Cidr(str(network), tuple(sorted(set(excepts))))


def _port(value: object, path: str) -> Port:
    given = schema.fields(value, path, "protocol", "port", "endPort")
    name = schema.choice(given.get("protocol", "TCP"), f"{path}.protocol", PROTOCOLS)
    protocol = PROTOCOLS[name]
    port, end = given.get("port"), given.get("endPort")
    if isinstance(port, str):
        schema.text(
            port,
            f"{path}.port",
            PORT_NAME,
            "a port is a number without quotes, or the name of a containerPort: at most 15 "
            "lower-case letters, digits and '-', with one letter at least",
        )
    elif port is not None:
        schema.port_number(port, f"{path}.port")
    if end is None:
        if port is None:
            return Port(protocol)
        if isinstance(port, str):
            return Port(protocol, name=port)
        return Port(protocol, port, port)
    if not isinstance(port, int):
        schema.fail(f"{path}.endPort", end, "endPort needs a port that is a number")
    last = schema.port_number(end, f"{path}.endPort")
    if last < port:
        schema.fail(f"{path}.endPort", end, f"it must not be below port ({port})")
    return Port(protocol, port, last)
