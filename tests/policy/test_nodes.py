"""Nodes as peers: by labels in the ledger, in compiled maps and in the second reading alike."""

from typing import Any

import pytest

from tabard.dataplane.maps import Mode, address
from tabard.dataplane.verdict import flow_verdict
from tabard.events.ledger import NodeRemoved
from tabard.policy.engine import Engine
from world import World, tiered_policy


def rule(action: str, *peers: dict[str, Any]) -> dict[str, Any]:
    return {"action": action, "to": list(peers)}


@pytest.mark.parametrize("mode", Mode)
def test_who_may_reach_a_node_follows_its_labels(mode: Mode) -> None:
    world = World(nodes=1)
    world.node("n2", ("192.168.9.2", "fd99::2"), ("10.244.2.0/24",), role="edge")
    world.node("n3", ("192.168.9.3",), ("10.244.3.0/24",), role="core")
    world.pod("x/a", ip=("10.244.1.2", "fd01::2"))
    world.pod("x/b", ip="10.244.2.2", node="n2")

    def reached() -> list[str]:
        judges = {"n1": world.judge("n1", mode), "n2": world.judge("n2", mode)}
        engine = Engine(world.state)
        found = []
        for target in ("192.168.9.1", "192.168.9.2", "fd99::2", "192.168.9.3", "10.244.2.2"):
            source = "fd01::2" if ":" in target else "10.244.1.2"
            verdict = flow_verdict(judges, address(source), address(target), 6, 80)
            assert verdict.allowed == engine.decide(source, target, 6, 80).allowed, target
            if verdict.allowed:
                found.append(target)
        return found

    nodes = {"nodes": {"matchLabels": {"role": "edge"}}}
    everyone = {"networks": ["0.0.0.0/0", "::/0"]}
    world.policy(tiered_policy("p", egress=[rule("Accept", nodes), rule("Deny", everyone)]))
    assert reached() == ["192.168.9.2", "fd99::2"]
    world.node("n3", ("192.168.9.3",), ("10.244.3.0/24",), role="edge")
    assert reached() == ["192.168.9.2", "fd99::2", "192.168.9.3"]
    world.node("n2", ("192.168.9.2", "fd99::2"), ("10.244.2.0/24",), role="core")
    assert reached() == ["192.168.9.3"]
    world.policy(tiered_policy("p", egress=[rule("Deny", {"nodes": {}})]))
    assert reached() == ["192.168.9.1", "10.244.2.2"]  # n1 has no labels
    world.node("n1", ("192.168.9.1",), ("10.244.1.0/24",), role="edge")
    assert reached() == ["10.244.2.2"]
    world.emit(NodeRemoved("n3"))
    assert reached() == ["192.168.9.3", "10.244.2.2"]  # a node no more
