"""Policies on domain names, for tests."""

from typing import Any

DNS = {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}
"""Labels of the pods that are asked for names."""


def to_names(
    *patterns: str,
    name: str = "names",
    namespace: str = "shop",
    lookups: tuple[str, ...] | None = ("*",),
    labels: dict[str, str] | None = None,
    port: int = 443,
) -> dict[str, Any]:
    """A CiliumNetworkPolicy whose pods may ask for names of the patterns `lookups` (None: ask
    nobody), and speak TCP to `port` of what the names of `patterns` stand for."""
    egress: list[dict[str, Any]] = []
    if lookups is not None:
        ports = {
            "ports": [{"port": "53", "protocol": "ANY"}],
            "rules": {"dns": [_selector(pattern) for pattern in lookups]},
        }
        egress.append({"toEndpoints": [{"matchLabels": DNS}], "toPorts": [ports]})
    if patterns:
        ports = {"ports": [{"port": str(port), "protocol": "TCP"}]}
        egress.append({"toFQDNs": [_selector(one) for one in patterns], "toPorts": [ports]})
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": {"matchLabels": labels or {}}, "egress": egress},
    }


def _selector(pattern: str) -> dict[str, str]:
    return {"matchPattern" if "*" in pattern else "matchName": pattern}
