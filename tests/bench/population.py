"""Made-up clusters: label sets, policies, pods, and events that say so. Pure, and always the same.

Labels are as real ones are: an app, a tier, a team, a version; a namespace with a label. A label
set's number says all of them.
"""

from collections.abc import Iterator
from typing import Any

from tabard.events.observed import NodeJoined, PodStarted

NAMESPACES = 50
TIERS = ("frontend", "backend", "cache", "queue", "database")
TEAMS = 40


def labels(number: int) -> tuple[tuple[str, str], ...]:
    """The labels of the pods of label set `number`; together with `namespace`, no other's."""
    return (
        ("app", f"app-{number}"),
        ("team", f"team-{number % TEAMS}"),
        ("tier", TIERS[number % len(TIERS)]),
        ("version", f"v{number % 7}"),
    )


def namespace(number: int) -> str:
    return f"ns-{number % NAMESPACES}"


def address(number: int, base: int = 10) -> str:
    """The pod address `number`, of 2 ** 24."""
    assert 0 <= number < 1 << 24
    return f"{base}.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def node(number: int) -> str:
    return f"n{number}"


def pod(
    number: int, label_set: int, on: str, *, started_at: int = 0, prefix: str = "pod"
) -> PodStarted:
    """Pod `number` of label set `label_set`, as a source observes it."""
    return PodStarted(
        uid=f"{prefix}-{number:08d}-0000-4000-8000-000000000000",
        namespace=namespace(label_set),
        name=f"app-{label_set}-{number}",
        node=on,
        addresses=(address(number),),
        labels=labels(label_set),
        started_at=started_at,
    )


def joined(number: int) -> NodeJoined:
    """Node `number`, with room for 255 pods."""
    return NodeJoined(
        node(number),
        (f"192.168.{number >> 8}.{number & 255}",),
        (f"10.{number >> 8}.{number & 255}.0/24",),
    )


def policy(number: int, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"policy-{number}", "namespace": namespace},
        "spec": spec,
    }


def policies(rules: int, *, egress: bool = False) -> Iterator[dict[str, Any]]:
    """Policies with `rules` rules between them, four each, as varied as people write them."""
    for number in range(-(-rules // 4)):
        tier, team = TIERS[number % len(TIERS)], f"team-{number % TEAMS}"
        peers: list[dict[str, Any]] = [
            {"podSelector": {"matchLabels": {"tier": TIERS[(number + 1) % len(TIERS)]}}},
            {"podSelector": {"matchLabels": {"team": team}}},
            {
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": namespace(number + 1)}
                },
                "podSelector": {
                    "matchExpressions": [
                        {"key": "version", "operator": "In", "values": ["v1", "v2"]}
                    ]
                },
            },
            {"podSelector": {"matchLabels": {"app": f"app-{number}"}}},
        ]
        ingress = [
            {"from": [peer], "ports": [{"protocol": "TCP", "port": 8000 + at}]}
            for at, peer in enumerate(peers)
        ]
        spec: dict[str, Any] = {
            "podSelector": {"matchLabels": {"tier": tier}} if number % 2 else {},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        }
        if egress:
            spec["policyTypes"].append("Egress")
            spec["egress"] = [{"to": [peers[0]]}]
        yield policy(number, namespace(number), **spec)


_SERVERS = {"podSelector": {"matchLabels": {"role": "server"}}}
_CLIENTS = {"podSelector": {"matchLabels": {"role": "client"}}}
SERVING = (
    policy(1, "bench", **_SERVERS, policyTypes=["Ingress"], ingress=[{"from": [_CLIENTS]}]),
    policy(2, "bench", **_CLIENTS, policyTypes=["Egress"], egress=[{"to": [_SERVERS]}]),
)
"""A node that runs a client must know a server's address before the server is enforced there."""
