"""Policies on domain names, for tests."""

from typing import Any

DNS = {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}
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


# Until CiliumNetworkPolicies are read.
def _stand_in() -> None:
    from tabard.dataplane.maps import Direction, Protocol
    from tabard.policy import reading
    from tabard.policy.model import DomainName, Policy, Port, Requirement, Rule, Selector

    def selector(labels: dict[str, str], namespace: str) -> Selector:
        pairs = {"io.kubernetes.pod.namespace": namespace}
        pairs |= {key.removeprefix("k8s:"): value for key, value in labels.items()}
        return Selector(tuple(Requirement(k, "In", frozenset({v})) for k, v in pairs.items()))

    def read(document: Any, origin: str) -> reading.PolicyObject:
        meta, spec = document["metadata"], document["spec"]
        rules = []
        for index, rule in enumerate(spec["egress"]):
            peers: list[Any] = [
                selector(one["matchLabels"], meta["namespace"])
                for one in rule.get("toEndpoints", ())
            ]
            peers += [DomainName(v) for one in rule.get("toFQDNs", ()) for v in one.values()]
            ports: list[Any] = []
            for item in rule["toPorts"]:
                dns = item.get("rules", {}).get("dns")
                lookups = dns and frozenset(v for one in dns for v in one.values())
                for port in item["ports"]:
                    number = int(port["port"])
                    names = ["TCP", "UDP"] if port["protocol"] == "ANY" else [port["protocol"]]
                    ports += [Port(Protocol[n], number, number, "", lookups) for n in names]
            paths = tuple(f"to[{at}]" for at in range(len(peers)))
            rules.append(
                Rule(
                    Direction.EGRESS,
                    tuple(peers),
                    tuple(ports),
                    f"spec.egress[{index}]",
                    peer_paths=paths,
                    port_paths=tuple(f"toPorts[{at}]" for at in range(len(ports))),
                )
            )
        policy = Policy(
            "CiliumNetworkPolicy",
            meta["namespace"],
            meta["name"],
            selector(spec["endpointSelector"]["matchLabels"], meta["namespace"]),
            frozenset({Direction.EGRESS}),
            tuple(rules),
            origin,
        )
        return reading.PolicyObject(*policy.key, policies=(policy,))

    reading._READERS["CiliumNetworkPolicy"] = (("cilium.io/v2",), read)
    reading.KINDS["CiliumNetworkPolicy"] = ("cilium.io/v2",)  # type: ignore[index]


from tabard.policy.reading import KINDS  # noqa: E402

if "CiliumNetworkPolicy" not in KINDS:
    _stand_in()
