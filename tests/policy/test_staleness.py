"""The annotations that bound how old a node's knowledge may be: read, refused, and compiled."""

from typing import Any

import pytest

from tabard.dataplane.maps import Endpoint, address
from tabard.policy.model import PolicyError
from tabard.policy.reading import read_policies
from tabard.policy.reduction import reduce
from tabard.policy.staleness import AFTER, THEN
from world import World, cidr_group, cilium_policy, host_policy, network_policy, tiered_policy

KINDS = {
    "NetworkPolicy": network_policy("p", "x", ingress=[{}]),
    "CiliumNetworkPolicy": cilium_policy("p", "x", ingress=[{}]),
    "ClusterNetworkPolicy": tiered_policy("p"),
}


def noted(document: dict[str, Any], **notes: Any) -> dict[str, Any]:
    names = {"after": AFTER, "then": THEN}
    annotations = {names.get(name, name): value for name, value in notes.items()}
    return document | {"metadata": document["metadata"] | {"annotations": annotations}}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_policy_can_be_bounded(kind: str) -> None:
    [policy] = read_policies(noted(KINDS[kind], after="1m30s", then="deny-new"))
    assert policy.stale_after_s == 90


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("30s", 30), ("2m", 120), ("1h", 3600), ("18h12m15s", 65_535), ("65535s", 65_535)],
)
def test_times(text: str, seconds: int) -> None:
    [policy] = read_policies(noted(KINDS["NetworkPolicy"], after=text, then="deny-new"))
    assert policy.stale_after_s == seconds


def test_to_hold_is_to_have_no_bound() -> None:
    held = read_policies(noted(KINDS["NetworkPolicy"], after="30s", then="hold"))
    assert held == read_policies(KINDS["NetworkPolicy"])
    assert read_policies(noted(KINDS["NetworkPolicy"], **{"tabard.io/other": "x"})) == held


@pytest.mark.parametrize(
    ("notes", "at", "reason"),
    [
        ({"after": "0s", "then": "deny-new"}, AFTER, "a time of 1s to 65535s"),
        ({"after": "65536s", "then": "deny-new"}, AFTER, "a time of 1s to 65535s"),
        ({"after": "30", "then": "deny-new"}, AFTER, "such as 30s or 1m30s"),
        ({"after": "", "then": "hold"}, AFTER, "a time"),
        ({"after": 30, "then": "deny-new"}, AFTER, "a time"),
        ({"then": "deny-new"}, AFTER, "is absent"),
        ({"after": "30s"}, THEN, "is absent; it must be hold or deny-new"),
        ({"after": "30s", "then": "deny"}, THEN, "hold or deny-new"),
        ({"tabard.io/staleness": "30s"}, "tabard.io/staleness", "unknown annotation"),
    ],
)
def test_what_is_wrong_is_refused_by_its_path(notes: dict[str, Any], at: str, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policies(noted(KINDS["NetworkPolicy"], **notes))
    assert caught.value.path == f"metadata.annotations['{at}']"
    assert reason in caught.value.reason


def test_what_selects_no_pods_cannot_be_bounded() -> None:
    bound = {"after": "30s", "then": "deny-new"}
    for document, reason in (
        (host_policy("p", {}, ingress=[{}]), "selects nodes"),
        (cidr_group("g", "10.0.0.0/8"), "no policy"),
    ):
        with pytest.raises(PolicyError, match=reason):
            read_policies(noted(document, **bound))


def bounded_world(*bounds: tuple[str, str]) -> World:
    """Pods x/a and x/b; each bound is a policy of both that allows everything."""
    world = World()
    for name in "ab":
        world.pod(f"x/{name}", {"app": name}, ip=f"10.244.1.{ord(name) - 96}")
    for number, (after, then) in enumerate(bounds):
        policy = network_policy(f"p{number}", "x", ingress=[{}])
        world.policy(noted(policy, after=after, then=then))
    return world


def endpoint(world: World, key: str = "x/a") -> Endpoint:
    return world.judge("n1").maps.endpoints[address(world.ip(key))]


def test_of_the_policies_that_select_a_pod_the_shortest_bound_counts() -> None:
    assert endpoint(bounded_world()).stale_after_s == 0
    assert endpoint(bounded_world(("1s", "hold"))).stale_after_s == 0
    world = bounded_world(("1m", "deny-new"), ("30s", "deny-new"), ("1s", "hold"))
    assert endpoint(world).stale_after_s == 30
    only_b = network_policy("only-b", "x", podSelector={"matchLabels": {"app": "b"}})
    world.policy(noted(only_b, after="5s", then="deny-new"))
    assert endpoint(world).stale_after_s == 30
    assert endpoint(world, "x/b").stale_after_s == 5


def test_another_bound_is_another_rule_set() -> None:
    """Entries are shared by rule sets of one id, and an endpoint's bound comes with its own."""
    before = endpoint(bounded_world(("30s", "deny-new")))
    after = endpoint(bounded_world(("31s", "deny-new")))
    assert before.policy != after.policy


def test_a_policy_that_bounds_is_not_trimmed_though_no_verdict_needs_it() -> None:
    held = bounded_world(("30s", "hold"), ("30s", "hold"))
    assert reduce(held.state).removed
    bounding = bounded_world(("30s", "deny-new"), ("30s", "deny-new"))
    for any_workload in (False, True):
        left = reduce(bounding.state, any_workload=any_workload)
        assert len(left.documents) == 2
