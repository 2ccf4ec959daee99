"""NetworkPolicy said naively: documents and labels in, verdict out. No identities, no maps.

Written from the API's documentation (networking/v1 types.go), as the tests' second opinion.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]
    ip: str
    ports: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True)
class Outside:
    ip: str


Party = Pod | Outside
Namespaces = dict[str, dict[str, str]]


def allows(
    policies: Iterable[dict[str, Any]],
    namespaces: Namespaces,
    source: Party,
    target: Party,
    port: int,
    protocol: str,
) -> tuple[bool, bool]:
    """(egress, ingress) of a flow; an outsider allows all."""
    policies = list(policies)
    return (
        _side(policies, namespaces, "Egress", source, target, target, port, protocol),
        _side(policies, namespaces, "Ingress", target, source, target, port, protocol),
    )


def _side(
    policies: list[dict[str, Any]],
    namespaces: Namespaces,
    direction: str,
    subject: Party,
    peer: Party,
    target: Party,
    port: int,
    protocol: str,
) -> bool:
    if isinstance(subject, Outside):
        return True
    isolated = False
    for policy in policies:
        spec, namespace = policy["spec"], policy["metadata"]["namespace"]
        if namespace != subject.namespace or not _selects(spec["podSelector"], subject.labels):
            continue
        types = spec.get("policyTypes") or (
            ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        )
        if direction not in types:
            continue
        isolated = True
        for rule in spec.get(direction.lower()) or []:
            peers = rule.get("from" if direction == "Ingress" else "to")
            ports = rule.get("ports")
            for one in peers or [None]:
                by_address = one is not None and "ipBlock" in one
                # A port's name is that of a pod's port, and a CIDR knows no pods.
                named = None if by_address and direction == "Egress" else target
                if (one is None or _is_peer(one, namespace, peer, namespaces)) and (
                    not ports or any(_is_port(p, named, port, protocol) for p in ports)
                ):
                    return True
    return not isolated


def _is_peer(peer: dict[str, Any], namespace: str, party: Party, namespaces: Namespaces) -> bool:
    if "ipBlock" in peer:
        block, ip = peer["ipBlock"], ipaddress.ip_address(party.ip)
        return ip in ipaddress.ip_network(block["cidr"]) and not any(
            ip in ipaddress.ip_network(hole) for hole in block.get("except", ())
        )
    if isinstance(party, Outside):
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], namespaces[party.namespace]):
            return False
    elif party.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), party.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for need in selector.get("matchExpressions") or []:
        has = need["key"] in labels
        is_in = has and labels[need["key"]] in need.get("values", [])
        holds = {"In": is_in, "NotIn": not is_in, "Exists": has, "DoesNotExist": not has}
        if not holds[need["operator"]]:
            return False
    return True


def _is_port(wanted: dict[str, Any], target: Party | None, port: int, protocol: str) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    number = wanted.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return isinstance(target, Pod) and (number, port, protocol) in target.ports
    return bool(number <= port <= wanted.get("endPort", number))
