from tabard.dataplane.maps import Mode
from tabard.demo.expectation import Expectation
from tabard.demo.probe import Answer, Target
from tabard.demo.timeline import Timeline
from world import World

CLIENT, SERVER = "10.244.1.5", "10.244.2.6"
TARGET = Target(SERVER, 80)


def policy(world: World) -> None:
    world.policy(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": "x"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        }
    )


def cluster() -> World:
    world = World()
    world.pod("x/client", {"app": "client"}, node="n1", ip=CLIENT)
    world.pod("x/server", {"app": "server"}, node="n2", ip=SERVER)
    return world


def answer(began: int, ended: int, *, passed: bool = True, said: str = "") -> Answer:
    return Answer(TARGET, passed, said, began, ended)


def changing() -> Timeline:
    """Allowed until a change that was sent at 100 and enforced everywhere at 200."""
    world = cluster()
    timeline = Timeline(Expectation(world.state, Mode.OVERLAY), 0)
    policy(world)
    timeline.change(Expectation(world.state, Mode.OVERLAY), sent=100, enforced=200)
    return timeline


def test_a_packet_that_the_old_state_allowed_may_pass_until_all_enforce_the_new_one() -> None:
    assert changing().leaks("x/client", [answer(10, 20), answer(90, 120), answer(200, 210)]) == []


def test_a_packet_sent_after_the_last_node_enforced_the_denial_is_a_leak() -> None:
    late = answer(201, 210)
    assert changing().leaks("x/client", [late]) == [late]


def test_a_dropped_packet_is_never_a_leak() -> None:
    assert changing().leaks("x/client", [answer(201, 210, passed=False)]) == []


def test_a_pod_without_its_address_in_any_possible_state_leaks_with_each_packet() -> None:
    passed = answer(10, 20)
    assert changing().leaks("x/stranger", [passed]) == [passed]


def test_an_answer_from_another_pod_than_the_address_holder_is_a_leak() -> None:
    right, wrong = answer(10, 20, said="x/server"), answer(10, 20, said="x/other")
    assert changing().leaks("x/client", [right, wrong]) == [wrong]


def test_an_expectation_is_not_touched_by_later_changes_of_the_state() -> None:
    world = cluster()
    before = Expectation(world.state, Mode.OVERLAY)
    policy(world)
    assert before.allows_pod("x/client", TARGET, "")
    assert not Expectation(world.state, Mode.OVERLAY).allows_pod("x/client", TARGET, "")
