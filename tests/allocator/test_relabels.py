"""A running pod's way from one identity to another: every live node first, or time is up."""

import pytest

from deciding import (
    GRACE_MS,
    LIMITS,
    Desk,
    joined,
    kinds,
    namespace,
    pairs,
    relabelled,
    started,
    stopped,
    tiny_space,
)
from tabard.allocator.plan import Indexes
from tabard.allocator.relabels import rebinding
from tabard.events.ledger import (
    BEHIND_MAX,
    EndpointRelabelled,
    EndpointsRebound,
    IdentityAllocated,
    RebindPlanned,
    RelabelPlanned,
)
from tabard.events.observed import NodeLeft

WEB, API = {"app": "web"}, {"app": "api"}
TIMEOUT_MS = LIMITS.relabel_timeout_ms


def running(*nodes: str) -> Desk:
    """A pod of 256 in the namespace shop, that all of the nodes know of."""
    desk = Desk()
    for node in nodes or ("n1", "n2"):
        desk.observe(joined(node))
    desk.observe(started("a", WEB, "10.0.0.1", namespace="shop"))
    desk.tick()
    return desk


def test_a_new_identity_is_planned_until_every_live_node_enforces_the_plan() -> None:
    desk = running()
    allocated, planned = desk.observe(relabelled("a", **API))
    assert isinstance(allocated, IdentityAllocated)
    assert planned == RelabelPlanned("a", 257, pairs(API))
    endpoint = desk.state.endpoints["a"]
    assert (endpoint.identity, endpoint.labels) == (256, pairs(WEB))
    at = desk.state.relabels["a"].planned_at
    assert desk.tick({"n1": at, "n2": at - 1}) == []
    assert desk.tick({"n1": at, "n2": at}) == [EndpointRelabelled("a", 257, pairs(API))]
    assert (endpoint.identity, endpoint.labels) == (257, pairs(API))
    assert not desk.state.relabels


def test_an_identity_that_every_live_node_knows_is_had_at_once() -> None:
    desk = running()
    desk.observe(started("b", API, namespace="shop"))
    assert kinds(desk.observe(relabelled("a", **API))) == ["RelabelPlanned"]
    desk.tick()
    desk.observe(started("c", WEB, namespace="shop"))
    assert desk.observe(relabelled("c", **API)) == [EndpointRelabelled("c", 257, pairs(API))]


def test_when_time_is_up_it_is_had_and_the_ledger_says_who_was_not_waited_for() -> None:
    desk = running("n1", "n2", "n3")
    desk.observe(relabelled("a", **API))
    assert desk.tick(after_ms=TIMEOUT_MS - 1, silent=["n3", "n2"]) == []
    expected = EndpointRelabelled("a", 257, pairs(API), behind=("n2", "n3"))
    assert desk.tick(after_ms=1, silent=["n3", "n2"]) == [expected]


def test_of_many_nodes_that_were_not_waited_for_the_first_are_named() -> None:
    names = [f"n{number:02}" for number in range(BEHIND_MAX + 1)]
    desk = running(*names)
    desk.observe(relabelled("a", **API))
    (event,) = desk.tick({}, after_ms=TIMEOUT_MS)
    assert isinstance(event, EndpointRelabelled)
    assert event.behind == tuple(names[:BEHIND_MAX])


def test_neither_lost_nodes_nor_those_that_left_are_waited_for() -> None:
    desk = running("n1", "n2", "n3")
    desk.tick(after_ms=LIMITS.node_lost_ms + 1, silent=["n2"])
    desk.observe(relabelled("a", **API))
    assert desk.tick(silent=["n2", "n3"]) == []
    desk.observe(NodeLeft("n3"))
    assert kinds(desk.tick(silent=["n2"])) == ["EndpointRelabelled"]


def test_the_identity_that_is_planned_does_not_retire_and_the_old_one_does() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    assert desk.tick({}, after_ms=GRACE_MS) == []
    said = desk.tick(after_ms=GRACE_MS)
    assert kinds(said) == ["EndpointRelabelled"]
    assert kinds(desk.tick(after_ms=GRACE_MS)) == ["IdentityRetired", "IdentityReleased"]
    assert set(desk.state.identities) == {257}


def test_a_further_change_takes_the_plans_place_and_its_time() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    desk.tick({}, after_ms=TIMEOUT_MS - 1)
    assert kinds(desk.observe(relabelled("a", app="db"))) == ["IdentityAllocated", "RelabelPlanned"]
    assert 257 in desk.state.idle
    (event,) = desk.tick({}, after_ms=1)
    assert isinstance(event, EndpointRelabelled)
    assert (event.identity, event.behind) == (258, ("n1", "n2"))


def test_the_same_change_again_changes_nothing() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    assert desk.observe(relabelled("a", **API)) == []


def test_a_change_back_ends_the_plan() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    assert desk.observe(relabelled("a", **WEB)) == [EndpointRelabelled("a", 256, pairs(WEB))]
    assert not desk.state.relabels
    assert desk.tick() == []
    assert desk.state.endpoints["a"].identity == 256


def test_a_stop_ends_the_plan() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    desk.observe(stopped("a"))
    assert not desk.state.relabels
    assert set(desk.state.idle) == {256, 257}
    assert desk.tick() == []


def test_a_plan_whose_next_identity_cannot_be_had_ends_with_the_pod_refused() -> None:
    desk = tiny_space(2)
    desk.observe(joined("n1"))
    desk.observe(started("a", WEB))
    desk.tick()
    assert kinds(desk.observe(relabelled("a", **API))) == ["IdentityAllocated", "RelabelPlanned"]
    assert kinds(desk.observe(relabelled("a", app="x"))) == ["PodRefused", "EndpointUnbound"]
    assert not desk.state.relabels
    assert set(desk.state.waiting) == {"a"}


def test_another_allocator_carries_out_what_one_planned() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    desk.state = desk.refolded()
    desk.indexes = Indexes(desk.state)
    at = desk.state.relabels["a"].planned_at
    # It has heard nobody yet, however long ago the plan was made.
    desk.now += 10 * TIMEOUT_MS * 1_000_000
    assert desk.tick({"n1": at}) == []
    assert desk.tick({"n1": at, "n2": at}) == [EndpointRelabelled("a", 257, pairs(API))]


def test_a_leader_that_was_paused_listens_before_it_gives_up() -> None:
    desk = running()
    desk.observe(relabelled("a", **API))
    desk.indexes.watermarks.pause()
    desk.now += 10 * TIMEOUT_MS * 1_000_000
    assert desk.tick({}) == []
    assert kinds(desk.tick({}, after_ms=TIMEOUT_MS)) == ["EndpointRelabelled"]


def test_a_namespaces_pods_wait_and_change_together() -> None:
    desk = running()
    desk.observe(started("b", API, namespace="shop"))
    desk.tick()
    *_, planned, labelled = desk.observe(namespace("shop", team="red"))
    assert planned == RebindPlanned("shop", (("a", 258), ("b", 259)))
    assert kinds([labelled]) == ["NamespaceLabelled"]
    assert desk.observe(namespace("shop", team="red")) == []
    # Who starts now has the namespace's new labels.
    desk.observe(started("c", WEB, namespace="shop"))
    assert desk.state.endpoints["c"].identity == 258
    assert desk.tick() == [EndpointsRebound("shop", (("a", 258), ("b", 259)))]
    assert desk.state.endpoints["a"].labels == pairs(WEB)


def test_a_namespaces_change_that_everyone_knows_is_had_at_once() -> None:
    desk = running()
    desk.observe(namespace("shop", team="red"))
    desk.tick()
    said = desk.observe(namespace("shop"))
    assert said[-1] == EndpointsRebound("shop", (("a", 256),))


def test_when_time_is_up_a_namespaces_pods_change_and_the_ledger_says_who_was_left() -> None:
    desk = running()
    desk.observe(namespace("shop", team="red"))
    expected = EndpointsRebound("shop", (("a", 257),), behind=("n2",))
    assert desk.tick(after_ms=TIMEOUT_MS, silent=["n2"]) == [expected]


def test_a_pods_and_its_namespaces_change_come_together_in_either_order() -> None:
    own_first, own_last = running(), running()
    own_first.observe(relabelled("a", **API))
    own_first.observe(namespace("shop", team="red"))
    own_last.observe(namespace("shop", team="red"))
    own_last.observe(relabelled("a", **API))
    for desk in (own_first, own_last):
        desk.tick()
        endpoint = desk.state.endpoints["a"]
        assert endpoint.labels == pairs(API)
        labels = desk.state.identities[endpoint.identity].labels
        assert {"k8s:app=api", "k8s:io.cilium.k8s.namespace.labels.team=red"} <= set(labels)


def test_a_namespaces_change_and_back_leaves_its_pods_as_they_were() -> None:
    desk = running()
    desk.observe(namespace("shop", team="red"))
    desk.observe(namespace("shop"))
    desk.tick()
    assert desk.state.endpoints["a"].identity == 256
    assert not desk.state.relabels


def test_a_plan_cut_off_by_a_dying_bus_is_completed() -> None:
    for after in range(4):
        desk = running()
        change = namespace("shop", team="red")
        desk.observe(change, stored=after)
        desk.tick()
        desk.observe(change)
        desk.tick()
        assert desk.state.namespaces["shop"] == {"team": "red"}
        assert desk.state.endpoints["a"].identity == 257


def test_carrying_out_stays_within_its_bound_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabard.allocator.decide.TICK_EVENTS_MAX", 2)
    desk = running()
    for name in "bcde":
        desk.observe(started(name, WEB))
        desk.observe(relabelled(name, **API))
    assert kinds(desk.tick()) == ["EndpointRelabelled"] * 4


def test_changes_take_as_few_events_as_carry_them() -> None:
    changes = [(f"p{number}", 256) for number in range(4_097)]
    first, last = rebinding("shop", changes)
    assert (first.changes + last.changes, len(last.changes)) == (tuple(changes), 1)
