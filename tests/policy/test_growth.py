from typing import Any

import pytest

from tabard.dataplane.maps import Mode
from tabard.policy.compile import Compiler
from world import World, network_policy

ANYONE = {"podSelector": {}, "namespaceSelector": {}}


def growth(*policies: dict[str, Any], peers: int = 3) -> str:
    """Of all entries of a node with one pod, x/web, and `peers` others elsewhere."""
    world = World()
    world.pod("x/web", {"app": "web"}, ip="10.244.1.1")
    for number in range(peers):
        world.pod(f"x/p{number}", {"app": f"p{number}"}, node="n2", ip=f"10.244.2.{number + 1}")
    for policy in policies:
        world.policy(policy)
    compiler = Compiler()
    maps = compiler.compile(world.state, "n1", Mode.OVERLAY, world.attachments("n1"))
    return str(compiler.growth(maps.policies))


def ingress(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return network_policy(name, "x", ingress=list(rules))


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], "None"),
        ([ingress("nobody")], "None"),
        # Peers times blocks of ports: 5-8 are three of them.
        (
            [ingress("p", {"from": [ANYONE], "ports": [{"port": 5, "endPort": 8}]})],
            "NetworkPolicy x/p, spec.ingress[0] (12)",
        ),
        # The largest rule of the largest policy, though another's rule is larger.
        (
            [
                ingress("many", *[{"ports": [{"port": 10 * n + 1}]} for n in range(4)]),
                ingress("one", {"ports": [{"port": 1}, {"port": 3}, {"port": 5}]}),
            ],
            "NetworkPolicy x/many, spec.ingress[0] (1)",
        ),
        (
            [
                ingress("p", {"ports": [{"port": 1}]}, {"ports": [{"port": 3}, {"port": 5}]}),
                ingress("q", {"ports": [{"port": 7}]}),
            ],
            "NetworkPolicy x/p, spec.ingress[1] (2)",
        ),
    ],
)
def test_the_rule_that_asks_for_most_is_named(
    policies: list[dict[str, Any]], expected: str
) -> None:
    assert growth(*policies) == expected


def test_only_the_peers_that_are_new_count() -> None:
    world = World()
    world.pod("x/web", {"app": "web"}, ip="10.244.1.1")
    world.policy(ingress("wide", {"ports": [{"port": n} for n in range(1, 20, 2)]}))
    world.policy(ingress("narrow", {"from": [{"podSelector": {"matchLabels": {"app": "new"}}}]}))
    compiler = Compiler()
    compiler.compile(world.state, "n1", Mode.OVERLAY, world.attachments("n1"))
    world.untold.clear()
    world.pod("x/new", {"app": "new"}, node="n2", ip="10.244.2.9")
    compiler.note(world.untold)
    change = compiler.update(world.state, "n1", Mode.OVERLAY, world.attachments("n1"))
    assert change is not None
    assert (
        str(compiler.growth(change.policies_set)) == "NetworkPolicy x/narrow, spec.ingress[0] (1)"
    )
