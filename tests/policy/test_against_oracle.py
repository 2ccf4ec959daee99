"""Random clusters: compiled maps, the pure engine and the naive reading give the same verdicts."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
from languages import Document, cilium, groups, services, tiered
from strategies import NAMESPACES, PORTS, PROTOCOLS, named_ports, specs
from strategies import labels as label_maps
from tabard.dataplane.maps import Mode, Protocol, address
from tabard.dataplane.verdict import flow_verdict
from tabard.events.ledger import Enforcement, SettingsAdopted
from tabard.policy.engine import Engine
from tabard.policy.traffic import contains
from world import World, network_policy

IPS = ("10.244.1.1", "10.244.2.2", "10.1.1.7", "10.1.1.8", "10.1.9.9", "10.2.3.4")
OUTSIDE = ("10.1.1.9", "10.3.0.1", "11.1.1.1", "203.0.113.9")
NODES = {"n1": "192.168.9.1", "n2": "192.168.9.2"}

pods = st.lists(
    st.tuples(st.sampled_from(NAMESPACES), label_maps, named_ports), min_size=1, max_size=len(IPS)
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("policy"),
            st.sampled_from(NAMESPACES),
            st.sampled_from(["p", "q", "r"]),
            specs,
        ),
        st.tuples(st.just("forget"), st.sampled_from(NAMESPACES), st.sampled_from(["p", "q"])),
        st.tuples(st.just("relabel"), st.integers(0, len(IPS) - 1), label_maps),
        st.tuples(st.just("namespace"), st.sampled_from(NAMESPACES), label_maps),
    ),
    min_size=1,
    max_size=6,
)
objects = st.lists(
    st.one_of(
        (tiered() | cilium()).map(lambda document: ("object", document)),
        (groups | services(OUTSIDE)).map(lambda document: ("object", document)),
        st.tuples(
            st.just("policy"),
            st.sampled_from(NAMESPACES),
            st.sampled_from(["p", "q"]),
            specs,
        ),
        st.tuples(st.just("namespace"), st.sampled_from(NAMESPACES), label_maps),
        st.tuples(st.just("node"), st.sampled_from(sorted(NODES)), label_maps),
    ),
    min_size=1,
    max_size=6,
)
"""Policies of all languages, and what they refer to."""
enforcements = st.sampled_from(["default", "default", "always", "never"])


class Twin:
    """A world, and the same told to the oracle."""

    def __init__(
        self, found: list[tuple[str, dict[str, str], Any]], enforcement: Enforcement = "default"
    ) -> None:
        self.world = World(nodes=2)
        self.world.emit(SettingsAdopted("default", 0, 8, (), (), (), 1, enforcement))
        self.enforcement = enforcement
        self.namespaces: oracle.Namespaces = {name: {} for name in NAMESPACES}
        self.nodes = {name: oracle.Node(ip, name) for name, ip in NODES.items()}
        self.pods: list[oracle.Pod] = []
        self.policies: dict[tuple[str, str, str], Document] = {}
        for index, (namespace, labels, ports) in enumerate(found):
            node = f"n{index % 2 + 1}"
            self.pods.append(oracle.Pod(namespace, labels, IPS[index], ports, node))
            self.world.pod(
                f"{namespace}/p{index}",
                labels,
                node=node,
                ip=IPS[index],
                ports=ports,
                uid=str(index),
            )

    def step(self, kind: str, *rest: Any) -> None:
        match kind, *rest:
            case "object", document:
                metadata = document["metadata"]
                key = (document["kind"], metadata.get("namespace", ""), metadata["name"])
                self.policies[key] = document
                self.world.policy(document)
            case "policy", namespace, name, spec:
                self.step("object", network_policy(name, namespace, **spec))
            case "forget", namespace, name:
                if self.policies.pop(("NetworkPolicy", namespace, name), None):
                    self.world.forget(namespace, name)
            case "relabel", index, labels if index < len(self.pods):
                self.pods[index] = replace(self.pods[index], labels=labels)
                self.world.relabel(str(index), labels)
            case "namespace", name, labels:
                self.namespaces[name] = labels
                self.world.namespace(name, labels)
            case "node", name, labels:
                self.nodes[name] = replace(self.nodes[name], labels=labels)
                self.world.node(name, (NODES[name],), (f"10.244.{name[1]}.0/24",), **labels)

    def flows(self) -> Iterator[tuple[oracle.Party, oracle.Party, int, str, tuple[bool, bool]]]:
        """(source, target, port, protocol, what the oracle says) of each flow."""
        outside = [oracle.Outside(ip) for ip in OUTSIDE]
        parties = (*self.pods, *outside, *self.nodes.values())
        for source, target in product(parties, parties):
            for protocol, port in product(PROTOCOLS, PORTS):
                if source != target:
                    flow = (source, target, port, protocol)
                    said = (self.policies.values(), self.namespaces)
                    yield *flow, oracle.allows(*said, *flow, enforcement=self.enforcement)

    def check(self, mode: Mode) -> None:
        """Compiled maps say what the oracle says."""
        judges = self.world.judges(mode)
        for source, target, port, protocol, expected in self.flows():
            ends = address(source.ip), address(target.ip)
            verdict = flow_verdict(judges, *ends, Protocol[protocol], port)
            found = tuple(
                reason is None or reason.allowed for reason in (verdict.egress, verdict.ingress)
            )
            assert found == expected, (source, target, port, protocol, verdict)

    def check_engine(self) -> None:
        """The engine says what the oracle says, of one flow and of all traffic."""
        engine = Engine(self.world.state)
        for source, target, port, protocol, expected in self.flows():
            decision = engine.decide(source.ip, target.ip, Protocol[protocol], port)
            found = tuple(
                half is None or half.allowed for half in (decision.egress, decision.ingress)
            )
            assert found == expected, (source, target, port, protocol, decision)
            allowed = engine.allowed(source.ip, target.ip)
            assert contains(allowed, Protocol[protocol], port) is all(expected)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, steps, st.sampled_from(Mode))
def test_compiled_verdicts_and_the_engines_are_the_oracles_after_every_step(
    found: list[tuple[str, dict[str, str], Any]], steps: list[tuple[Any, ...]], mode: Mode
) -> None:
    twin = Twin(found)
    for step in steps:
        twin.step(*step)
    twin.check(mode)
    twin.check_engine()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, objects, enforcements)
def test_the_engine_judges_tiers_and_denials_as_the_oracle_does(
    found: list[tuple[str, dict[str, str], Any]],
    steps: list[tuple[Any, ...]],
    enforcement: Enforcement,
) -> None:
    twin = Twin(found, enforcement)
    for step in steps:
        twin.step(*step)
    twin.check_engine()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(pods, objects, enforcements, st.sampled_from(Mode))
def test_compiled_maps_judge_tiers_and_denials_as_the_oracle_does(
    found: list[tuple[str, dict[str, str], Any]],
    steps: list[tuple[Any, ...]],
    enforcement: Enforcement,
    mode: Mode,
) -> None:
    twin = Twin(found, enforcement)
    for step in steps:
        twin.step(*step)
    twin.check(mode)
