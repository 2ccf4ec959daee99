"""Trimmed policies mean the same, by the engine, and nothing more can go."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import cilium, tiered
from parties import NODES, STRANGERS, pods, told
from parties import policies as network_policies
from strategies import NAMESPACES, specs
from tabard.ledger.state import State
from tabard.policy.engine import Engine
from tabard.policy.newcomers import with_newcomers
from tabard.policy.parties import PartyError
from tabard.policy.reduction import Reduction, reduce
from world import World, network_policy

several = st.lists(tiered() | cilium(), max_size=2)
repeated = st.lists(st.tuples(st.sampled_from(NAMESPACES), specs), max_size=3).map(
    lambda found: [*found, *found[:1]]
)
"""Policies of which one is there twice, by two names."""
quickly = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def world_of(found: Any, said: Any, others: Any) -> World:
    world = told(found, said, leaves=False)
    for document in others:
        world.policy(document)
    return world


def trimmed(state: State, reduction: Reduction) -> State:
    kept = {
        key: replace(accepted, document=dict(reduction.documents[key]))
        for key, accepted in state.policies.items()
        if key in reduction.documents
    }
    return replace(state, policies=kept)


def matrix(state: State) -> dict[tuple[str, str], Any]:
    """What may pass between all pods, nodes, strangers and newcomers."""
    full, _ = with_newcomers(state)
    engine = Engine(full)
    found = {}
    for one, other in product([*full.endpoints, *NODES, *STRANGERS], repeat=2):
        try:
            found[one, other] = engine.allowed(one, other)
        except PartyError:  # of two families
            found[one, other] = None
    return found


@given(pods, network_policies | repeated, several)
@quickly
def test_trimmed_policies_have_the_same_matrix_and_cannot_be_trimmed_again(
    found: Any, said: Any, others: Any
) -> None:
    state = world_of(found, said, others).state
    reduction = reduce(state)
    after = trimmed(state, reduction)
    assert matrix(after) == matrix(state)
    assert reduce(after).removed == ()


@given(pods, pods, repeated, several)
@quickly
def test_what_goes_for_any_workload_changes_no_verdict_of_workloads_that_were_not_there(
    found: Any, strangers: Any, said: Any, others: Any
) -> None:
    reduction = reduce(world_of(found, said, others).state, any_workload=True)
    elsewhere = world_of(strangers, said, others).state
    assert matrix(trimmed(elsewhere, reduction)) == matrix(elsewhere)


def a_world(*specs: dict[str, Any]) -> State:
    world = World()
    for app in ("web", "db", "cache"):
        world.pod(f"x/{app}", {"app": app}, ports=((app, 80, "TCP"),))
    for number, spec in enumerate(specs):
        world.policy(network_policy(f"p{number}", "x", **spec))
    return world.state


def peer(app: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": app}}}


def gone(state: State, **how: bool) -> list[tuple[str, str]]:
    return [(key[2], path) for key, path in reduce(state, **how).removed]


def test_of_two_policies_that_say_the_same_the_later_goes() -> None:
    spec = {"ingress": [{"from": [peer("web")]}]}
    assert gone(a_world(spec, spec)) == [("p1", "")]
    assert gone(a_world(spec, spec), any_workload=True) == [("p1", "")]


def test_rules_peers_and_ports_go_one_by_one() -> None:
    rule = {
        "from": [peer("web"), peer("db"), {"podSelector": {"matchLabels": {"app": "web"}}}],
        "ports": [{"port": 80}, {"port": 81}, {"port": 70, "endPort": 80}],
    }
    state = a_world({"ingress": [rule, {"from": [peer("db")], "ports": [{"port": 81}]}]})
    assert gone(state) == [
        ("p0", "spec.ingress[0].from[0]"),
        ("p0", "spec.ingress[0].ports[0]"),
        ("p0", "spec.ingress[1]"),
    ]
    (document,) = reduce(state).documents.values()
    (left,) = document["spec"]["ingress"]
    assert left["from"] == rule["from"][1:]
    assert left["ports"] == rule["ports"][1:]


def test_the_last_peer_of_a_rule_never_goes_alone_since_none_would_be_everyone() -> None:
    state = a_world({"ingress": [{"from": [peer("web")]}, {"from": [peer("web"), peer("db")]}]})
    assert gone(state) == [("p0", "spec.ingress[0]")]


def test_what_means_nobody_now_is_kept_unless_it_is_asked_for() -> None:
    state = a_world(
        {"ingress": [{"from": [peer("web"), peer("none")]}]},
        {"podSelector": {"matchLabels": {"app": "none"}}, "ingress": [{}]},
    )
    assert gone(state) == []
    assert gone(state, unmatched=True) == [("p0", "spec.ingress[0].from[1]"), ("p1", "")]


def test_a_default_denial_is_needed_for_pods_that_are_still_to_come() -> None:
    every = [
        {"podSelector": {"matchLabels": {"app": app}}, "ingress": [{"from": [peer("web")]}]}
        for app in ("web", "db", "cache")
    ]
    assert gone(a_world({"ingress": []}, *every)) == []


def test_a_policy_for_each_workload_says_less_than_one_for_the_namespace() -> None:
    wide = {"ingress": [{"from": [peer("web")]}]}
    narrow = {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [peer("web")]}]}
    assert gone(a_world(wide, narrow)) == [("p1", "")]


def test_of_several_specs_the_one_that_another_says_too_goes() -> None:
    world = World()
    for app in ("web", "db"):
        world.pod(f"x/{app}", {"app": app})
    wide = {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]}
    narrow = {
        "endpointSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}],
    }
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
    document |= {"metadata": {"name": "p", "namespace": "x"}, "spec": narrow, "specs": [wide]}
    world.policy(document)
    assert gone(world.state) == [("p", "spec")]
    (left,) = reduce(world.state).documents.values()
    assert "spec" not in left
    assert left["specs"] == [wide]


def test_documents_keep_all_but_what_went() -> None:
    spec = {"ingress": [{"from": [peer("web")]}, {"from": [peer("web")]}]}
    state = a_world(spec)
    (document,) = reduce(state).documents.values()
    (before,) = (accepted.document for accepted in state.policies.values())
    assert document == {**before, "spec": {**before["spec"], "ingress": spec["ingress"][:1]}}


@pytest.mark.parametrize("wide", [{"app": "web"}, {}])
def test_words_alone_imply_what_is_narrower(wide: dict[str, str]) -> None:
    given = {"podSelector": {"matchLabels": wide}}
    state = a_world({"ingress": [{"from": [given]}]}, {"ingress": [{"from": [peer("web")]}]})
    assert ("p1", "") in gone(state, any_workload=True)
