from typing import Any

import pytest

from tabard.policy.lint.lockout import lockout
from tabard.policy.lint.survey import Survey
from world import World, cilium_policy, host_policy

EDGE = {"matchLabels": {"role": "edge"}}
BUS = {"toEntities": ["remote-node"], "toPorts": [{"ports": [{"port": "4222"}]}]}


def found(*documents: dict[str, Any]) -> list[str]:
    world = World()
    for document in documents:
        world.policy(document)
    survey = Survey(world.state, {}, {}, whole=False)
    return [f"{finding.rule.id} {finding.object[2]} {finding.path}" for finding in lockout(survey)]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"toEntities": ["world"], "toPorts": [{"ports": [{"port": "443"}]}]},
        {"toEntities": ["world"], "toPorts": [{"ports": [{"port": "4222", "protocol": "UDP"}]}]},
    ],
)
def test_a_node_that_may_not_reach_the_bus_is_told(rule: dict[str, Any]) -> None:
    assert found(host_policy("p", EDGE, egress=[rule])) == ["TB305 p spec.nodeSelector"]


def test_who_lets_the_bus_through_for_all_of_these_nodes_mends_it() -> None:
    shut = host_policy("shut", EDGE, egress=[{}])
    assert found(shut, host_policy("bus", {}, egress=[BUS])) == []
    assert found(shut, host_policy("bus", {"matchLabels": {"disk": "ssd"}}, egress=[BUS])) != []
    assert found(host_policy("p", EDGE, egress=[{"toEntities": ["all"]}])) == []
    assert found(host_policy("p", EDGE, ingress=[{}])) == [], "answers to what agents ask come in"
    assert found(cilium_policy("pods", egress=[{}])) == []
