"""Policies that open and close paths between the workload's pods: some that stay, and some of which
now one version is in force, now another, now none. Pure."""

from typing import Any

SHOP, LAB = "shop", "lab"
"""The namespaces; that is the labels' doing, and these change."""
APPS = ("web", "api", "db", "batch")
TCP, UDP = (8080, 9090), (5300,)
"""Ports that every pod listens on."""

_Document = dict[str, Any]


def _app(*names: str) -> _Document:
    return {"matchExpressions": [{"key": "app", "operator": "In", "values": list(names)}]}


def _pods(*names: str) -> _Document:
    return {"podSelector": _app(*names)}


def _ports(*numbers: int) -> list[_Document]:
    return [{"port": n, "protocol": "UDP" if n in UDP else "TCP"} for n in numbers]


_PROD = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}


def _network_policy(namespace: str, name: str, **spec: Any) -> _Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _cilium(namespace: str, name: str, **spec: Any) -> _Document:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _web(*ingress: _Document) -> _Document:
    return _network_policy(SHOP, "web", podSelector=_app("web"), ingress=list(ingress))


def _api(*ingress: _Document) -> _Document:
    return _network_policy(SHOP, "api", podSelector=_app("api"), ingress=list(ingress))


def _lab(*ingress: _Document) -> _Document:
    return _network_policy(LAB, "isolation", podSelector={}, ingress=list(ingress))


def _batch(*egress: _Document) -> _Document:
    return _network_policy(
        SHOP, "batch", podSelector=_app("batch"), policyTypes=["Egress"], egress=list(egress)
    )


def _no_jobs(*names: str) -> _Document:
    return _cilium(
        SHOP,
        "no-jobs",
        endpointSelector=_app("web", "api"),
        ingress=[{"fromEntities": ["all"]}],
        ingressDeny=[{"fromEndpoints": [{"matchLabels": {"app": name}} for name in names]}],
    )


STAYING: tuple[_Document, ...] = (
    _network_policy(
        SHOP,
        "db",
        podSelector=_app("db"),
        ingress=[{"from": [_pods("api")], "ports": _ports(9090, 5300)}],
    ),
    _network_policy(LAB, "db", podSelector=_app("db"), ingress=[]),
)
"""There is always something that may not be reached."""

CHANGING: tuple[tuple[_Document, ...], ...] = (
    (
        _web({"from": [_pods("api", "web")], "ports": _ports(8080)}),
        _web({"from": [_PROD]}),
        _web(),
    ),
    (
        _api({"from": [_pods("web")], "ports": _ports(8080, 5300)}),
        _api({"from": [_pods("web", "batch"), _PROD]}),
    ),
    (_lab({"from": [{"podSelector": {}}]}), _lab({"from": [_PROD]})),
    (_batch({"to": [_pods("web")]}), _batch()),
    (_no_jobs("batch"), _no_jobs("batch", "db")),
)
"""The versions of each policy that changes."""
