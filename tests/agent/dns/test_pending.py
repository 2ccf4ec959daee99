from tabard.agent.dns.frames import Datagram
from tabard.agent.dns.pending import PENDING_OF_POD_MAX, PENDING_S_MAX, Pending
from tabard.dataplane.maps import Direction

POD, SERVER = "10.0.0.1", "10.0.0.2"


def query(port: int = 4000, pod: str = POD) -> Datagram:
    return Datagram(Direction.EGRESS, pod, SERVER, port, 53, b"")


def answer(port: int = 4000, server: str = SERVER, server_port: int = 53) -> Datagram:
    return Datagram(Direction.INGRESS, server, POD, server_port, port, b"")


def test_an_answer_is_taken_once_if_it_is_to_what_was_asked() -> None:
    pending = Pending()
    pending.add(query(), "q", 0)
    assert not pending.take(answer(), "another", 1)
    assert not pending.take(answer(port=4001), "q", 1)
    assert not pending.take(answer(server="10.0.0.3"), "q", 1)
    assert not pending.take(answer(server_port=54), "q", 1)
    assert pending.take(answer(), "q", 1)
    assert not pending.take(answer(), "q", 1)
    assert len(pending) == 0


def test_an_answer_that_comes_too_late_is_none() -> None:
    pending = Pending()
    for asked_at in (0, 5):
        pending.add(query(), "q", asked_at)
    assert pending.take(answer(), "q", 5 + PENDING_S_MAX)
    pending.add(query(), "q", 30)
    assert not pending.take(answer(), "q", 30 + PENDING_S_MAX + 0.1)


def test_at_a_pods_bound_its_oldest_question_makes_room() -> None:
    pending = Pending()
    for number in range(PENDING_OF_POD_MAX):
        pending.add(query(number), "q", 0)
    pending.add(query(0), "q", 1)
    pending.add(query(PENDING_OF_POD_MAX), "q", 2)
    assert len(pending) == PENDING_OF_POD_MAX
    assert not pending.take(answer(1), "q", 3)
    assert all(pending.take(answer(port), "q", 3) for port in (0, 2, PENDING_OF_POD_MAX))


def test_pods_that_flood_take_no_other_pods_place() -> None:
    pending = Pending()
    pending.add(query(), "q", 0)
    for pod in range(20):
        for number in range(PENDING_OF_POD_MAX + 100):
            pending.add(query(number, f"10.0.1.{pod}"), "q", 1)
    assert len(pending) == 20 * PENDING_OF_POD_MAX + 1
    assert pending.take(answer(), "q", 2)


def test_pods_that_wait_for_nothing_any_more_are_forgotten() -> None:
    pending = Pending()
    for pod in range(20):
        pending.add(query(pod=f"10.0.1.{pod}"), "q", pod)
    pending.add(query(), "q", PENDING_S_MAX + 9.5)
    assert len(pending) == 11
    pending.add(query(), "q", 3 * PENDING_S_MAX)
    assert len(pending) == 1
