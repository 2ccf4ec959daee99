"""The engine against compiled maps and their verdicts: every kind of party, in both modes."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import cilium, tiered
from parties import ASKED, NODES, PODS, STRANGERS, pods, policies, told
from strategies import PORTS
from tabard.dataplane.maps import Action, Direction, Mode, Protocol, Reason, Tier, address
from tabard.dataplane.verdict import FlowVerdict, Judge, flow_verdict
from tabard.events import ledger as events
from tabard.events.ledger import Enforcement
from tabard.policy.engine import Engine, allowed, decide
from tabard.policy.parties import PartyError, Role
from tabard.policy.rulings import Decision, Half
from tabard.policy.traffic import EVERYTHING, NOTHING, contains, shown
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
    for decision in agree(world, len(found)):
        for half in decision.halves:
            assert (half.reason is Reason.ALLOWED_NO_POLICY) is (not half.isolating)
            assert (half.rule is not None) is (half.reason is Reason.ALLOWED_POLICY)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pods,
    policies,
    st.lists(tiered() | cilium(), max_size=4),
    st.booleans(),
    st.sampled_from(["default", "default", "always", "never"]),
)
def test_decisions_on_tiers_and_denials_are_the_verdicts_of_compiled_maps(
    found: list[tuple[str, dict[str, str], Any]],
    said: list[tuple[str, Any]],
    documents: list[dict[str, Any]],
    leaves: bool,
    enforcement: Enforcement,
) -> None:
    world = told(found, said, leaves=leaves)
    settle(world, enforcement)
    for document in documents:
        world.policy(document)
    agree(world, len(found))


def agree(world: World, held: int) -> list[Decision]:
    """The engine and compiled maps are of one opinion on flows between all kinds of parties."""
    found = []
    engine = Engine(world.state)
    native, overlay = judges(world, Mode.NATIVE), judges(world, Mode.OVERLAY)
    places = [*(place for each in PODS[:held] for place in each), *STRANGERS, *NODES]
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
                found.append(decision)
    return found


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


def cluster_policy(name: str, tier: str, priority: int, **rules: Any) -> dict[str, Any]:
    """A ClusterNetworkPolicy for all pods; of each direction (action, peers' app labels or the
    peers themselves, port or None for all traffic)."""

    def rule(side: str, action: str, peers: Any, port: int | None) -> dict[str, Any]:
        if isinstance(peers, str):
            selector = {"matchLabels": {"app": peers}} if peers else {}
            peers = [{"pods": {"podSelector": selector}}]
        ports = [{"tcp": {"destinationPort": {"number": port}}}]
        return {"action": action, side: peers, **({"protocols": ports} if port else {})}

    sides = {"ingress": "from", "egress": "to"}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"tier": tier, "priority": priority, "subject": {"namespaces": {}}}
        | {field: [rule(sides[field], *each) for each in said] for field, said in rules.items()},
    }


def cilium_policy(name: str, namespace: str = "", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": spec,
    }


def ingress(world: World, source: str, port: int = 80) -> Half:
    half = decide(world.state, source, "shop/db", Protocol.TCP, port).ingress
    assert half is not None
    return half


def test_of_the_admin_tier_the_first_rule_by_priority_name_and_place_decides(shop: World) -> None:
    shop.policy(cluster_policy("b", "Admin", 5, ingress=[("Deny", "", None)]))
    shop.policy(network_policy("open", "shop", ingress=[{}]))
    half = ingress(shop, "shop/web")
    assert (half.reason, half.tier) == (Reason.DENIED_POLICY, Tier.ADMIN)
    assert half.rule is not None
    assert (half.rule.policy[2], half.rule.rule) == ("b", "spec.ingress[0]")
    assert (half.rule.action, half.rule.peer_path) == (Action.DENY, "spec.ingress[0].from[0]")
    # A tie of priorities goes to the lesser name, whichever was there first.
    rules = [("Accept", "other", None), ("Accept", "web", 80), ("Deny", "web", None)]
    shop.policy(cluster_policy("a", "Admin", 5, ingress=rules))
    half = ingress(shop, "shop/web")
    assert half.rule is not None
    assert (half.allowed, half.rule.policy[2], half.rule.rule) == (True, "a", "spec.ingress[1]")
    assert half.rule.port_path == "spec.ingress[1].protocols[0]"
    half = ingress(shop, "shop/web", 81)
    assert half.rule is not None
    assert (half.allowed, half.rule.rule) == (False, "spec.ingress[2]")
    shop.policy(cluster_policy("c", "Admin", 4, ingress=[("Deny", "", 80)]))
    half = ingress(shop, "shop/web")
    assert half.rule is not None
    assert (half.allowed, half.rule.policy[2]) == (False, "c")


def test_what_passes_is_left_to_the_next_tier_and_said(shop: World) -> None:
    shop.policy(
        cluster_policy("a", "Admin", 0, ingress=[("Pass", "web", None), ("Deny", "", None)])
    )
    shop.policy(cluster_policy("z", "Baseline", 0, ingress=[("Deny", "", 80)]))
    half = ingress(shop, "shop/web")
    assert half.rule is not None
    assert (half.allowed, half.tier, half.rule.policy[2]) == (False, Tier.BASELINE, "z")
    assert [(each.policy[2], each.rule) for each in half.passes] == [("a", "spec.ingress[0]")]
    half = ingress(shop, "shop/web", 81)
    assert (half.reason, half.rule, half.tier) == (Reason.ALLOWED_NO_POLICY, None, None)
    assert len(half.passes) == 1
    assert not ingress(shop, "shop/db", 81).allowed


def test_the_baseline_is_asked_only_where_no_policy_isolates(shop: World) -> None:
    shop.policy(cluster_policy("z", "Baseline", 0, ingress=[("Accept", "", None)]))
    assert ingress(shop, "shop/web").reason is Reason.ALLOWED_POLICY
    shop.policy(network_policy("db", "shop", ingress=[]))
    half = ingress(shop, "shop/web")
    assert (half.reason, half.rule, half.tier) == (Reason.DENIED_POLICY, None, Tier.NETWORK)
    assert half.isolating == (("NetworkPolicy", "shop", "db"),)


def test_a_policy_that_does_not_isolate_still_drops_the_unknown(shop: World) -> None:
    shop.policy(cluster_policy("a", "Admin", 0, ingress=[("Accept", "nobody", None)]))
    assert ingress(shop, "203.0.113.9").reason is Reason.ALLOWED_NO_POLICY
    half = ingress(shop, "10.244.1.77")
    assert (half.reason, half.isolating) == (Reason.DENIED_UNKNOWN_PEER, ())
    back = decide(shop.state, "shop/db", "10.244.1.77", Protocol.TCP, 80).egress
    assert back is not None
    assert back.reason is Reason.ALLOWED_NO_POLICY


def test_what_is_denied_in_part_is_all_but_that(shop: World) -> None:
    shop.policy(cluster_policy("a", "Admin", 0, ingress=[("Deny", "web", 80)]))
    found = allowed(shop.state, "shop/web", "shop/db")
    assert shown(found) == "all but 80/TCP"
    assert contains(found, 47, 0)
    shop.policy(cluster_policy("b", "Admin", 0, egress=[("Deny", "", 443)]))
    assert shown(allowed(shop.state, "shop/web", "shop/db")) == "all but 80,443/TCP"
    shop.policy(network_policy("db", "shop", ingress=[{"ports": [{"port": 79, "endPort": 81}]}]))
    assert allowed(shop.state, "shop/web", "shop/db") == {Protocol.TCP: ((79, 79), (81, 81))}


def settle(world: World, enforcement: Enforcement) -> None:
    world.emit(events.SettingsAdopted("default", 0, 8, (), (), (), 1, enforcement))


def test_the_install_may_enforce_always_or_never(shop: World) -> None:
    settle(shop, "always")
    half = ingress(shop, "shop/web")
    assert (half.reason, half.isolating, half.tier) == (Reason.DENIED_POLICY, (), Tier.NETWORK)
    assert allowed(shop.state, "203.0.113.9", "shop/db") == NOTHING
    assert ingress(shop, "192.168.9.2").reason is Reason.ALLOWED_HOST
    shop.policy(network_policy("db", "shop", ingress=[{"ports": [{"port": 80}]}]))
    assert ingress(shop, "203.0.113.9").reason is Reason.ALLOWED_POLICY
    settle(shop, "never")
    shop.policy(cluster_policy("a", "Admin", 0, ingress=[("Deny", "", None)]))
    assert ingress(shop, "shop/web", 81).reason is Reason.ALLOWED_NO_POLICY
    assert ingress(shop, "10.244.1.77", 81).reason is Reason.ALLOWED_NO_POLICY


def test_parties_that_no_policy_tells_apart_are_alike(shop: World) -> None:
    shop.pod("shop/job", {"app": "job"}, node="n2", ip="10.244.2.6")
    shop.pod("shop/cron", {"app": "cron"}, node="n1", ip="10.244.1.7")
    job, cron = "shop/job", "shop/cron"

    def kinds(*uids: str) -> int:
        engine = Engine(shop.state)
        return len({engine.alike(party) for uid in uids for party in engine.parties.find(uid)})

    assert kinds(job, cron, "shop/db") == 2  # which has named ports
    peer = [{"podSelector": {"matchLabels": {"app": "job"}}}]
    shop.policy(network_policy("db", "shop", ingress=[{"from": peer}]))
    assert kinds(job, cron) == 2
    shop.policy(network_policy("db", "shop", ingress=[{"from": [{"podSelector": {}}]}]))
    assert kinds(job, cron) == 1
    shop.policy(network_policy("db", "shop", podSelector={"matchLabels": {"app": "job"}}))
    assert kinds(job, cron) == 2
    block = {"ipBlock": {"cidr": "10.244.2.0/24"}}
    shop.policy(network_policy("db", "shop", ingress=[{"from": [block]}]))
    assert (kinds(job, cron), kinds("192.0.2.1", "192.0.2.2"), kinds(job, "192.0.2.1")) == (2, 1, 2)


def test_a_pod_outside_its_nodes_range_is_not_the_world_to_nodes_that_know_no_other(
    shop: World,
) -> None:
    shop.pod("shop/far", {"app": "far"}, node="n2", ip="10.1.1.7")
    shop.policy(
        cilium_policy(
            "web",
            "shop",
            endpointSelector={"matchLabels": {"app": "web"}},
            egress=[{"toEntities": ["world"]}, {"toCIDR": ["10.1.1.0/24"]}],
        )
    )
    agrees(shop, "shop/web", "shop/far", 80, passes=False)
    agrees(shop, "shop/web", "10.1.1.8", 80, passes=True)
    shop.stop("shop/far")
    agrees(shop, "shop/web", "10.1.1.7", 80, passes=True)


def test_a_denial_goes_before_what_allows_whatever_the_order_of_policies(shop: World) -> None:
    shop.policy(network_policy("a", "shop", ingress=[{}]))
    denial = {"fromEndpoints": [{"matchLabels": {"app": "web"}}]}
    shop.policy(cilium_policy("z", "shop", endpointSelector={}, ingressDeny=[denial]))
    half = ingress(shop, "shop/web")
    assert half.rule is not None
    assert (half.reason, half.rule.action) == (Reason.DENIED_POLICY, Action.DENY)
    assert half.rule.peer_path == "spec.ingressDeny[0].fromEndpoints[0]"
    assert ingress(shop, "203.0.113.9").allowed


def test_each_of_the_specs_of_one_object_is_a_policy_of_its_own(shop: World) -> None:
    policy = cilium_policy("many", "shop")
    policy["specs"] = [
        {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [{"fromEntities": [who]}]}
        for app, who in (("web", "world"), ("db", "remote-node"))
    ]
    del policy["spec"]
    shop.policy(policy)
    assert ingress(shop, "192.168.9.1").allowed
    half = ingress(shop, "203.0.113.9")
    assert (half.allowed, half.isolating) == (False, (("CiliumNetworkPolicy", "shop", "many"),))
    half = ingress(shop, "192.168.9.1")
    assert half.rule is not None
    assert half.rule.peer_path == "specs[1].ingress[0].fromEntities[0]"
    assert decide(shop.state, "203.0.113.9", "shop/web", Protocol.TCP, 80).allowed


def test_lookups_are_allowed_through_the_proxy_rather_than_past_it(shop: World) -> None:
    dns = {"ports": [{"port": "53", "protocol": "UDP"}]}
    rules = {"dns": [{"matchPattern": "*.example.org"}]}
    peer = {"toEndpoints": [{}]}
    shop.policy(
        cilium_policy(
            "dns",
            "shop",
            endpointSelector={"matchLabels": {"app": "web"}},
            egress=[peer | {"toPorts": [dns]}, peer | {"toPorts": [dns | {"rules": rules}]}],
        )
    )
    half = decide(shop.state, "shop/web", "shop/db", Protocol.UDP, 53).egress
    assert half is not None
    assert half.rule is not None
    assert (half.allowed, half.rule.action) == (True, Action.PROXY)
    assert half.rule.lookups == {"*.example.org"}
    assert half.rule.port_path == "spec.egress[1].toPorts[0].ports[0]"
    assert allowed(shop.state, "shop/web", "shop/db") == {Protocol.UDP: ((53, 53),)}


def test_a_node_is_judged_as_soon_as_a_policy_selects_it(shop: World) -> None:
    shop.node("n1", ("192.168.9.1",), ("10.244.1.0/24",))
    assert decide(shop.state, "shop/db", "192.168.9.1", Protocol.TCP, 22).ingress is None
    hosts = {"matchLabels": {"kubernetes.io/hostname": "n1"}}
    rule = {"fromEntities": ["remote-node"], "toPorts": [{"ports": [{"port": "22"}]}]}
    shop.policy(cilium_policy("ssh", nodeSelector=hosts, ingress=[rule]))
    engine = Engine(shop.state)
    for source, target, port, reason in (
        ("192.168.9.2", "192.168.9.1", 22, Reason.ALLOWED_POLICY),
        ("192.168.9.2", "192.168.9.1", 23, Reason.DENIED_POLICY),
        ("shop/web", "192.168.9.1", 22, Reason.DENIED_POLICY),
        ("203.0.113.9", "192.168.9.1", 22, Reason.DENIED_POLICY),
        ("10.244.1.99", "192.168.9.1", 22, Reason.DENIED_UNKNOWN_PEER),
        ("192.168.9.1", "192.168.9.1", 23, Reason.ALLOWED_HOST),
        ("192.168.9.1", "192.168.9.2", 22, None),
    ):
        half = engine.decide(source, target, Protocol.TCP, port).ingress
        assert (half and half.reason) is reason, (source, target, port)
    egress = engine.decide("192.168.9.1", "shop/db", Protocol.TCP, 80).egress
    assert egress is not None
    assert egress.reason is Reason.ALLOWED_NO_POLICY
    assert engine.decide("shop/web", "shop/db", Protocol.TCP, 80).egress is not None
    assert len({engine.alike(*engine.parties.find(f"192.168.9.{n}")) for n in (1, 2)}) == 2
