"""Random clusters: compiled maps, the pure engine and the naive reading give the same verdicts."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
from strategies import NAMESPACES, PORTS, PROTOCOLS, named_ports, specs
from strategies import labels as label_maps
from tabard.dataplane.maps import Mode, Protocol, address
from tabard.dataplane.verdict import flow_verdict
from tabard.policy.engine import Engine
from tabard.policy.traffic import contains
from world import World, network_policy

IPS = ("10.244.1.1", "10.244.2.2", "10.1.1.7", "10.1.1.8", "10.1.9.9", "10.2.3.4")
OUTSIDE = ("10.1.1.9", "10.3.0.1", "11.1.1.1", "203.0.113.9")

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


class Twin:
    """A world, and the same told to the oracle."""

    def __init__(self, found: list[tuple[str, dict[str, str], Any]]) -> None:
        self.world = World(nodes=2)
        self.namespaces: oracle.Namespaces = {name: {} for name in NAMESPACES}
        self.pods: list[oracle.Pod] = []
        self.policies: dict[tuple[str, str], dict[str, Any]] = {}
        for index, (namespace, labels, ports) in enumerate(found):
            self.pods.append(oracle.Pod(namespace, labels, IPS[index], ports))
            node = f"n{index % 2 + 1}"
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
            case "policy", namespace, name, spec:
                document = network_policy(name, namespace, **spec)
                self.policies[namespace, name] = document
                self.world.policy(document)
            case "forget", namespace, name:
                if self.policies.pop((namespace, name), None):
                    self.world.forget(namespace, name)
            case "relabel", index, labels if index < len(self.pods):
                old = self.pods[index]
                self.pods[index] = oracle.Pod(old.namespace, labels, old.ip, old.ports)
                self.world.relabel(str(index), labels)
            case "namespace", name, labels:
                self.namespaces[name] = labels
                self.world.namespace(name, labels)

    def check(self, mode: Mode) -> None:
        judges = self.world.judges(mode)
        engine = Engine(self.world.state)
        outside = [oracle.Outside(ip) for ip in OUTSIDE]
        for source in (*self.pods, *outside):
            for target in (*self.pods, *outside):
                if source == target:
                    continue
                allowed = engine.allowed(source.ip, target.ip)
                for protocol in PROTOCOLS:
                    for port in PORTS:
                        expected = oracle.allows(
                            self.policies.values(),
                            self.namespaces,
                            source,
                            target,
                            port,
                            protocol,
                        )
                        verdict = flow_verdict(
                            judges,
                            address(source.ip),
                            address(target.ip),
                            Protocol[protocol],
                            port,
                        )
                        found = tuple(
                            reason is None or reason.allowed
                            for reason in (verdict.egress, verdict.ingress)
                        )
                        assert found == expected, (source, target, port, protocol, verdict)
                        decision = engine.decide(source.ip, target.ip, Protocol[protocol], port)
                        found = tuple(
                            half is None or half.allowed
                            for half in (decision.egress, decision.ingress)
                        )
                        assert found == expected, (source, target, port, protocol, decision)
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
