import dataclasses

import pytest

from deciding import (
    GRACE_MS,
    SETTINGS,
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
from tabard.allocator.pods import retry
from tabard.bus.port import PAYLOAD_BYTES_MAX
from tabard.events.ledger import (
    EndpointBound,
    EndpointRelabelled,
    EndpointTombstoned,
    EndpointUnbound,
    IdentityAllocated,
    PodRefused,
)
from tabard.identity.labels import LABELS_MAX

WEB = {"app": "web"}


def test_a_new_label_set_is_allocated_the_lowest_number_and_then_bound() -> None:
    desk = Desk()
    allocated, bound = desk.observe(started("a", WEB, "10.0.0.1"))
    assert allocated == IdentityAllocated(
        256,
        (
            "k8s:app=web",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
            "k8s:io.kubernetes.pod.namespace=default",
        ),
    )
    assert isinstance(bound, EndpointBound)
    assert (bound.uid, bound.identity, bound.addresses) == ("a", 256, ("10.0.0.1",))
    assert desk.state.bindings == {"10.0.0.1": "a"}


def test_a_known_label_set_is_only_bound() -> None:
    desk = Desk()
    desk.observe(started("a", WEB, "10.0.0.1"))
    (bound,) = desk.observe(started("b", WEB, "10.0.0.2"))
    assert isinstance(bound, EndpointBound)
    assert bound.identity == 256


def test_the_labels_of_the_namespace_are_part_of_the_identity() -> None:
    desk = Desk()
    desk.observe(namespace("default", team="red"))
    allocated, _ = desk.observe(started("a", WEB))
    assert isinstance(allocated, IdentityAllocated)
    assert "k8s:io.cilium.k8s.namespace.labels.team=red" in allocated.labels


def test_the_operators_filter_decides_what_is_relevant() -> None:
    desk = Desk(dataclasses.replace(SETTINGS, exclude=("build",)))
    desk.observe(started("a", {"app": "web", "build": "1"}))
    assert kinds(desk.observe(started("b", {"app": "web", "build": "2"}))) == ["EndpointBound"]


def test_a_fixed_identity_is_used_by_its_label_set() -> None:
    probe = Desk()
    probe.observe(started("a", WEB))
    labels = probe.state.identities[256].labels
    desk = Desk(dataclasses.replace(SETTINGS, fixed=((128, labels),)))
    (bound,) = desk.observe(started("a", WEB))
    assert isinstance(bound, EndpointBound)
    assert bound.identity == 128


def test_a_host_network_pod_is_the_host_and_binds_no_address() -> None:
    desk = Desk()
    (bound,) = desk.observe(started("a", WEB, "192.0.2.1", host_network=True))
    assert isinstance(bound, EndpointBound)
    assert (bound.identity, bound.addresses) == (1, ())
    (moved,) = desk.observe(relabelled("a", app="other"))
    assert moved == EndpointRelabelled("a", 1, pairs({"app": "other"}))


def test_a_pod_without_labels_is_bound() -> None:
    desk = Desk()
    assert kinds(desk.observe(started("a", {}, "10.0.0.1"))) == [
        "IdentityAllocated",
        "EndpointBound",
    ]


def test_a_pod_on_an_unknown_node_is_bound() -> None:
    desk = Desk()
    desk.observe(joined("n1"))
    assert kinds(desk.observe(started("a", WEB, node="n9")))[-1] == "EndpointBound"


def test_the_same_start_again_changes_nothing_even_after_a_label_change() -> None:
    desk = Desk()
    desk.observe(started("a", WEB, "10.0.0.1"))
    assert desk.observe(started("a", WEB, "10.0.0.1")) == []
    desk.observe(relabelled("a", app="api"))
    assert desk.observe(started("a", WEB, "10.0.0.1")) == []
    assert desk.state.endpoints["a"].labels == pairs({"app": "api"})


def test_a_start_after_the_stop_changes_nothing() -> None:
    desk = Desk()
    desk.observe(started("a", WEB, "10.0.0.1"))
    assert desk.observe(stopped("a")) == [EndpointUnbound("a")]
    assert desk.observe(started("a", WEB, "10.0.0.1")) == []
    assert desk.observe(stopped("a")) == []
    assert desk.state.bindings == {}


def test_a_stop_before_its_start_is_remembered() -> None:
    desk = Desk()
    assert desk.observe(stopped("a")) == [EndpointTombstoned("a")]
    assert desk.observe(stopped("a")) == []
    assert desk.observe(started("a", WEB)) == []
    assert desk.observe(relabelled("a", app="x")) == []


def test_the_later_start_takes_an_address_over() -> None:
    desk = Desk()
    desk.observe(started("old", WEB, "10.0.0.1", "fd00::1", at=1))
    desk.observe(started("new", WEB, "10.0.0.1", at=2))
    assert desk.state.bindings == {"10.0.0.1": "new", "fd00::1": "old"}
    desk.observe(stopped("old"))
    assert desk.state.bindings == {"10.0.0.1": "new"}


def test_of_two_equal_starts_the_later_told_takes_the_address() -> None:
    desk = Desk()
    desk.observe(started("first", WEB, "10.0.0.1", at=1))
    desk.observe(started("second", WEB, "10.0.0.1", at=1))
    assert desk.state.bindings == {"10.0.0.1": "second"}


def test_an_older_start_gets_only_the_addresses_that_are_left() -> None:
    desk = Desk()
    desk.observe(started("new", WEB, "10.0.0.1", at=2))
    (bound,) = desk.observe(started("old", WEB, "10.0.0.1", "10.0.0.2", at=1))
    assert isinstance(bound, EndpointBound)
    assert bound.addresses == ("10.0.0.2",)
    assert desk.state.bindings == {"10.0.0.1": "new", "10.0.0.2": "old"}


def test_an_older_start_with_no_address_left_is_refused_once() -> None:
    desk = Desk()
    desk.observe(started("new", WEB, "10.0.0.1", at=2))
    (refused,) = desk.observe(started("old", WEB, "10.0.0.1", at=1))
    assert isinstance(refused, PodRefused)
    assert refused.reason == "pods that started later hold all of its addresses: 10.0.0.1"
    assert not refused.retry
    assert desk.observe(started("old", WEB, "10.0.0.1", at=1)) == []


def test_a_label_change_allocates_and_moves_in_one_decision() -> None:
    desk = Desk()
    desk.observe(started("a", WEB, "10.0.0.1"))
    allocated, moved = desk.observe(relabelled("a", app="api"))
    assert isinstance(allocated, IdentityAllocated)
    assert moved == EndpointRelabelled("a", 257, pairs({"app": "api"}))
    assert desk.state.identities[256].users == 0
    assert desk.state.identities[257].users == 1
    assert desk.observe(relabelled("a", app="api")) == []


def test_a_change_of_irrelevant_labels_keeps_the_identity() -> None:
    desk = Desk()
    desk.observe(started("a", WEB))
    change = relabelled("a", **WEB, **{"pod-template-hash": "abc"})
    assert desk.observe(change) == [EndpointRelabelled("a", 256, change.labels)]


def test_a_label_change_of_an_unknown_pod_changes_nothing() -> None:
    assert Desk().observe(relabelled("a", app="x")) == []


def test_two_thousand_labels_are_one_identity() -> None:
    desk = Desk()
    labels = {f"key-{number}": "v" * 63 for number in range(2_000)}
    assert kinds(desk.observe(started("a", labels))) == ["IdentityAllocated", "EndpointBound"]
    assert kinds(desk.observe(started("b", labels))) == ["EndpointBound"]


def test_the_most_labels_are_bound_and_one_more_is_refused() -> None:
    desk = Desk()
    labels = {f"key-{number}": "" for number in range(LABELS_MAX)}
    assert kinds(desk.observe(started("a", labels)))[-1] == "EndpointBound"
    (refused,) = desk.observe(started("b", {**labels, "one": "more"}))
    assert isinstance(refused, PodRefused)
    assert f"{LABELS_MAX + 1} labels, more than {LABELS_MAX}" in refused.reason
    assert not refused.retry
    (again,) = desk.observe(relabelled("b", **labels))
    assert isinstance(again, EndpointBound)


def test_a_pod_larger_than_an_event_is_refused_and_named() -> None:
    desk = Desk()
    labels = {f"{'k' * 240}.{n:05}/{'n' * 63}": "v" * 63 for n in range(LABELS_MAX)}
    pod = started("a", labels, "10.0.0.1")
    (refused,) = desk.observe(pod)
    assert isinstance(refused, PodRefused)
    assert (refused.uid, refused.labels, refused.retry) == ("a", (), False)
    assert "bytes, more than" in refused.reason
    assert desk.observe(pod) == []
    assert desk.observe(relabelled("a", app="web")) == []
    assert all(len(message.payload) <= PAYLOAD_BYTES_MAX for message in desk.messages)


def test_a_label_set_larger_than_an_event_is_refused() -> None:
    desk = Desk()
    # The pod fits; with the prefixes of its labels and those of its namespace the set does not.
    team = {f"{'t' * 60}.{n:05}/{'n' * 63}": "v" * 63 for n in range(2_500)}
    desk.observe(namespace("default", **team))
    labels = {f"{'k' * 60}.{n:05}/{'n' * 63}": "v" * 63 for n in range(2_500)}
    (refused,) = desk.observe(started("a", labels))
    assert isinstance(refused, PodRefused)
    assert "identity.allocated for" in refused.reason
    assert 256 not in desk.state.identities


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": ("10.0.0.01",)},
        {"addresses": ("fd00::0001",)},
        {"addresses": ("127.0.0.1",)},
        {"addresses": ("10.0.0.1", "10.0.0.1")},
        {"addresses": ("::ffff:a00:1",)},
        {"addresses": tuple(f"10.0.0.{n}" for n in range(1, 18))},
        {"labels": (("app", "no spaces"),)},
        {"labels": (("-app", ""),)},
        {"labels": (("b", ""), ("a", ""))},
        {"labels": (("a", "1"), ("a", "2"))},
        {"namespace": "Upper"},
        {"namespace": ""},
        {"name": "under_score"},
        {"node": ""},
        {"service_account": "a/b"},
        {"ports": (("http", 0, "TCP"),)},
        {"ports": (("HTTP", 80, "TCP"),)},
        {"ports": (("http", 80, "QUIC"),)},
        {"owner": "x" * 600},
    ],
)
def test_an_invalid_pod_is_refused_with_what_is_wrong(wrong: dict[str, object]) -> None:
    desk = Desk()
    pod = dataclasses.replace(started("a", WEB, "10.0.0.1"), **wrong)  # type: ignore[arg-type]
    (refused,) = desk.observe(pod)
    assert isinstance(refused, PodRefused)
    assert "not valid" in refused.reason
    assert desk.observe(pod) == []


def test_a_full_number_space_makes_pods_wait_and_says_which_labels_fill_it() -> None:
    desk = tiny_space(2)
    desk.observe(started("a", {"job": "1"}))
    desk.observe(started("b", {"job": "2"}))
    (refused,) = desk.observe(started("c", {"job": "3"}))
    assert isinstance(refused, PodRefused)
    assert refused.retry
    assert "k8s:job (2 values)" in refused.reason
    assert desk.observe(started("c", {"job": "3"})) == []
    # A known label set needs no number.
    assert kinds(desk.observe(started("d", {"job": "1"}))) == ["EndpointBound"]
    assert kinds(desk.tick()) == ["NumbersExhausted"]
    assert desk.tick() == []


def test_a_released_number_goes_to_the_pods_that_wait_oldest_first() -> None:
    desk = tiny_space(1)
    desk.observe(started("a", {"job": "1"}))
    desk.observe(started("b", {"job": "2"}))
    desk.observe(started("c", {"job": "3"}))
    desk.observe(started("d", {"job": "2"}))
    desk.observe(stopped("a"))
    number = desk.state.endpoints.get("b")
    assert number is None
    said = desk.tick(after_ms=GRACE_MS)
    assert kinds(said) == [
        "IdentityRetired",
        "IdentityReleased",
        "IdentityAllocated",
        "EndpointBound",
        "EndpointBound",
        "NumbersExhausted",
    ]
    assert set(desk.state.endpoints) == {"b", "d"}
    assert list(desk.state.waiting) == ["c"]


def test_a_waiting_pod_that_stops_waits_no_more() -> None:
    desk = tiny_space(0)
    desk.observe(started("a", WEB))
    assert desk.observe(stopped("a")) == [EndpointTombstoned("a")]
    assert not desk.state.waiting
    assert not desk.state.refused_pods
    assert desk.tick() == []


def test_a_waiting_pod_is_tried_with_its_new_labels() -> None:
    desk = tiny_space(1)
    desk.observe(started("a", WEB))
    desk.observe(started("b", {"app": "api"}))
    assert kinds(desk.observe(relabelled("b", **WEB))) == ["EndpointBound"]


def test_a_running_pod_whose_new_identity_cannot_be_had_loses_the_old_one_and_waits() -> None:
    desk = tiny_space(1)
    desk.observe(started("a", WEB, "10.0.0.1"))
    refused, unbound = desk.observe(relabelled("a", app="api"))
    assert unbound == EndpointUnbound("a")
    assert isinstance(refused, PodRefused)
    assert refused.retry
    assert refused.addresses == ("10.0.0.1",)
    # Its old number is the only one; once released it is bound again, and a stop still ends it.
    assert kinds(desk.tick(after_ms=GRACE_MS))[-1] == "EndpointBound"
    assert desk.state.bindings == {"10.0.0.1": "a"}
    assert desk.observe(stopped("a")) == [EndpointUnbound("a")]
    assert desk.observe(started("a", WEB, "10.0.0.1")) == []


def test_of_two_waiting_pods_with_one_address_the_later_start_gets_it() -> None:
    desk = tiny_space(0)
    desk.observe(started("new", WEB, "10.0.0.1", at=2))
    desk.observe(started("old", WEB, "10.0.0.1", at=1))
    desk.indexes.numbering.cluster.release(65_535)
    assert kinds(desk.tick()) == ["IdentityAllocated", "EndpointBound", "PodRefused"]
    assert desk.state.bindings == {"10.0.0.1": "new"}
    assert not desk.state.waiting
    assert desk.tick() == []


def test_retrying_stays_within_its_bound_and_goes_on() -> None:
    desk = tiny_space(0)
    for number in range(30):
        desk.observe(started(f"p{number}", {"job": str(number)}))
    for number in range(65_535, 65_515, -1):
        desk.indexes.numbering.cluster.release(number)
    assert len(retry(desk.state, desk.indexes, 10)) == 10
    desk.tick()
    assert list(desk.state.endpoints) == [f"p{number}" for number in range(20)]


def test_a_uid_that_is_none_is_rejected() -> None:
    desk = Desk()
    for event in (started("bad uid"), stopped(""), relabelled("x" * 200)):
        assert kinds(desk.observe(event)) == ["EventQuarantined"]
    assert not desk.state.endpoints
    assert not desk.state.refused_pods
