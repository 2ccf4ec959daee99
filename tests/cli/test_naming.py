import pytest

from tabard.cli.naming import NamingError, NotThere, Place, PortAsked, place, pods, port, ports
from tabard.dataplane.maps import Protocol
from tabard.policy.parties import Parties
from world import World


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("shop/web-0", Place("shop/web-0", "shop", "", "web-0")),
        ("shop/deploy/web", Place("shop/deploy/web", "shop", "Deployment", "web")),
        ("shop/StatefulSet/db", Place("shop/StatefulSet/db", "shop", "StatefulSet", "db")),
        ("203.0.113.9", Place("203.0.113.9")),
        ("FD00:0::7", Place("fd00::7")),
        ("::ffff:203.0.113.9", Place("203.0.113.9")),
    ],
)
def test_an_end_is_a_pod_a_workload_or_an_address(text: str, meant: Place) -> None:
    assert place(text) == meant


@pytest.mark.parametrize(
    "text", ["", "web", "shop/", "/web", "shop/service/web", "a/b/c/d", "1.2.3"]
)
def test_what_names_no_end_is_told_with_examples(text: str) -> None:
    with pytest.raises(NamingError, match="shop/deployment/web"):
        place(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("80", (Protocol.TCP, 80, "")),
        ("65535/tcp", (Protocol.TCP, 65_535, "")),
        ("53/UDP", (Protocol.UDP, 53, "")),
        ("9/SCTP", (Protocol.SCTP, 9, "")),
        ("http", (None, None, "http")),
        ("http/TCP", (Protocol.TCP, None, "http")),
        ("icmp", (Protocol.ICMP, 8, "")),
        ("ICMPv6", (Protocol.ICMPV6, 128, "")),
        ("0/ICMP", (Protocol.ICMP, 0, "")),
        ("255/ICMPv6", (Protocol.ICMPV6, 255, "")),
        ("tcp", (None, None, "tcp")),
    ],
)
def test_a_port_is_read_as_people_write_it(
    text: str, meant: tuple[Protocol | None, int | None, str]
) -> None:
    assert port(text) == PortAsked(text, *meant)


@pytest.mark.parametrize(
    "text",
    ["", "0", "65536", "80/", "/TCP", "80/GRE", "256/ICMP", "http/ICMP", "TCP/80", "-1", "²"],
)
def test_what_is_no_port_is_told_with_examples(text: str) -> None:
    with pytest.raises(NamingError, match="53/UDP"):
        port(text)


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("web-b", "web-a"):
        world.pod(f"shop/{name}", {"app": "web"}, ip=f"10.244.1.{ord(name[-1])}")
        world.state.endpoints[f"shop/{name}"].owner = "Deployment/shop/web"
    world.pod(
        "shop/db", {"app": "db"}, ip="10.244.1.9", ports=(("dns", 53, "TCP"), ("dns", 53, "UDP"))
    )
    return world


def test_a_pod_is_found_by_its_name_and_a_workload_is_all_of_its_pods(world: World) -> None:
    assert [pod.name for pod in pods(world.state, place("shop/web-b"))] == ["web-b"]
    assert [pod.name for pod in pods(world.state, place("shop/web"))] == ["web-a", "web-b"]
    assert [pod.name for pod in pods(world.state, place("shop/deploy/web"))] == ["web-a", "web-b"]
    assert pods(world.state, place("10.244.1.9")) == []


def test_of_two_incarnations_of_a_name_the_later_is_meant(world: World) -> None:
    world.pod("shop/db", {"app": "db"}, ip="10.244.1.10", uid="new")
    world.state.endpoints["new"].started_at = 2
    assert [pod.uid for pod in pods(world.state, place("shop/db"))] == ["new"]


def test_two_workloads_of_one_name_are_told_apart_by_kind(world: World) -> None:
    world.pod("shop/web-0", {"app": "web"}, ip="10.244.1.11")
    world.state.endpoints["shop/web-0"].owner = "StatefulSet/shop/web"
    with pytest.raises(NotThere, match=r"shop/deployment/web or shop/statefulset/web"):
        pods(world.state, place("shop/web"))
    assert [pod.name for pod in pods(world.state, place("shop/sts/web"))] == ["web-0"]


def test_who_is_not_there_is_told_with_the_nearest_name(world: World) -> None:
    with pytest.raises(NotThere, match=r"no pod or workload shop/wev; did you mean shop/web\?"):
        pods(world.state, place("shop/wev"))


def test_a_port_name_means_what_the_destination_calls_so(world: World) -> None:
    (db,) = Parties(world.state).find("shop/db")
    assert ports(world.state, port("dns"), db) == [(Protocol.TCP, 53), (Protocol.UDP, 53)]
    assert ports(world.state, port("dns/UDP"), db) == [(Protocol.UDP, 53)]
    with pytest.raises(NotThere, match=r"no port named web; it has dns \(53/TCP\), dns \(53/UDP\)"):
        ports(world.state, port("web"), db)
    (outside,) = Parties(world.state).find("203.0.113.9")
    with pytest.raises(NotThere, match="no pod; give a number"):
        ports(world.state, port("dns"), outside)
