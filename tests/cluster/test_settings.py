import pytest

from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import NODES_MAX, UNDERLAY, Settings, places, pods_for


def test_every_node_has_names_and_addresses_of_its_own() -> None:
    nodes = places(NODES_MAX)
    assert len({node.name for node in nodes}) == NODES_MAX
    assert len({address for node in nodes for address in node.underlay}) == 2 * NODES_MAX
    assert len({cidr for node in nodes for cidr in node.pod_cidrs}) == 2 * NODES_MAX
    for node in nodes:
        assert all(a in network for a, network in zip(node.underlay, UNDERLAY, strict=True))


def test_the_first_node_is_as_documented() -> None:
    (node,) = places(1)
    assert [str(address) for address in node.underlay] == ["198.18.0.11", "fd00:c612::b"]
    assert [str(cidr) for cidr in node.pod_cidrs] == ["10.244.1.0/24", "fd00:244:1::/64"]


@pytest.mark.parametrize("nodes", [0, NODES_MAX + 1])
def test_more_nodes_than_the_bound_or_none_are_refused(nodes: int) -> None:
    with pytest.raises(ClusterError, match="nodes asked for"):
        Settings(nodes=nodes)
    assert Settings(nodes=NODES_MAX).nodes == NODES_MAX


@pytest.mark.parametrize("name", ["Shop", "-a", "a-", "a" * 17, "a/b", ".."])
def test_a_name_that_is_no_part_of_a_namespace_name_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="not usable"):
        Settings(name=name)


def test_the_dataplane_chooses_the_pods() -> None:
    assert pods_for("ebpf", None) == "netns"
    assert pods_for("memory", None) == "memory"
    assert pods_for("ebpf", "none") == pods_for("memory", "none") == "none"


def test_pods_that_a_dataplane_cannot_guard_are_refused() -> None:
    with pytest.raises(ClusterError, match="unjudged"):
        pods_for("memory", "netns")
    with pytest.raises(ClusterError, match="no interfaces"):
        pods_for("ebpf", "memory")


def test_an_unknown_extra_setting_is_refused_by_name() -> None:
    with pytest.raises(ClusterError, match=r"no setting 'HOST_MAX'; settings are .*HOSTS_MAX"):
        Settings(extra={"HOST_MAX": "1"})


def test_a_bus_of_others_is_monitored_where_it_is_said_and_the_clusters_own_is_not() -> None:
    extra = {"BUS_MONITORING": "http://a:8222, http://b:8222,"}
    others = Settings(nats=("nats://a",), extra=extra)
    assert others.monitoring == ("http://a:8222", "http://b:8222")
    assert Settings(extra=extra).monitoring == ()
