"""Nodes that policies select: their entries in the maps, and what these let pass."""

from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import Document, of_hosts
from strategies import NAMESPACES, PORTS, PROTOCOLS, labels
from tabard.dataplane.maps import Endpoint, EndpointFlag, Mode, Protocol, Reason, address
from tabard.dataplane.verdict import flow_verdict
from tabard.events.ledger import SettingsAdopted
from tabard.policy.engine import Engine
from world import World, host_policy

HERE, THERE = "192.168.9.1", "192.168.9.2"
SSH = {"fromEntities": ["remote-node"], "toPorts": [{"ports": [{"port": "22"}]}]}
EDGE = {"matchLabels": {"role": "edge"}}


def world() -> World:
    made = World()
    made.node("n1", (HERE,), ("10.244.1.0/24",), role="edge")
    made.node("n2", (THERE,), ("10.244.2.0/24",), role="core")
    made.pod("x/a", {"app": "a"}, ip="10.244.1.1")
    made.pod("x/b", {"app": "b"}, node="n2", ip="10.244.2.2")
    return made


def policy(selector: dict[str, Any], *ingress: dict[str, Any], **spec: Any) -> Document:
    return host_policy("guard", selector, ingress=list(ingress), **spec)


def itself(made: World, node: str = "n1") -> Endpoint | None:
    at = HERE if node == "n1" else THERE
    return made.judge(node).maps.endpoints.get(address(at))


def test_a_node_has_an_entry_while_a_policy_selects_it() -> None:
    made = world()
    assert itself(made) is None
    made.policy(policy(EDGE, SSH))
    found = itself(made)
    assert found is not None
    assert (found.identity, found.ifindex, found.mac) == (1, 0, bytes(6))
    assert found.flags == (
        EndpointFlag.NODE
        | EndpointFlag.INGRESS_ENFORCED
        | EndpointFlag.INGRESS_ISOLATED
        | EndpointFlag.INGRESS_NETWORK
    )
    assert itself(made, "n2") is None
    assert made.judge("n2").maps.policies == {}, "other nodes pay nothing"
    made.node("n1", (HERE,), ("10.244.1.0/24",), role="core")
    assert itself(made) is None
    made.node("n2", (THERE,), ("10.244.2.0/24",), role="edge")
    assert itself(made, "n2") is not None
    made.forget("", "guard", "CiliumClusterwideNetworkPolicy")
    assert itself(made, "n2") is None
    assert made.judge("n2").maps.policies == {}


def test_each_of_its_addresses_has_the_entry_and_one_that_it_lost_has_none() -> None:
    made = world()
    made.policy(policy({}, SSH))
    made.node("n1", ("fd00::1", "192.168.9.7"), ("10.244.1.0/24",), role="edge")
    endpoints = made.judge("n1").maps.endpoints
    assert endpoints[address("fd00::1")] == endpoints[address("192.168.9.7")]
    assert address(HERE) not in endpoints


@pytest.mark.parametrize("enforcement", ["always", "never"])
def test_modes_of_enforcement_isolate_no_node_and_may_let_it_go(enforcement: Any) -> None:
    made = world()
    made.emit(SettingsAdopted("default", 0, 8, (), (), (), 1, enforcement))
    assert itself(made) is None
    made.policy(policy({}, SSH))
    assert (itself(made) is None) is (enforcement == "never")


def test_what_it_lets_pass() -> None:
    made = world()
    made.policy(policy(EDGE, SSH, egressDeny=[{"toEntities": ["world"]}]))
    for mode in Mode:
        for source, target, port, egress, ingress in (
            (THERE, HERE, 22, None, Reason.ALLOWED_POLICY),
            (THERE, HERE, 23, None, Reason.DENIED_POLICY),
            ("x/a", HERE, 22, Reason.ALLOWED_NO_POLICY, Reason.DENIED_POLICY),
            ("203.0.113.9", HERE, 22, None, Reason.DENIED_POLICY),
            (HERE, "203.0.113.9", 443, Reason.DENIED_POLICY, None),
            (HERE, "x/a", 80, Reason.DENIED_POLICY, Reason.ALLOWED_NO_POLICY),
            (HERE, THERE, 80, Reason.DENIED_POLICY, None),
            (THERE, "x/b", 80, None, Reason.ALLOWED_NO_POLICY),
        ):
            said = made.flow(source, target, port, mode=mode)
            assert (said.egress, said.ingress) == (egress, ingress), (mode, source, target, port)


def test_in_overlay_mode_other_nodes_pods_are_unknown_to_it() -> None:
    made = world()
    made.policy(policy(EDGE, {"fromEndpoints": [{}]}))
    said = {mode: made.flow("x/b", HERE, mode=mode).ingress for mode in Mode}
    assert said == {
        Mode.OVERLAY: Reason.DENIED_UNKNOWN_PEER,
        Mode.NATIVE: Reason.ALLOWED_POLICY,
    }
    assert made.flow("x/a", HERE).ingress is Reason.ALLOWED_POLICY


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(NAMESPACES), labels), min_size=2, max_size=4),
    st.lists(of_hosts(), min_size=1, max_size=3),
)
def test_maps_of_nodes_say_what_the_policy_engine_says(
    pods: list[tuple[str, dict[str, str]]], documents: list[Document]
) -> None:
    made = World(nodes=2)
    made.node("n1", (HERE,), ("10.244.1.0/24",), role="edge")
    parties = [HERE, THERE, "203.0.113.9", "10.1.1.9", "10.244.1.99"]
    for number, (namespace, found) in enumerate(pods):
        at = number % 2 + 1
        made.pod(f"{namespace}/p{number}", found, node=f"n{at}", ip=f"10.244.{at}.{number + 1}")
        parties.append(f"10.244.{at}.{number + 1}")
    for document in documents:
        made.policy(document)
    judges, engine = made.judges(Mode.NATIVE), Engine(made.state)
    for source, target in product(parties, parties):
        if source == target:
            continue
        for protocol, port in product(map(Protocol.__getitem__, PROTOCOLS), PORTS):
            said = flow_verdict(judges, address(source), address(target), protocol, port)
            meant = engine.decide(source, target, protocol, port)
            halves = [half and half.reason for half in (meant.egress, meant.ingress)]
            assert [said.egress, said.ingress] == halves, (source, target, protocol, port)
