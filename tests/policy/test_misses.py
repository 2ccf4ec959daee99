from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from parties import ASKED, NODES, PODS, STRANGERS, pods, policies, told
from tabard.dataplane.maps import Direction, Protocol, Reason
from tabard.policy.engine import Engine
from tabard.policy.misses import misses
from world import World, network_policy

KEY = ("NetworkPolicy", "shop", "db")


@pytest.fixture
def shop() -> World:
    world = World()
    world.namespace("ops", {"team": "platform"})
    world.pod("shop/web", {"app": "web"}, node="n1", ip="10.244.1.5")
    world.pod("ops/job", {"app": "job"}, node="n1", ip="10.244.1.6")
    world.pod("shop/db", {"app": "db"}, node="n2", ip="10.244.2.5", ports=(("sql", 5432, "TCP"),))
    return world


def of_ingress(world: World, source: str, *ask: int, **spec: Any) -> list[tuple[str, str]]:
    """(path, why) of each miss from `source` to the database that `spec` isolates."""
    world.policy(network_policy("db", "shop", **spec))
    engine = Engine(world.state)
    peer, subject = engine.parties.pair(source, "shop/db")
    found = misses(engine, Direction.INGRESS, subject, peer, *ask)
    assert all(miss.policy == KEY for miss in found)
    return [(miss.path, miss.why) for miss in found]


def pod(**labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


def test_what_a_selector_asks_for_is_said_beside_what_it_met(shop: World) -> None:
    expressions = [
        {"key": "app", "operator": "In", "values": ["x", "y"]},
        {"key": "app", "operator": "NotIn", "values": ["web"]},
        {"key": "app", "operator": "DoesNotExist"},
        {"key": "tier", "operator": "Exists"},
    ]
    spec = [{"from": [{"podSelector": {"matchExpressions": expressions}}]}]
    assert of_ingress(shop, "shop/web", 6, 80, ingress=spec) == [
        (
            "spec.ingress[0].from[0]",
            "needs app in (x, y), is app=web; needs app not in (web), is app=web; "
            "needs no app, is app=web; needs tier, has none",
        )
    ]


def test_namespaces_are_named_as_their_policies_author_named_them(shop: World) -> None:
    other = {"namespaceSelector": {"matchLabels": {"team": "data"}}}
    assert of_ingress(shop, "ops/job", 6, 80, ingress=[{"from": [pod(app="job"), other]}]) == [
        ("spec.ingress[0].from[0]", "needs namespace shop, is in ops"),
        (
            "spec.ingress[0].from[1]",
            "needs namespace label team=data, is team=platform",
        ),
    ]


def test_the_nearest_miss_comes_first(shop: World) -> None:
    found = of_ingress(
        shop,
        "shop/web",
        6,
        80,
        ingress=[
            {"from": [pod(app="a", tier="b")], "ports": [{"port": 81}]},
            {"from": [pod(app="a")]},
            {"from": [pod(app="web")], "ports": [{"port": 81}, {"protocol": "UDP"}]},
        ],
    )
    assert [path for path, _ in found] == [
        "spec.ingress[1].from[0]",
        "spec.ingress[2]",
        "spec.ingress[0].from[0]",
    ]
    assert found[1][1] == "the peer matches; the ports are 81/TCP, all/UDP"


def test_a_port_by_name_is_said_with_what_it_means_at_the_destination(shop: World) -> None:
    ports = [{"port": "sql"}, {"port": "none"}]
    assert of_ingress(shop, "shop/web", 6, 80, ingress=[{"ports": ports}]) == [
        (
            "spec.ingress[0]",
            "the peer matches; the ports are sql/TCP, none/TCP, which is 5432/TCP at the "
            "destination",
        )
    ]
    ports = [{"port": "none"}]
    assert of_ingress(shop, "shop/web", ingress=[{"ports": ports}]) == [
        (
            "spec.ingress[0]",
            "the peer matches; the ports are none/TCP, which is none at the destination",
        )
    ]


def test_what_a_cidr_does_not_hold_and_what_it_excepts_differ(shop: World) -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.1.0/24"]}}
    spec = [{"from": [block, {"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    assert of_ingress(shop, "shop/web", 6, 80, ingress=spec) == [
        ("spec.ingress[0].from[0]", "10.0.0.0/8 excepts 10.244.1.0/24, which holds 10.244.1.5"),
        ("spec.ingress[0].from[1]", "192.0.2.0/24 does not hold 10.244.1.5"),
    ]


def test_a_selector_says_that_it_selects_pods_only(shop: World) -> None:
    for source, what in (("203.0.113.9", "outside the cluster"), ("192.168.9.1", "a node")):
        assert of_ingress(shop, source, 6, 80, ingress=[{"from": [pod()]}]) == [
            ("spec.ingress[0].from[0]", f"selects pods, and the peer is {what}")
        ]


def test_a_policy_without_rules_says_so(shop: World) -> None:
    assert of_ingress(shop, "shop/web", 6, 80, policyTypes=["Ingress"]) == [
        ("spec.ingress", "has no rule, so it allows nothing")
    ]


def test_a_name_in_an_egress_rule_holds_through_no_ip_block(shop: World) -> None:
    spec = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": "sql"}]}
    shop.policy(network_policy("db", "shop", policyTypes=["Egress"], egress=[spec]))
    engine = Engine(shop.state)
    subject, peer = engine.parties.pair("shop/web", "shop/db")
    (miss,) = misses(engine, Direction.EGRESS, subject, peer, Protocol.TCP, 5432)
    assert (miss.policy, miss.path) == (KEY, "spec.egress[0]")
    assert miss.why == "the peer matches; ports by name (sql) hold through no CIDR"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, policies)
def test_every_rule_that_could_have_allowed_a_denied_flow_is_accounted_for(
    found: list[tuple[str, dict[str, str], Any]], said: list[tuple[str, Any]]
) -> None:
    engine = Engine(told(found, said, leaves=False).state)
    places = [*(held[0] for held in PODS[: len(found)]), STRANGERS[2], NODES[0]]
    for source in places:
        for target in places:
            one, other = engine.parties.pair(source, target)
            for ask in ASKED:
                decision = engine.decide(one, other, *ask)
                for half in decision.halves:
                    if half.reason is not Reason.DENIED_POLICY:
                        continue
                    ends = (one, other) if half.direction is Direction.EGRESS else (other, one)
                    missed = misses(engine, half.direction, *ends, *ask)
                    rules = [
                        (policy.key, rule.path)
                        for policy in engine.isolating(half.direction, ends[0])
                        for rule in policy.rules
                        if rule.direction is half.direction
                    ]
                    for key, path in rules:
                        assert any(
                            miss.policy == key and miss.path.startswith(path) for miss in missed
                        )
                    assert {miss.policy for miss in missed} == set(half.isolating)
                    assert all(miss.why and miss.lacks for miss in missed)
