from deciding import GRACE_MS, Desk, kinds, namespace, pairs, started, tiny_space
from tabard.allocator.decide import ahead
from tabard.allocator.namespaces import CHANGES_MAX
from tabard.events.ledger import (
    EndpointsRebound,
    EventQuarantined,
    IdentityAllocated,
    NamespaceForgotten,
    NamespaceLabelled,
)
from tabard.events.observed import NamespaceRemoved
from tabard.identity.labels import LABELS_MAX


def test_every_pod_of_a_relabelled_namespace_changes_in_one_decision() -> None:
    desk = Desk()
    for uid, app in (("a", "web"), ("b", "web"), ("c", "api")):
        desk.observe(started(uid, {"app": app}, namespace="shop"))
    desk.observe(started("other", {"app": "web"}, namespace="bank"))
    events = desk.observe(namespace("shop", team="red"))
    assert kinds(events[:2]) == ["IdentityAllocated", "IdentityAllocated"]
    assert events[2:] == [
        NamespaceLabelled("shop", pairs({"team": "red"})),
        EndpointsRebound("shop", (("a", 259), ("b", 259), ("c", 260))),
    ]
    assert desk.state.endpoints["other"].identity == 258


def test_the_same_labels_again_change_nothing() -> None:
    desk = Desk()
    desk.observe(namespace("shop", team="red"))
    assert desk.observe(namespace("shop", team="red")) == []


def test_labels_known_before_are_used_again() -> None:
    desk = Desk()
    desk.observe(namespace("shop", team="red"))
    desk.observe(started("a", {"app": "web"}, namespace="shop"))
    desk.observe(namespace("shop", team="blue"))
    assert desk.observe(namespace("shop", team="red"))[1:] == [
        EndpointsRebound("shop", (("a", 256),))
    ]


def test_irrelevant_labels_and_host_network_pods_change_no_identity() -> None:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}, namespace="shop"))
    desk.observe(started("h", {"app": "web"}, namespace="shop", host_network=True))
    events = desk.observe(namespace("shop", team="red"))
    assert isinstance(events[-1], EndpointsRebound)
    assert events[-1].changes == (("a", 257),)


def test_pods_of_a_removed_namespace_lose_its_labels() -> None:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}, namespace="shop"))
    desk.observe(namespace("shop", team="red"))
    assert desk.observe(NamespaceRemoved("shop")) == [
        NamespaceForgotten("shop"),
        EndpointsRebound("shop", (("a", 256),)),
    ]
    assert desk.observe(NamespaceRemoved("shop")) == []


def test_many_changes_are_written_in_pieces_that_fit_an_event() -> None:
    desk = Desk(checked=False)
    for number in range(CHANGES_MAX + 1):
        desk.observe(started(f"p{number:0>120}", {"app": "web"}, namespace="shop"))
    events = desk.observe(namespace("shop", team="red"))
    assert kinds(events) == [
        "IdentityAllocated",
        "NamespaceLabelled",
        "EndpointsRebound",
        "EndpointsRebound",
    ]
    assert {endpoint.identity for endpoint in desk.state.endpoints.values()} == {257}


def test_more_new_identities_than_a_batch_holds_may_be_allocated_ahead() -> None:
    desk = Desk(checked=False)
    for number in range(1_100):
        desk.observe(started(f"p{number}", {"job": str(number)}, namespace="shop"))
    events = desk.observe(namespace("shop", team="red"))
    assert len(events) == 1_102
    assert ahead(events) == 1_100
    assert all(isinstance(event, IdentityAllocated) for event in events[:1_100])


def test_pods_for_which_no_number_is_left_lose_their_identity_and_wait() -> None:
    desk = tiny_space(3)
    for uid in "ab":
        desk.observe(started(uid, {"job": uid}, namespace="shop"))
    events = desk.observe(namespace("shop", team="red"))
    assert kinds(events) == [
        "PodRefused",
        "EndpointUnbound",
        "IdentityAllocated",
        "NamespaceLabelled",
        "EndpointsRebound",
    ]
    assert ahead(events) == 3
    assert set(desk.state.endpoints) == {"a"}
    assert kinds(desk.tick(after_ms=GRACE_MS))[-1] == "EndpointBound"


def test_malformed_or_too_many_namespace_labels_are_rejected() -> None:
    desk = Desk()
    desk.observe(started("a", {"app": "web"}, namespace="shop"))
    many = {f"k{number}": "" for number in range(LABELS_MAX + 1)}
    for event in (namespace("shop", team="no spaces"), namespace("No"), namespace("shop", **many)):
        (rejected,) = desk.observe(event)
        assert isinstance(rejected, EventQuarantined)
        assert (rejected.stream, rejected.sequence) == ("OBSERVED", desk.observed)
    assert "shop" not in desk.state.namespaces
