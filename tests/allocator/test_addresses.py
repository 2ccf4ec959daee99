"""An address goes from incarnation to incarnation, whatever order starts and stops come in."""

from itertools import permutations
from typing import Any

import pytest

from deciding import Desk, joined, kinds, relabelled, started, stopped

ADDRESS = "10.0.0.1"
WEB = {"app": "web"}


def life(uid: str, at: int, node: str = "n1", **labels: str) -> Any:
    """A start of the StatefulSet's pod web-0, by incarnation."""
    pod = started(uid, labels or WEB, ADDRESS, node=node, at=at)
    return type(pod)(**{name: getattr(pod, name) for name in pod.__slots__} | {"name": "web-0"})


def told(*story: Any) -> Desk:
    desk = Desk()
    desk.observe(joined("n1"))
    desk.observe(joined("n2"))
    for event in story:
        desk.observe(event)
        desk.tick()
    return desk


def test_the_same_name_at_the_same_address_is_another_pod() -> None:
    desk = told(life("u1", 1), stopped("u1"), life("u2", 2))
    assert desk.state.bindings == {ADDRESS: "u2"}
    assert [pod.name for pod in desk.state.endpoints.values()] == ["web-0"]


def test_a_late_stop_of_the_incarnation_before_takes_nothing_away() -> None:
    desk = told(life("u1", 1), life("u2", 2), stopped("u1"))
    assert desk.state.bindings == {ADDRESS: "u2"}


@pytest.mark.parametrize("again", [life("u1", 1), stopped("u1"), relabelled("u1", app="x")])
def test_what_is_told_again_of_a_dead_incarnation_changes_nothing(again: Any) -> None:
    desk = told(life("u1", 1), stopped("u1"), life("u2", 2))
    before = desk.state.sequence
    for _ in range(2):
        assert desk.observe(again) == []
    assert desk.tick() == []
    assert desk.state.sequence == before


def test_a_start_that_is_told_again_does_not_win_its_address_back() -> None:
    desk = told(life("u1", 1), life("u2", 2), life("u1", 1))
    assert desk.state.bindings == {ADDRESS: "u2"}


def test_a_whole_past_told_again_changes_nothing() -> None:
    past = [life("u1", 1), stopped("u1"), life("u2", 2), relabelled("u2", app="x"), stopped("u2")]
    desk = told(*past, life("u3", 3))
    before = desk.state.sequence
    for event in past:
        assert desk.observe(event) == []
    assert desk.tick() == []
    assert (desk.state.bindings, desk.state.sequence) == ({ADDRESS: "u3"}, before)


@pytest.mark.parametrize("nodes", [("n1", "n1"), ("n1", "n2")], ids=["one node", "two nodes"])
def test_in_any_order_of_starts_and_stops_the_living_incarnation_has_the_address(
    nodes: tuple[str, str],
) -> None:
    events = [life("u1", 1, nodes[0]), stopped("u1"), life("u2", 2, nodes[1])]
    for order in permutations(events):
        assert told(*order).state.bindings == {ADDRESS: "u2"}, kinds(list(order))


def test_in_any_order_nothing_is_left_of_two_dead_incarnations() -> None:
    events = [life("u1", 1), stopped("u1"), life("u2", 2, "n2"), stopped("u2")]
    for order in permutations(events):
        state = told(*order).state
        assert not state.bindings
        assert not state.endpoints
        assert not state.refused_pods


def test_of_two_nodes_that_claim_one_address_the_later_start_has_it() -> None:
    for order in permutations([life("u1", 1, "n1"), life("u2", 2, "n2")]):
        desk = told(*order)
        assert desk.state.bindings == {ADDRESS: "u2"}


def test_an_older_start_has_the_address_when_the_later_one_has_stopped() -> None:
    """Its node's clock may be behind: who is told to run and not to have stopped, runs."""
    desk = told(life("u2", 2, "n2"), life("u1", 1, "n1"))
    assert "u1" in desk.state.refused_pods
    assert desk.tick() == []
    desk.observe(stopped("u2"))
    assert kinds(desk.tick()) == ["EndpointBound"]
    assert desk.state.bindings == {ADDRESS: "u1"}
    assert not desk.state.refused_pods


def test_an_older_start_that_stops_meanwhile_has_the_address_never() -> None:
    desk = told(life("u2", 2), life("u1", 1), stopped("u1"), stopped("u2"))
    assert not desk.state.bindings


def test_an_older_start_that_waits_for_the_address_gives_it_to_a_later_one() -> None:
    desk = told(life("u2", 2), life("u1", 1), stopped("u2"), life("u3", 3))
    assert desk.state.bindings == {ADDRESS: "u3"}
    desk.observe(stopped("u1"))
    assert desk.state.bindings == {ADDRESS: "u3"}


def test_a_plan_of_the_incarnation_before_is_not_the_new_ones() -> None:
    desk = Desk()
    desk.observe(joined("n1"))
    desk.observe(life("u1", 1))
    desk.observe(relabelled("u1", app="new"))
    desk.observe(life("u2", 2))
    desk.observe(stopped("u1"))
    assert not desk.state.relabels
    assert desk.tick() == []
    holder = desk.state.endpoints[desk.state.bindings[ADDRESS]]
    assert dict(holder.labels) == WEB
