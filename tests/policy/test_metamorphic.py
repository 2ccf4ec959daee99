"""What must not change a verdict (suites' README, 2.5): needs no opinion of what the verdict is.

Random clusters and policies, judged by compiled maps. A failure prints how to reproduce it.
METAMORPHIC_EXAMPLES in the environment says how many of each kind (default 40).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies import KEYS, NAMESPACES, PORT_NAMES, PORTS, VALUES, labels, named_ports, specs
from tabard.dataplane.maps import Direction, Mode, Protocol, address
from tabard.dataplane.verdict import flow_verdict
from tabard.policy.reading import read_policies
from world import Ports, World, network_policy

PLACES = ("10.244.1.1", "10.244.2.2", "10.1.1.7", "10.1.9.9", "10.2.3.4")
OUTSIDE = ("10.1.1.9", "203.0.113.9", "192.168.9.2")
NEWCOMER = "10.244.1.77"
ASKED = tuple((protocol, port) for protocol in ("TCP", "UDP") for port in PORTS)

EXAMPLES = int(os.environ.get("METAMORPHIC_EXAMPLES", "40"))
pytestmark = pytest.mark.timeout(120 + EXAMPLES)
run = settings(
    max_examples=EXAMPLES, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
modes = st.sampled_from(Mode)


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: Mapping[str, str]
    ports: Ports


@dataclass(frozen=True)
class Policy:
    namespace: str
    name: str
    spec: Mapping[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        return network_policy(self.name, self.namespace, **self.spec)


@dataclass(frozen=True)
class Cluster:
    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[Pod, ...]
    policies: tuple[Policy, ...]


def world_of(cluster: Cluster) -> World:
    world = World(nodes=2)
    for name, own in cluster.namespaces.items():
        world.namespace(name, own)
    for place, pod in zip(PLACES, cluster.pods, strict=False):
        _start(world, place, pod)
    for policy in cluster.policies:
        world.policy(policy.document)
    return world


def _start(world: World, place: str, pod: Pod) -> None:
    node = "n1" if place in PLACES[::2] else "n2"
    key = f"{pod.namespace}/at-{place}"
    world.pod(key, pod.labels, node=node, ip=place, ports=pod.ports)


Verdicts = dict[tuple[str, str, str, int], tuple[bool | None, bool | None]]


def verdicts(world: World, mode: Mode) -> Verdicts:
    """(source, destination, protocol, port) → whether (egress, ingress) allows it, of all flows
    between those that were there first."""
    judges = world.judges(mode)
    found: Verdicts = {}
    for source in (*PLACES, *OUTSIDE):
        for target in (*PLACES, *OUTSIDE):
            for protocol, port in ASKED if source != target else ():
                ends = address(source), address(target)
                verdict = flow_verdict(judges, *ends, Protocol[protocol], port)
                found[source, target, protocol, port] = tuple(  # type: ignore[assignment]
                    None if reason is None else reason.allowed
                    for reason in (verdict.egress, verdict.ingress)
                )
    return found


pods = st.builds(Pod, st.sampled_from(NAMESPACES), labels, named_ports)
policies = st.lists(st.tuples(st.sampled_from(NAMESPACES), specs), min_size=1, max_size=5).map(
    lambda found: tuple(
        Policy(namespace, f"p{number}", spec) for number, (namespace, spec) in enumerate(found)
    )
)
clusters = st.builds(
    Cluster,
    st.fixed_dictionaries(dict.fromkeys(NAMESPACES, labels)),
    st.lists(pods, min_size=3, max_size=len(PLACES)).map(tuple),
    policies,
)


@run
@given(modes, clusters, st.randoms(use_true_random=False))
def test_the_order_of_the_policies(mode: Mode, cluster: Cluster, chance: Any) -> None:
    order = list(cluster.policies)
    chance.shuffle(order)
    other = replace(cluster, policies=tuple(order))
    assert verdicts(world_of(other), mode) == verdicts(world_of(cluster), mode)


@run
@given(modes, clusters)
def test_a_policy_with_many_rules_or_one_policy_for_each(mode: Mode, cluster: Cluster) -> None:
    apart = replace(
        cluster, policies=tuple(one for policy in cluster.policies for one in _apart(policy))
    )
    assert verdicts(world_of(apart), mode) == verdicts(world_of(cluster), mode)


def _isolates(policy: Policy) -> frozenset[Direction]:
    (read,) = read_policies(policy.document)
    return read.isolates


def _apart(policy: Policy) -> Iterator[Policy]:
    isolates = [direction.name.capitalize() for direction in _isolates(policy)]
    alike = {"podSelector": policy.spec["podSelector"], "policyTypes": isolates}
    yield replace(policy, name=f"{policy.name}-none", spec=alike)
    for side in ("ingress", "egress"):
        if side.capitalize() not in isolates:
            continue
        for number, rule in enumerate(policy.spec.get(side, ())):
            yield replace(
                policy, name=f"{policy.name}-{side}-{number}", spec=alike | {side: [rule]}
            )


@run
@given(modes, clusters, st.permutations(KEYS), st.permutations(VALUES))
def test_the_names_of_labels_and_values(
    mode: Mode, cluster: Cluster, keys: list[str], values: list[str]
) -> None:
    key, value = dict(zip(KEYS, keys, strict=True)), dict(zip(VALUES, values, strict=True))

    def own(held: Mapping[str, str]) -> dict[str, str]:
        return {key[k]: value[v] for k, v in held.items()}

    def selector(found: Any) -> Any:
        match found:
            case {"matchLabels": wanted, **rest}:
                return selector(rest) | {"matchLabels": own(wanted)}
            case {"matchExpressions": wanted}:
                return {"matchExpressions": list(map(expression, wanted))}
        return found

    def expression(found: Any) -> Any:
        taken = {"values": [value[v] for v in found["values"]]} if "values" in found else {}
        return found | {"key": key[found["key"]]} | taken

    other = Cluster(
        {name: own(held) for name, held in cluster.namespaces.items()},
        tuple(replace(pod, labels=own(pod.labels)) for pod in cluster.pods),
        tuple(
            replace(policy, spec=_with_selectors(policy.spec, selector))
            for policy in cluster.policies
        ),
    )
    assert verdicts(world_of(other), mode) == verdicts(world_of(cluster), mode)


def _with_selectors(spec: Any, change: Callable[[Any], Any]) -> Any:
    match spec:
        case dict():
            return {
                key: change(held) if key.endswith("Selector") else _with_selectors(held, change)
                for key, held in spec.items()
            }
        case list():
            return [_with_selectors(held, change) for held in spec]
    return spec


@run
@given(modes, clusters, st.permutations(NAMESPACES), st.permutations(PORT_NAMES))
def test_the_names_of_namespaces_and_ports(
    mode: Mode, cluster: Cluster, spaces: list[str], names: list[str]
) -> None:
    space = dict(zip(NAMESPACES, spaces, strict=True))
    port = dict(zip(PORT_NAMES, names, strict=True))

    def ports(found: Any) -> Any:
        match found:
            case {"port": str(name), **rest}:
                return rest | {"port": port[name]}
            case dict():
                return {key: ports(held) for key, held in found.items()}
            case list():
                return [ports(held) for held in found]
        return found

    other = Cluster(
        {space[name]: held for name, held in cluster.namespaces.items()},
        tuple(
            replace(
                pod,
                namespace=space[pod.namespace],
                ports=tuple((port[name], *rest) for name, *rest in pod.ports),
            )
            for pod in cluster.pods
        ),
        tuple(
            replace(policy, namespace=space[policy.namespace], spec=ports(policy.spec))
            for policy in cluster.policies
        ),
    )
    assert verdicts(world_of(other), mode) == verdicts(world_of(cluster), mode)


@run
@given(modes, clusters, pods)
def test_one_more_pod(mode: Mode, cluster: Cluster, newcomer: Pod) -> None:
    world = world_of(cluster)
    before = verdicts(world, mode)
    _start(world, NEWCOMER, newcomer)
    assert verdicts(world, mode) == before
    world.stop(f"{newcomer.namespace}/at-{NEWCOMER}")
    assert verdicts(world, mode) == before


@run
@given(modes, clusters, st.sampled_from(NAMESPACES), specs)
def test_a_policy_that_came_and_went(
    mode: Mode, cluster: Cluster, namespace: str, spec: dict[str, Any]
) -> None:
    world = world_of(cluster)
    before = verdicts(world, mode)
    world.policy(network_policy("passing", namespace, **spec))
    verdicts(world, mode)
    world.forget(namespace, "passing")
    assert verdicts(world, mode) == before == verdicts(world_of(cluster), mode)


@run
@given(modes, clusters)
def test_the_same_policies_once_more(mode: Mode, cluster: Cluster) -> None:
    again = tuple(replace(policy, name=f"{policy.name}-again") for policy in cluster.policies)
    doubled = replace(cluster, policies=(*cluster.policies, *again))
    assert verdicts(world_of(doubled), mode) == verdicts(world_of(cluster), mode)


@run
@given(modes, clusters, st.sampled_from(["ingress", "egress"]), st.integers(0, 4), specs)
def test_one_more_rule_where_there_is_a_policy_only_ever_allows_more(
    mode: Mode, cluster: Cluster, side: str, which: int, other: dict[str, Any]
) -> None:
    policy = cluster.policies[which % len(cluster.policies)]
    isolates = [direction.name.capitalize() for direction in _isolates(policy)]
    more = [*policy.spec.get(side, ()), *other.get(side, ())]
    grown = replace(policy, spec={**policy.spec, "policyTypes": isolates, side: more})
    policies = tuple(grown if one is policy else one for one in cluster.policies)
    before = verdicts(world_of(cluster), mode)
    for flow, after in verdicts(world_of(replace(cluster, policies=policies)), mode).items():
        for was, now in zip(before[flow], after, strict=True):
            assert now or not was, flow
