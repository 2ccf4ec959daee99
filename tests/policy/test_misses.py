from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import tiered
from parties import ASKED, NODES, PODS, STRANGERS, pods, policies, told
from tabard.dataplane.maps import Action, Direction, Protocol, Reason
from tabard.policy.engine import Engine
from tabard.policy.misses import Finding, Part, findings, misses
from tabard.policy.parties import Party
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


def test_what_an_entity_or_a_group_stands_for_is_told_once(shop: World) -> None:
    group = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "offices"},
        "spec": {"externalCIDRs": ["192.0.2.0/24", "198.51.100.0/24", "10.244.1.0/24"]},
    }
    shop.policy(group)
    ingress = [
        {"fromEntities": ["world"]},
        {"fromCIDRSet": [{"cidrGroupRef": "offices"}]},
        {"fromCIDRSet": [{"cidrGroupRef": "nowhere"}]},
        {},
    ]
    shop.policy(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"endpointSelector": {}, "ingress": ingress},
        }
    )
    engine = Engine(shop.state)
    peer, subject = engine.parties.pair("shop/web", "shop/db")
    found = misses(engine, Direction.INGRESS, subject, peer, 6, 80)
    assert [(miss.path, miss.why) for miss in found] == [
        ("spec.ingress[0].fromEntities[0]", "means world, and the peer is a pod"),
        (
            "spec.ingress[1].fromCIDRSet[0]",
            "10.244.1.0/24 means what is outside the cluster, and 10.244.1.5 is a pod; nor do 2 "
            "more that it stands for",
        ),
        ("spec.ingress[2].fromCIDRSet[0]", "what it refers to is not there"),
        ("spec.ingress[3]", "names nobody"),
    ]


def test_an_entity_of_many_is_told_whole(shop: World) -> None:
    shop.policy(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"endpointSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]},
        }
    )
    engine = Engine(shop.state)
    peer, subject = engine.parties.pair("203.0.113.9", "shop/db")
    (found,) = misses(engine, Direction.INGRESS, subject, peer, 6, 80)
    assert found.why == (
        "means host, remote-node, init, ingress, health, unmanaged, kube-apiserver, pods, "
        "and the peer is world"
    )


def test_a_name_is_told_by_itself_not_by_the_addresses_that_it_stands_for(shop: World) -> None:
    shop.policy(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {
                "endpointSelector": {},
                "egress": [{"toFQDNs": [{"matchName": "a.example"}]}],
            },
        }
    )
    shop.state.names["a.example"] = {"203.0.113.7": 1}
    engine = Engine(shop.state)
    peer, subject = engine.parties.pair("203.0.113.9", "shop/db")
    (found,) = misses(engine, Direction.EGRESS, subject, peer, 6, 80)
    assert found.why == "a.example does not stand for 203.0.113.9"


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
    for flow in halves(engine, found):
        half = engine.half(*flow)
        if half is None or half.reason is not Reason.DENIED_POLICY:
            continue
        missed = misses(engine, *flow)
        direction, subject = flow[:2]
        for policy in engine.isolating(direction, subject):
            for rule in policy.rules:
                if rule.direction is direction:
                    assert any(
                        miss.policy == policy.key and miss.path.startswith(rule.path)
                        for miss in missed
                    )
        assert {miss.policy for miss in missed} == set(half.isolating)
        assert all(miss.why and miss.lacks for miss in missed)


def halves(
    engine: Engine, found: list[Any]
) -> Iterator[tuple[Direction, Party, Party, Protocol, int]]:
    """Either half of flows between all kinds of parties."""
    places = [*(held[0] for held in PODS[: len(found)]), STRANGERS[2], NODES[0]]
    for source, target in product(places, places):
        one, other = engine.parties.pair(source, target)
        for ask in ASKED:
            yield Direction.EGRESS, one, other, *ask
            yield Direction.INGRESS, other, one, *ask


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, policies, st.lists(tiered(), max_size=3))
def test_findings_name_what_decides_and_what_passed_and_would_not_have_changed_it(
    found: list[tuple[str, dict[str, str], Any]], said: list[tuple[str, Any]], tiers: list[Any]
) -> None:
    world = told(found, said, leaves=False)
    for document in tiers:
        world.policy(document)
    engine = Engine(world.state)
    for flow in halves(engine, found):
        half = engine.half(*flow)
        if half is None or engine.at_once(*flow[:3]) is not None:
            continue
        all_of_them = findings(engine, *flow)

        def items(part: Part, every: list[Finding] = all_of_them) -> list[tuple[Any, str]]:
            return [(one.policy, one.path) for one in every if one.part is part]

        decides = [] if half.rule is None else [(half.rule.policy, half.rule.peer_path)]
        assert items(Part.DECIDES) == decides
        assert items(Part.PASSES) == [(one.policy, one.peer_path) for one in half.passes]
        assert [one.tier for one in all_of_them] == sorted(one.tier for one in all_of_them)
        assert all(bool(one.lacks) is (one.part is Part.MISSES) for one in all_of_them)
        if half.rule is not None:
            later = all_of_them[[one.part for one in all_of_them].index(Part.DECIDES) + 1 :]
            assert not any(one.counts for one in later)
        for policy in engine.selecting(*flow[:2]):
            for rule in policy.rules:
                if rule.direction is flow[0]:
                    assert any(
                        one.policy == policy.key and one.path.startswith(rule.path)
                        for one in all_of_them
                    )


def test_a_denial_tells_which_rules_could_have_come_before_it(shop: World) -> None:
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    shop.policy(
        {
            "apiVersion": "policy.networking.k8s.io/v1alpha1",
            "kind": "AdminNetworkPolicy",
            "metadata": {"name": "lock"},
            "spec": {
                "priority": 1,
                "subject": {"namespaces": {}},
                "ingress": [
                    {"action": "Allow", "from": [{"pods": pod(app="ops")}]},
                    {"action": "Pass", "from": [{"pods": pod(app="job")}]},
                    {"action": "Deny", "from": [{"namespaces": {}}]},
                    {"action": "Allow", "from": [{"pods": pod(app="late")}]},
                ],
            },
        }
    )
    shop.policy(network_policy("db", "shop", ingress=[{"from": [web]}]))
    engine = Engine(shop.state)
    peer, subject = engine.parties.pair("shop/web", "shop/db")
    flow = (Direction.INGRESS, subject, peer, 6, 80)
    (miss,) = misses(engine, *flow)
    assert (miss.policy[2], miss.path) == ("lock", "spec.ingress[0].from[0]")
    assert miss.why == "needs app=ops, is app=web"
    assert [(one.path, one.part.value, one.action) for one in findings(engine, *flow)] == [
        ("spec.ingress[0].from[0]", "misses", Action.ALLOW),
        ("spec.ingress[1].from[0]", "misses", Action.PASS),
        ("spec.ingress[2].from[0]", "decides", Action.DENY),
        ("spec.ingress[3].from[0]", "misses", Action.ALLOW),
        ("spec.ingress[0].from[0]", "late", Action.ALLOW),
    ]
