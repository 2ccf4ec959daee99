from hypothesis import given
from hypothesis import strategies as st

from tabard.dataplane.maps import Direction, PolicyKey, Protocol, address
from tabard.policy.rules import hash64, port_blocks
from world import World, network_policy


@given(st.integers(0, 65_535), st.integers(0, 65_535))
def test_blocks_are_exactly_the_range_and_aligned(one: int, other: int) -> None:
    first, last = sorted((one, other))
    at = first
    blocks = list(port_blocks(first, last))
    for port, bits in blocks:
        size = 1 << (16 - bits)
        assert port == at
        assert port % size == 0
        at += size
    assert at == last + 1
    assert len(blocks) <= 30


def test_known_ranges_have_the_fewest_blocks() -> None:
    assert list(port_blocks(0, 65_535)) == [(0, 0)]
    assert list(port_blocks(80, 80)) == [(80, 16)]
    assert list(port_blocks(1, 65_535)) == [(1 << bit, 16 - bit) for bit in range(16)]
    assert list(port_blocks(65_535, 65_535)) == [(65_535, 16)]


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
