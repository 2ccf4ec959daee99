from typing import Any

from tabard.dataplane.maps import (
    AT_CIDR,
    Action,
    Direction,
    EndpointFlag,
    PolicyKey,
    Protocol,
    Reason,
    Strength,
    Tier,
    address,
    strength,
)
from tabard.events.ledger import SettingsAdopted
from tabard.identity.labels import cidr_label, label_set
from tabard.policy.rules import hash64
from world import World, cidr_group, cilium_policy, host_policy, network_policy, tiered_policy


def test_parts_of_a_hash_do_not_run_together() -> None:
    assert hash64(b"ab", b"c") != hash64(b"a", b"bc")
    assert 0 < hash64() < 1 << 64


def named_port_world() -> World:
    world = World()
    world.pod("x/a", {"app": "a"}, ip="10.244.1.1", ports=(("web", 8080, "TCP"),))
    world.pod("x/b", {"app": "b"}, ip="10.244.1.2", ports=(("web", 9090, "TCP"),))
    world.pod("x/c", {"app": "c"}, ip="10.244.1.3", ports=(("web", 53, "UDP"),))
    return world


def policies_of(world: World, key: str) -> int:
    return world.judge("n1").maps.endpoints[address(world.ip(key))].policy


def test_an_ingress_port_name_is_the_subjects_own() -> None:
    world = named_port_world()
    world.policy(network_policy("p", "x", ingress=[{"ports": [{"port": "web"}, {"port": 22}]}]))
    ids = {pod: policies_of(world, f"x/{pod}") for pod in "abc"}
    assert len(set(ids.values())) == 3
    keys = world.judge("n1").maps.policies.keys()
    ssh = [PolicyKey(id, Direction.INGRESS, 0, Protocol.TCP, 22, 16) for id in ids.values()]
    assert keys == {
        *ssh,  # c's web is of another protocol: it drops this port, not the rule
        PolicyKey(ids["a"], Direction.INGRESS, 0, Protocol.TCP, 8080, 16),
        PolicyKey(ids["b"], Direction.INGRESS, 0, Protocol.TCP, 9090, 16),
    }


def test_an_egress_port_name_is_the_peers_own() -> None:
    world = named_port_world()
    world.pod("x/client", {"role": "client"}, ip="10.244.1.9")
    for peers in ([], [{"podSelector": {}}], [{"namespaceSelector": {}}]):
        world.policy(
            network_policy(
                "p",
                "x",
                podSelector={"matchLabels": {"role": "client"}},
                policyTypes=["Egress"],
                egress=[{"to": peers, "ports": [{"port": "web"}]}],
            )
        )
        assert world.flow("x/client", "x/a", 8080).allowed
        assert not world.flow("x/client", "x/b", 8080).allowed
        assert world.flow("x/client", "x/b", 9090).allowed
        assert not world.flow("x/client", "x/c", 53).allowed
        assert not world.flow("x/client", "8.8.8.8", 8080).allowed


def test_an_egress_port_name_follows_a_number_that_is_used_again() -> None:
    world = World()
    world.pod("x/client", {"role": "client"}, ip="10.244.1.9")
    world.pod("x/a", {"app": "a"}, ip="10.244.2.1", node="n2", ports=(("web", 80, "TCP"),))
    world.policy(
        network_policy(
            "p",
            "x",
            policyTypes=["Egress"],
            egress=[{"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}],
        )
    )
    assert world.flow("x/client", "x/a", 80).allowed
    number = world.state.endpoints["x/a"].identity
    world.stop("x/a")
    world.retire(number)
    world.pod("x/a", {"app": "a"}, ip="10.244.2.1", node="n2", ports=(("web", 81, "TCP"),))
    assert world.state.endpoints["x/a"].identity == number
    assert not world.flow("x/client", "x/a", 80).allowed
    assert world.flow("x/client", "x/a", 81).allowed


def test_equal_rule_sets_share_their_entries() -> None:
    world = named_port_world()
    world.policy(network_policy("p", "x", ingress=[{"from": [{"podSelector": {}}]}]))
    assert len({policies_of(world, f"x/{pod}") for pod in "abc"}) == 1


def test_a_policy_id_depends_on_what_its_policies_say_and_nothing_else() -> None:
    world = named_port_world()
    assert policies_of(world, "x/a") == 0
    document = network_policy("p", "x", ingress=[{"ports": [{"port": 80}]}])
    world.policy(document)
    before = policies_of(world, "x/a")
    world.policy({**document, "metadata": {**document["metadata"], "annotations": {"a": "b"}}})
    world.pod("x/d", {"app": "d"}, ip="10.244.1.4")
    world.policy(network_policy("other", "y", ingress=[{}]))
    world.policy(network_policy("other", "x", podSelector={"matchLabels": {"app": "b"}}))
    assert policies_of(world, "x/a") == before
    world.policy(network_policy("p", "x", ingress=[{"ports": [{"port": 81}]}]))
    changed = policies_of(world, "x/a")
    assert changed != before
    world.policy(network_policy("second", "x", ingress=[{"ports": [{"port": 82}]}]))
    assert policies_of(world, "x/a") not in (before, changed)
    world.forget("x", "second")
    world.policy(document)
    assert policies_of(world, "x/a") == before
    world.forget("x", "p")
    assert policies_of(world, "x/a") == 0


def test_a_relabelled_pod_keeps_the_id_of_the_rules_that_still_select_it() -> None:
    world = named_port_world()
    world.policy(network_policy("p", "x", ingress=[{}]))
    before = policies_of(world, "x/a")
    world.relabel("x/a", {"app": "other"})
    assert policies_of(world, "x/a") == before


Table = dict[tuple[int, Protocol, int, int], Strength]
"""(identity, protocol, port, port bits) → strength"""
ANY = (Protocol.ANY, 0, 0)
ALLOW, DENY = strength(Action.ALLOW), strength(Action.DENY)


def two_pods() -> World:
    world = World(nodes=1)
    world.pod("x/a", {"app": "a"}, ip="10.244.1.1")
    world.pod("x/b", {"app": "b"}, ip="10.244.1.2")
    return world


def table(
    world: World, key: str, direction: Direction = Direction.INGRESS, tier: Tier = Tier.NETWORK
) -> Table:
    """The entries of a pod of n1."""
    maps = world.judge("n1").maps
    policy = maps.endpoints[address(world.ip(key))].policy
    return {
        (key.identity, key.protocol, key.port, key.port_bits): value
        for key, value in maps.policies.items()
        if (key.policy, key.direction, key.tier) == (policy, direction, tier)
    }


def numbers(world: World, *keys: str) -> list[int]:
    return [world.state.endpoints[key].identity for key in keys]


def from_app(app: str) -> dict[str, Any]:
    return {"fromEndpoints": [{"matchLabels": {"app": app}}]}


def test_a_denial_is_stronger_than_what_is_allowed_and_covers_it() -> None:
    world = two_pods()
    world.policy(
        cilium_policy(
            "p",
            "x",
            ingress=[from_app("a"), from_app("b") | {"toPorts": [{"ports": [{"port": "80"}]}]}],
            ingressDeny=[from_app("b"), from_app("a") | {"toPorts": [{"ports": [{"port": "22"}]}]}],
        )
    )
    a, b = numbers(world, "x/a", "x/b")
    ssh = [(protocol, 22, 16) for protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP)]
    assert table(world, "x/a") == {
        (a, *ANY): ALLOW,
        **{(a, *port): DENY for port in ssh},
        (b, *ANY): DENY,
    }
    assert not world.flow("x/b", "x/a", 80).allowed
    assert world.flow("x/a", "x/b", 80).allowed
    assert not world.flow("x/a", "x/b", 22).allowed


def test_a_peer_of_whom_no_more_is_said_than_of_anyone_has_no_entries() -> None:
    world = two_pods()
    everyone = {"from": [{"podSelector": {}}], "ports": [{"port": 80}]}
    world.policy(network_policy("p", "x", ingress=[{"ports": [{"port": 80}]}, everyone]))
    assert table(world, "x/a") == {(0, Protocol.TCP, 80, 16): ALLOW}


def test_peers_of_whom_the_same_rules_speak_share_one_shape() -> None:
    world = two_pods()
    for number in range(20):
        world.pod(f"x/peer-{number}", {"app": f"peer-{number}"})
    ports = [{"port": 80, "endPort": 95}, {"port": 443}]
    world.policy(
        network_policy("p", "x", ingress=[{"from": [{"podSelector": {}}], "ports": ports}])
    )
    world.judge("n1")
    (entries,) = world.compilers["n1"]._entries.values()
    assert len(entries._by_peer) == 22
    assert len(set(map(id, entries._by_peer.values()))) == len(entries._shapes) == 1


def accept(app: str, action: str = "Accept", *ports: int) -> dict[str, Any]:
    pods = {"podSelector": {"matchLabels": {"app": app}}}
    numbered = [{"tcp": {"destinationPort": {"number": port}}} for port in ports]
    rule: dict[str, Any] = {"action": action, "from": [{"pods": pods}]}
    return {**rule, "protocols": numbered} if ports else rule


def test_in_a_tier_the_first_rule_by_priority_name_and_place_is_the_strongest() -> None:
    for order in (("q", 1), ("r", 0)), (("r", 0), ("q", 1)):
        world = two_pods()
        for name, priority in order:
            action = "Accept" if name == "q" else "Deny"
            world.policy(tiered_policy(name, priority=priority, ingress=[accept("b", action)]))
        assert not world.flow("x/b", "x/a").allowed
        world.policy(tiered_policy("r", priority=1, ingress=[accept("b", "Deny")]))
        assert world.flow("x/b", "x/a").allowed, "of one priority, q goes before r"
        rules = [accept("b", "Pass", 80), accept("b", "Deny"), accept("b", "Accept", 81)]
        world.policy(tiered_policy("p", priority=1, ingress=rules))
        assert world.flow("x/b", "x/a", 80).ingress is Reason.ALLOWED_NO_POLICY
        assert world.flow("x/b", "x/a", 81).ingress is Reason.DENIED_POLICY


def test_a_precedence_is_taken_only_where_a_weaker_action_goes_first() -> None:
    world = two_pods()
    rules = [
        *(accept("a", "Accept", port) for port in (80, 81)),
        accept("a", "Deny", 79, 80),
        *(accept("a", "Accept", port) for port in (82, 83)),
        accept("b", "Pass"),
        accept("b", "Deny"),
        accept("b", "Pass"),
    ]
    world.policy(tiered_policy("p", ingress=rules))
    a, b = numbers(world, "x/a", "x/b")
    assert table(world, "x/a", tier=Tier.ADMIN) == {
        (a, Protocol.TCP, 80, 15): strength(Action.ALLOW, 2),
        (a, Protocol.TCP, 79, 16): strength(Action.DENY, 1),
        (a, Protocol.TCP, 80, 14): strength(Action.ALLOW, 1),
        (b, *ANY): strength(Action.PASS, 1),
    }


def test_tiers_are_told_apart_and_flagged() -> None:
    world = two_pods()
    world.policy(tiered_policy("p", "Baseline", ingress=[accept("b", "Deny")]))
    (b,) = numbers(world, "x/b")
    assert table(world, "x/a", tier=Tier.BASELINE) == {(b, *ANY): DENY}
    endpoint = world.judge("n1").maps.endpoints[address("10.244.1.1")]
    assert endpoint.flags == EndpointFlag.INGRESS_ENFORCED | EndpointFlag.INGRESS_BASELINE
    assert not world.flow("x/b", "x/a").allowed
    world.policy(network_policy("q", "x", ingress=[{"from": [{"podSelector": {}}]}]))
    assert world.flow("x/b", "x/a").allowed, "a NetworkPolicy is judged before the baseline"


def test_a_cidr_of_cilium_holds_the_world_alone_and_an_ip_block_pods_too() -> None:
    world = two_pods()
    world.policy(cilium_policy("p", "x", ingress=[{"fromCIDR": ["10.0.0.0/8"]}]))
    of_cidr = world.state.numbers[label_set([cidr_label("10.0.0.0/8")])]
    assert table(world, "x/a") == {(of_cidr, *ANY): ALLOW}
    assert not world.flow("x/b", "x/a").allowed
    world.policy(
        network_policy("q", "x", ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])
    )
    assert table(world, "x/a") == {(of_cidr, *ANY): ALLOW, (of_cidr | AT_CIDR, *ANY): ALLOW}
    assert world.flow("x/b", "x/a").allowed


def test_the_world_is_outside_addresses_and_the_cidrs_that_others_name() -> None:
    world = two_pods()
    world.policy(cilium_policy("p", "x", ingress=[{"fromEntities": ["world"]}]))
    world.policy(network_policy("q", "y", ingress=[{"from": [{"ipBlock": {"cidr": "8.0.0.0/8"}}]}]))
    for address_ in ("8.8.8.8", "9.9.9.9", "2001:db8::1"):
        assert world.flow(address_, "x/a").allowed
    assert not world.flow("x/b", "x/a").allowed
    assert not world.flow("10.244.1.99", "x/a").allowed, "unknown is not world"


def test_policies_of_nodes_are_no_pods() -> None:
    world = two_pods()
    world.policy(host_policy("p", {}, ingress=[from_app("a")]))
    assert policies_of(world, "x/a") == 0


def by_group(*groups: str) -> dict[str, Any]:
    return cilium_policy("p", ingress=[{"fromCIDRSet": [{"cidrGroupRef": one} for one in groups]}])


def test_what_a_reference_stands_for_is_part_of_the_policy_id() -> None:
    world = two_pods()
    world.policy(by_group("g", "h"))
    unmet = policies_of(world, "x/a")
    assert table(world, "x/a") == {}
    world.policy(cidr_group("g", "192.0.2.0/24"))
    met = policies_of(world, "x/a")
    assert met != unmet
    assert world.flow("192.0.2.7", "x/a").allowed
    world.policy(cidr_group("other", "198.51.100.0/24"))
    assert policies_of(world, "x/a") == met
    world.policy(cidr_group("h", "198.51.100.0/24"))
    assert policies_of(world, "x/a") not in (met, unmet)
    assert world.flow("198.51.100.7", "x/a").allowed
    world.forget("", "g", "CiliumCIDRGroup")
    assert not world.flow("192.0.2.7", "x/a").allowed
    world.forget("", "h", "CiliumCIDRGroup")
    assert policies_of(world, "x/a") == unmet


def test_a_spec_that_did_not_change_keeps_the_rule_sets_that_are_its_alone() -> None:
    world = two_pods()
    document = cilium_policy("p", "x")
    del document["spec"]
    specs = [
        {"endpointSelector": {"matchLabels": {"app": app}}, "ingress": [from_app(app)]}
        for app in "ab"
    ]
    world.policy({**document, "specs": specs})
    before = policies_of(world, "x/a"), policies_of(world, "x/b")
    world.policy({**document, "specs": [specs[0], {**specs[1], "ingress": []}]})
    assert policies_of(world, "x/a") == before[0]
    assert policies_of(world, "x/b") != before[1]
    assert world.flow("x/a", "x/a").allowed
    world.pod("x/c", {"app": "a", "more": "b"}, ip="10.244.1.3")
    assert world.flow("x/c", "x/a").allowed


def enforce(world: World, enforcement: Any) -> None:
    world.emit(SettingsAdopted("c", 0, 8, (), (), (), 1, enforcement=enforcement))


def test_the_enforcement_that_is_set_isolates_all_or_none() -> None:
    world = two_pods()
    world.policy(network_policy("p", "x", ingress=[{"from": [{"podSelector": {}}]}]))
    before = policies_of(world, "x/a")
    enforce(world, "always")
    world.pod("y/c", ip="10.244.1.3")
    always = policies_of(world, "x/a")
    assert always not in (0, before)
    assert policies_of(world, "y/c") not in (0, always)
    verdict = world.flow("x/b", "x/a")
    assert (verdict.egress, verdict.ingress) == (Reason.DENIED_POLICY, Reason.ALLOWED_POLICY)
    assert not world.flow("9.9.9.9", "y/c").allowed
    enforce(world, "never")
    assert policies_of(world, "x/a") == policies_of(world, "y/c") == 0
    assert world.flow("9.9.9.9", "x/a").allowed
    enforce(world, "default")
    assert policies_of(world, "x/a") == before
