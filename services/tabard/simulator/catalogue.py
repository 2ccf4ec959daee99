"""What a simulated cluster is asked for: few label sets, namespaces and policies, so that they
meet."""

from typing import Any

from tabard.policy.staleness import AFTER, THEN

LABELS: dict[str, tuple[tuple[str, str], ...]] = {
    "web": (("app", "web"),),
    "api": (("app", "api"),),
    "db": (("app", "db"),),
    "web-edge": (("app", "web"), ("tier", "edge")),
    "api-edge": (("app", "api"), ("tier", "edge")),
    "job": (("app", "job"),),
}

NAMESPACES: dict[str, tuple[tuple[str, str], ...]] = {
    "bare": (),
    "red": (("team", "red"),),
    "blue": (("team", "blue"),),
}
"""Labels that a namespace may have."""

PODS = {f"p{number}": "shop" if number % 3 else "bank" for number in range(1, 13)}
"""Names of pods, and the namespace of each: StatefulSets' names come again."""

ADDRESSES_A_NODE = 5
OUTSIDE = ("203.0.113.7", "198.51.100.9")
"""Addresses that are no pod's and no node's."""
PORTS = (80, 5432)


def _pods(**labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels} if labels else {}}


def _team(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"team": name}}}


def _block(cidr: str, *but: str) -> dict[str, Any]:
    block: dict[str, Any] = {"cidr": cidr}
    if but:
        block["except"] = list(but)
    return {"ipBlock": block}


def _port(number: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": number}]


def _network(name: str, namespace: str, selects: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": selects}, **spec},
    }


def _both(name: str, **rules: Any) -> dict[str, Any]:
    """Of all pods of a namespace, both ways."""
    return _network(name, "shop", {}, policyTypes=["Ingress", "Egress"], **rules)


def _cilium(name: str, namespace: str, selects: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": {"matchLabels": selects}, **spec},
    }


def _admin(name: str, action: str) -> dict[str, Any]:
    peer = {"namespaces": {"matchLabels": {"team": "red"}}}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "AdminNetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "priority": 10,
            "subject": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}},
            "ingress": [{"name": "red", "action": action, "from": [peer]}],
        },
    }


def _fresh(document: dict[str, Any]) -> dict[str, Any]:
    """Opens nothing new where what is enforced may be too old."""
    said = {AFTER: "3s", THEN: "deny-new"}
    return {**document, "metadata": {**document["metadata"], "annotations": said}}


POLICIES: dict[str, tuple[dict[str, Any], ...]] = {
    "web-in": (
        _network("web-in", "shop", {"app": "web"}, ingress=[{"from": [_pods(app="api")]}]),
        _network(
            "web-in",
            "shop",
            {"app": "web"},
            ingress=[{"from": [_pods(app="db")], "ports": _port(80)}],
        ),
        _network("web-in", "shop", {"app": "web"}, ingress=[]),
    ),
    "all-in": (
        _network("all-in", "shop", {}, ingress=[{"from": [_pods(tier="edge")]}]),
        _network("all-in", "shop", {}, ingress=[{"ports": _port(80)}]),
    ),
    "api-out": (
        _network(
            "api-out",
            "shop",
            {"app": "api"},
            policyTypes=["Egress"],
            egress=[{"to": [_pods(app="db")], "ports": _port(5432)}],
        ),
        _network(
            "api-out",
            "shop",
            {"app": "api"},
            policyTypes=["Egress"],
            egress=[{"to": [_pods(app="web"), _team("blue")]}],
        ),
        _network(
            "api-out",
            "shop",
            {"app": "api"},
            policyTypes=["Egress"],
            egress=[{"to": [_block("203.0.113.0/24"), _block("10.244.2.0/24", "10.244.2.1/32")]}],
        ),
    ),
    "both": (
        _both("both", ingress=[{"from": [_pods(app="web")]}], egress=[{"to": [_pods(app="db")]}]),
        _both("both", ingress=[{"ports": _port(80)}], egress=[{"to": [_pods(app="api")]}]),
        _both("both", ingress=[{"from": [_pods(app="api")]}], egress=[]),
        _both("both", ingress=[], egress=[{}]),
    ),
    "db-in": (
        _network("db-in", "bank", {"app": "db"}, ingress=[{"from": [_team("red")]}]),
        _network(
            "db-in",
            "bank",
            {"app": "db"},
            ingress=[{"from": [{**_team("blue"), **_pods(app="web")}], "ports": _port(5432)}],
        ),
    ),
    "cidr-in": (
        _network(
            "cidr-in",
            "bank",
            {},
            ingress=[{"from": [_block("10.244.1.0/24", "10.244.1.2/32")], "ports": _port(80)}],
        ),
        _network("cidr-in", "bank", {}, ingress=[{"from": [_block("198.51.100.0/24")]}]),
    ),
    "not-db": (
        _cilium(
            "not-db",
            "shop",
            {"app": "web"},
            ingressDeny=[{"fromEndpoints": [{"matchLabels": {"app": "db"}}]}],
        ),
        _cilium(
            "not-db",
            "shop",
            {},
            egressDeny=[{"toCIDR": ["203.0.113.0/24"]}],
            egress=[{"toEntities": ["all"]}],
        ),
    ),
    "red": (_admin("red", "Deny"), _admin("red", "Allow")),
    "fresh-in": (
        _fresh(_network("fresh-in", "shop", {}, ingress=[{}])),
        _fresh(_network("fresh-in", "shop", {}, ingress=[{"from": [_pods(), _team("red")]}])),
    ),
}
"""By name, what each may say."""
