from tabard.dataplane.differences import LISTED_MAX, Difference, differences, listed
from tabard.dataplane.maps import MAP_NAMES, Maps, Mode, address
from tabard.policy.compile import Compiler
from world import World, attachment, network_policy


def test_equal_maps_do_not_differ() -> None:
    maps = Maps(identities=frozenset({5}), hosts={address("10.0.0.1"): 5})
    assert differences(maps, maps) == []


def test_every_difference_is_named_readably() -> None:
    world = World()
    world.pod("default/web", {"app": "web"}, node="n1", ip="10.244.1.5", uid="web")
    world.policy(network_policy("p", ingress=[{"ports": [{"port": 80}]}]))
    attachments = {"web": attachment("web", 7)}
    wanted = Compiler().compile(world.state, "n1", Mode.OVERLAY, attachments)
    missing = differences(Maps(), wanted)
    assert len(missing) == sum(len(getattr(wanted, name)) for name in MAP_NAMES)
    assert {each.kind for each in missing} == {"missing"}
    text = "\n".join(map(str, missing))
    assert "endpoints 10.244.1.5: identity 256 policy" in text
    assert "ingress peer 0 tcp port 80/16" in text
    assert "prefixes 10.244.2.0 (/120 of 128): identity 9 flags 1 by 192.168.9.2" in text
    assert "nodes 192.168.9.1" in text
    assert "identities 256" in text.splitlines()
    extra = differences(wanted, Maps())
    assert {each.kind for each in extra} == {"extra"}
    assert list(map(str, extra)) == list(map(str, missing))


def test_another_value_is_told_beside_the_wanted_one() -> None:
    here, there = {address("10.0.0.1"): 5}, {address("10.0.0.1"): 6}
    (found,) = differences(Maps(hosts=here), Maps(hosts=there))
    assert found == Difference("hosts", "10.0.0.1", "5", "6")
    assert (found.kind, str(found)) == ("different", "hosts 10.0.0.1: 5, wanted 6")


def test_a_list_names_no_more_than_its_most_of_each_kind() -> None:
    most = differences(Maps(), Maps(identities=frozenset(range(LISTED_MAX))))
    assert listed(most) == tuple(most)
    numbers = frozenset(range(LISTED_MAX + 1))
    held = Maps(hosts={address("10.0.0.1"): 5})
    more = listed(differences(held, Maps(identities=numbers)))
    assert [each.kind for each in more] == ["missing"] * LISTED_MAX + ["extra"]
