"""The engine against compiled maps and their verdicts: every kind of party, in both modes."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parties import ASKED, NODES, PODS, STRANGERS, pods, policies, told
from strategies import PORTS
from tabard.dataplane.maps import Direction, Mode, Protocol, Reason, address
from tabard.dataplane.verdict import FlowVerdict, Judge, flow_verdict
from tabard.policy.engine import Decision, Engine, allowed, decide
from tabard.policy.parties import PartyError, Role
from tabard.policy.traffic import EVERYTHING, NOTHING, contains
from world import World, network_policy

OTHERS = ((Protocol.ICMP, 8), (Protocol.ICMPV6, 128), (47, 0))


def judges(world: World, mode: Mode) -> dict[str, Judge]:
    """Those of nodes that left too: they go on enforcing what they know."""
    return {node: world.judge(node, mode) for node in world.state.nodes | world.state.by_node}


def reasons(decision: Decision) -> FlowVerdict:
    egress, ingress = decision.egress, decision.ingress
    return FlowVerdict(egress and egress.reason, ingress and ingress.reason)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, policies, st.booleans())
def test_decisions_are_the_verdicts_of_compiled_maps(
    found: list[tuple[str, dict[str, str], Any]], said: list[tuple[str, Any]], leaves: bool
) -> None:
    world = told(found, said, leaves=leaves)
    engine = Engine(world.state)
    native, overlay = judges(world, Mode.NATIVE), judges(world, Mode.OVERLAY)
    places = [*(place for held in PODS[: len(found)] for place in held), *STRANGERS, *NODES]
    for source in places:
        for target in places:
            if source == target or (":" in source) != (":" in target):
                continue
            may_pass = engine.allowed(source, target)
            for protocol, port in (*ASKED, *OTHERS):
                flow = (address(source), address(target), protocol, port)
                decision = engine.decide(source, target, protocol, port)
                assert reasons(decision) == flow_verdict(native, *flow), (flow, decision)
                in_overlay = flow_verdict(overlay, *flow)
                if (
                    in_overlay.egress is Reason.DENIED_UNKNOWN_PEER
                    and decision.destination.role is Role.POD
                ):
                    # Outside its node's span a pod is unknown there, and denied all the same.
                    in_overlay = FlowVerdict(Reason.DENIED_POLICY, in_overlay.ingress)
                assert reasons(decision) == in_overlay, (flow, decision)
                assert contains(may_pass, protocol, port) is decision.allowed
            for half in decision.halves:
                assert (half.reason is Reason.ALLOWED_NO_POLICY) is (not half.isolating)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, policies)
def test_what_is_allowed_in_all_is_what_is_decided_at_every_boundary(
    found: list[tuple[str, dict[str, str], Any]], said: list[tuple[str, Any]]
) -> None:
    engine = Engine(told(found, said, leaves=False).state)
    edges = sorted({edge for port in PORTS for edge in (port - 1, port, port + 1)} | {0, 65_535})
    for source in (*PODS[: len(found)], STRANGERS, NODES):
        for target in (*PODS[: len(found)], STRANGERS, NODES):
            one, other = source[0], target[0]
            traffic = engine.allowed(one, other)
            for protocol in Protocol:
                ranges = traffic.get(protocol, ())
                assert all(first <= last for first, last in ranges)
                assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
                for port in edges:
                    decision = engine.decide(one, other, protocol, port)
                    assert contains(traffic, protocol, port) is decision.allowed


@pytest.fixture
def shop() -> World:
    world = World()
    world.pod("shop/web", {"app": "web"}, node="n1", ip=("10.244.1.5", "fd00:1::5"))
    world.pod(
        "shop/db",
        {"app": "db"},
        node="n2",
        ip=("10.244.2.5", "fd00:2::5"),
        ports=(("sql", 5432, "TCP"), ("sql", 5433, "TCP"), ("stats", 9000, "UDP")),
    )
    return world


def test_the_deciding_rule_is_the_first_in_the_order_of_keys_and_fields(shop: World) -> None:
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    other = {"podSelector": {"matchLabels": {"app": "other"}}}
    for name in ("second", "first"):
        shop.policy(
            network_policy(
                name,
                "shop",
                podSelector={"matchLabels": {"app": "db"}},
                ingress=[
                    {"from": [other]},
                    {"from": [other, web], "ports": [{"port": 1}]},
                    {"from": [other, web], "ports": [{"port": 1}, {"port": "sql"}]},
                    {},
                ],
            )
        )
    half = decide(shop.state, "shop/web", "shop/db", Protocol.TCP, 5433).ingress
    assert half is not None
    assert half.isolating == (
        ("NetworkPolicy", "shop", "first"),
        ("NetworkPolicy", "shop", "second"),
    )
    grant = half.rule
    assert grant is not None
    assert grant.policy == ("NetworkPolicy", "shop", "first")
    assert (grant.rule, grant.peer, grant.port) == ("spec.ingress[2]", "from[1]", "ports[1]")
    assert (grant.peer_path, grant.port_path) == (
        "spec.ingress[2].from[1]",
        "spec.ingress[2].ports[1]",
    )
    assert (grant.protocol, grant.first, grant.last) == (Protocol.TCP, 5433, 5433)


def test_a_rule_for_anyone_and_all_traffic_names_no_item(shop: World) -> None:
    shop.policy(network_policy("open", "shop", ingress=[{}]))
    half = decide(shop.state, "203.0.113.9", "shop/db", Protocol.ICMP, 8).ingress
    assert half is not None
    assert half.rule is not None
    assert (half.rule.peer, half.rule.port) == (None, None)
    assert half.rule.peer_path == half.rule.port_path == "spec.ingress[0]"


def test_without_policies_everything_is_allowed(shop: World) -> None:
    decision = decide(shop.state, "shop/web", "shop/db", Protocol.TCP, 80)
    assert reasons(decision) == FlowVerdict(Reason.ALLOWED_NO_POLICY, Reason.ALLOWED_NO_POLICY)
    assert allowed(shop.state, "shop/web", "shop/db") == EVERYTHING


def test_allowed_ports_are_joined_and_cut_by_both_halves(shop: World) -> None:
    shop.policy(
        network_policy(
            "db",
            "shop",
            podSelector={"matchLabels": {"app": "db"}},
            ingress=[
                {"ports": [{"port": 80, "endPort": 90}, {"port": 91}, {"port": "sql"}]},
                {"ports": [{"protocol": "UDP"}]},
            ],
        )
    )
    shop.policy(
        network_policy(
            "web",
            "shop",
            podSelector={"matchLabels": {"app": "web"}},
            policyTypes=["Egress"],
            egress=[{"ports": [{"port": 85, "endPort": 5432}, {"protocol": "UDP", "port": 53}]}],
        )
    )
    assert allowed(shop.state, "shop/web", "shop/db") == {
        Protocol.TCP: ((85, 91), (5432, 5432)),
        Protocol.UDP: ((53, 53),),
    }
    assert allowed(shop.state, "203.0.113.9", "shop/db") == {
        Protocol.TCP: ((80, 91), (5432, 5433)),
        Protocol.UDP: ((0, 65_535),),
    }


def test_a_pod_with_two_addresses_is_met_by_the_family_that_both_have(shop: World) -> None:
    shop.policy(
        network_policy("v6", "shop", ingress=[{"from": [{"ipBlock": {"cidr": "fd77::/64"}}]}])
    )
    assert decide(shop.state, "fd77::1", "shop/db", Protocol.TCP, 80).allowed
    assert not decide(shop.state, "10.9.9.9", "shop/db", Protocol.TCP, 80).allowed
    decision = decide(shop.state, "fd77::1", "shop/db", Protocol.TCP, 80)
    assert str(decision.destination.address) == "fd00:2::5"


def test_ends_of_two_families_are_no_flow(shop: World) -> None:
    with pytest.raises(PartyError, match="two address families"):
        decide(shop.state, "fd00:2::5", "10.244.1.5", Protocol.TCP, 80)


def test_a_text_that_names_nobody_is_refused_with_what_it_could_be(shop: World) -> None:
    with pytest.raises(PartyError, match="neither the UID of a bound pod nor an IP address"):
        decide(shop.state, "shop/gone", "10.244.1.5", Protocol.TCP, 80)


def test_an_address_mapped_into_ipv6_is_the_ipv4_address(shop: World) -> None:
    decision = decide(shop.state, "::ffff:10.244.1.5", "shop/db", Protocol.TCP, 80)
    assert decision.source.uid == "shop/web"


def test_a_pod_without_an_address_is_known_by_its_identity_and_in_no_cidr(shop: World) -> None:
    shop.pod("shop/new", {"app": "new"}, node="n1", ip=())
    everywhere = {"ipBlock": {"cidr": "0.0.0.0/0"}}
    new = {"podSelector": {"matchLabels": {"app": "new"}}}
    shop.policy(network_policy("db", "shop", ingress=[{"from": [everywhere]}]))
    assert not decide(shop.state, "shop/new", "shop/db", Protocol.TCP, 80).allowed
    shop.policy(network_policy("db", "shop", ingress=[{"from": [everywhere, new]}]))
    half = decide(shop.state, "shop/new", "shop/db", Protocol.TCP, 80).ingress
    assert half is not None
    assert half.rule is not None
    assert half.rule.peer_path == "spec.ingress[0].from[1]"


def test_a_pod_in_its_nodes_network_is_the_node(shop: World) -> None:
    shop.pod("shop/agent", {"app": "agent"}, node="n1", host_network=True)
    shop.policy(network_policy("closed", "shop", policyTypes=["Ingress", "Egress"]))
    same = decide(shop.state, "shop/agent", "shop/web", Protocol.TCP, 80)
    other = decide(shop.state, "shop/agent", "shop/db", Protocol.TCP, 80)
    back = decide(shop.state, "shop/web", "shop/agent", Protocol.TCP, 80)
    assert reasons(same) == FlowVerdict(None, Reason.ALLOWED_HOST)
    assert reasons(other) == FlowVerdict(None, Reason.DENIED_POLICY)
    assert reasons(back) == FlowVerdict(Reason.DENIED_POLICY, None)


def test_an_address_of_the_pods_ranges_that_no_pod_holds_is_unknown(shop: World) -> None:
    assert decide(shop.state, "10.244.1.77", "shop/db", Protocol.TCP, 80).allowed
    shop.policy(network_policy("open", "shop", ingress=[{}]))
    half = decide(shop.state, "10.244.1.77", "shop/db", Protocol.TCP, 80).ingress
    assert half is not None
    assert half.reason is Reason.DENIED_UNKNOWN_PEER
    assert allowed(shop.state, "10.244.1.77", "shop/db") == NOTHING
    assert half.direction is Direction.INGRESS


def test_a_named_port_is_the_peers_through_selectors_and_nobodys_through_a_cidr(
    shop: World,
) -> None:
    named = {"protocol": "TCP", "port": "sql"}
    for peer, passes in (({"podSelector": {}}, True), ({"ipBlock": {"cidr": "0.0.0.0/0"}}, False)):
        shop.policy(
            network_policy(
                "web", "shop", policyTypes=["Egress"], egress=[{"to": [peer], "ports": [named]}]
            )
        )
        agrees(shop, "shop/web", "shop/db", 5432, passes=passes)
        agrees(shop, "shop/web", "shop/db", 9000, passes=False)


def test_what_a_cidr_excepts_is_outside_it_for_pods_and_the_world(shop: World) -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["10.244.1.0/24", "203.0.113.0/24"]}
    shop.policy(network_policy("db", "shop", ingress=[{"from": [{"ipBlock": block}]}]))
    for source, passes in (
        ("shop/web", False),
        ("203.0.113.9", False),
        ("203.0.114.9", True),
        ("192.168.9.1", True),
    ):
        agrees(shop, source, "shop/db", 80, passes=passes)


def test_what_a_pod_in_its_nodes_network_claims_beside_it_is_the_worlds(shop: World) -> None:
    shop.pod("shop/host", {"app": "web"}, node="n1", ip="192.168.77.7", host_network=True)
    shop.policy(network_policy("db", "shop", ingress=[{"from": [{"podSelector": {}}]}]))
    agrees(shop, "192.168.77.7", "shop/db", 80, passes=False)
    assert decide(shop.state, "192.168.77.7", "shop/db", 6, 80).source.role is Role.WORLD


def agrees(world: World, source: str, destination: str, port: int, *, passes: bool) -> None:
    """The flow over TCP passes or does not, for the engine as for compiled maps."""
    assert decide(world.state, source, destination, Protocol.TCP, port).allowed is passes
    assert world.flow(source, destination, port).allowed is passes
