from tabard.demo.address_filter import AddressFilter, peer_sets
from world import World


def cluster() -> World:
    world = World(nodes=2)
    world.pod("x/db", {"app": "db"}, node="n1", ip="10.244.1.2")
    world.pod("x/web", {"app": "web"}, node="n2", ip="10.244.2.2")
    world.policy(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "db", "namespace": "x"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
            },
        }
    )
    return world


def test_a_node_keeps_a_set_for_each_peer_of_the_policies_that_select_its_pods() -> None:
    world = cluster()
    assert list(peer_sets(world.state, "n1").values()) == [frozenset({"10.244.2.2"})]
    assert peer_sets(world.state, "n2") == {}


def test_each_pod_that_starts_costs_every_node_with_a_peer_one_element() -> None:
    world = cluster()
    sets = AddressFilter("")
    assert sets.bring_to(peer_sets(world.state, "n1")).elements == 1
    world.pod("x/web2", {"app": "web"}, node="n2", ip="10.244.2.3")
    assert sets.bring_to(peer_sets(world.state, "n1")).elements == 1
    assert sets.bring_to(peer_sets(world.state, "n1")).elements == 0
