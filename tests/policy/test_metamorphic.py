"""What must not change a verdict (suites' README, 2.5): needs no opinion of what the verdict is.

Random clusters and policies, judged by compiled maps. A failure prints how to reproduce it.
METAMORPHIC_EXAMPLES in the environment says how many of each kind (default 40).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import PLACE, Document, cilium, tiered
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
class Cluster:
    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[Pod, ...]
    policies: tuple[Document, ...]
    """Of all languages, no two of one name but for their kind."""


def world_of(cluster: Cluster) -> World:
    world = World(nodes=2)
    for name, own in cluster.namespaces.items():
        world.namespace(name, own)
    for place, pod in zip(PLACES, cluster.pods, strict=False):
        _start(world, place, pod)
    for policy in cluster.policies:
        world.policy(policy)
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
network_policies = st.builds(
    lambda namespace, spec: network_policy("p", namespace, **spec),
    st.sampled_from(NAMESPACES),
    specs,
)
documents = network_policies | cilium() | tiered()


def _named(found: list[Document]) -> tuple[Document, ...]:
    """Each under a name of its own, but for the one kind that has but one."""
    named = [renamed(one, f"p{number}") for number, one in enumerate(found)]
    return tuple({(one["kind"], one["metadata"]["name"]): one for one in named}.values())


def renamed(document: Document, name: str) -> Document:
    if document["kind"] == "BaselineAdminNetworkPolicy":
        return document
    return {**document, "metadata": {**document["metadata"], "name": name}}


clusters = st.builds(
    Cluster,
    st.fixed_dictionaries(dict.fromkeys(NAMESPACES, labels)),
    st.lists(pods, min_size=3, max_size=len(PLACES)).map(tuple),
    st.lists(documents, min_size=1, max_size=5).map(_named),
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


def _apart(document: Document) -> Iterator[Document]:
    """A policy for each rule; in the tiers where order counts their names keep it."""
    match document["kind"]:
        case "NetworkPolicy":
            yield from _network_apart(document)
        case "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy":
            yield from _cilium_apart(document)
        case "BaselineAdminNetworkPolicy":  # there can be but one
            yield document
        case _:
            spec = {k: v for k, v in document["spec"].items() if k not in ("ingress", "egress")}
            for side in ("ingress", "egress"):
                rules = [{side: [rule]} for rule in document["spec"].get(side, ())]
                yield from _each(document, side, [spec | rule for rule in rules])


def _each(document: Document, what: str, specs: list[Document]) -> Iterator[Document]:
    whole = {key: value for key, value in document.items() if key not in ("spec", "specs")}
    for number, spec in enumerate(specs):
        name = f"{document['metadata']['name']}-{what.lower()}-{number}"
        yield renamed({**whole, "spec": spec}, name)


def _network_apart(document: Document) -> Iterator[Document]:
    isolates = _isolates(document)
    alike = {"podSelector": document["spec"]["podSelector"], "policyTypes": isolates}
    yield from _each(document, "none", [alike])
    for side in ("ingress", "egress"):
        if side.capitalize() in isolates:
            rules = document["spec"].get(side, ())
            yield from _each(document, side, [alike | {side: [rule]} for rule in rules])


def _isolates(document: Document) -> list[str]:
    (policy,) = read_policies(document)
    return sorted(direction.name.capitalize() for direction in policy.isolates)


def _cilium_apart(document: Document) -> Iterator[Document]:
    read = zip(_specs(document), read_policies(document), strict=True)
    for at, (spec, policy) in enumerate(read):
        isolates = {way.name.lower(): way in policy.isolates for way in Direction}
        alike = {"endpointSelector": spec["endpointSelector"], "enableDefaultDeny": isolates}
        yield from _each(document, f"{at}-none", [alike])
        for side in ("ingress", "ingressDeny", "egress", "egressDeny"):
            rules = [alike | {side: [rule]} for rule in spec.get(side) or ()]
            yield from _each(document, f"{at}-{side}", rules)


@run
@given(modes, clusters, st.permutations(KEYS), st.permutations(VALUES))
def test_the_names_of_labels_and_values(
    mode: Mode, cluster: Cluster, keys: list[str], values: list[str]
) -> None:
    key, value = dict(zip(KEYS, keys, strict=True)), dict(zip(VALUES, values, strict=True))

    def own(held: Mapping[str, str]) -> dict[str, str]:
        return {key[k]: value[v] for k, v in held.items()}

    def wanted(found: Document) -> Document:
        """matchLabels"""
        return {k: v if k == PLACE else value[v] for k, v in found.items()}

    def renamed_keys(found: Any) -> Any:
        match found:
            case {"matchLabels": dict(chosen), **rest}:
                keys = {_with(key, k): v for k, v in wanted(chosen).items()}
                return renamed_keys(rest) | {"matchLabels": keys}
            case {"key": str(k), "operator": str(), **rest}:
                taken = {"values": [value[v] for v in rest["values"]]} if "values" in rest else {}
                return found | {"key": _with(key, k)} | taken
            case dict():
                return {name: renamed_keys(held) for name, held in found.items()}
            case list():
                return [renamed_keys(held) for held in found]
        return found

    other = Cluster(
        {name: own(held) for name, held in cluster.namespaces.items()},
        tuple(replace(pod, labels=own(pod.labels)) for pod in cluster.pods),
        tuple(renamed_keys(policy) for policy in cluster.policies),
    )
    assert verdicts(world_of(other), mode) == verdicts(world_of(cluster), mode)


def _with(names: Mapping[str, str], key: str) -> str:
    """The new name of a selector's key, which may have a source."""
    source, colon, bare = key.rpartition(":")
    return f"{source}{colon}{names.get(bare, bare)}"


@run
@given(modes, clusters, st.permutations(NAMESPACES), st.permutations(PORT_NAMES))
def test_the_names_of_namespaces_and_ports(
    mode: Mode, cluster: Cluster, spaces: list[str], names: list[str]
) -> None:
    space = dict(zip(NAMESPACES, spaces, strict=True))
    port = dict(zip(PORT_NAMES, names, strict=True))

    def changed(found: Any) -> Any:
        match found:
            case dict():
                return {name: changed_field(name, held) for name, held in found.items()}
            case list():
                return [changed(held) for held in found]
        return found

    def changed_field(name: str, held: Any) -> Any:
        if name in ("port", "destinationNamedPort", "namedPort") and isinstance(held, str):
            return port.get(held, held)
        return space[held] if name in ("namespace", PLACE) else changed(held)

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
        tuple(changed(policy) for policy in cluster.policies),
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
@given(modes, clusters, documents)
def test_a_policy_that_came_and_went(mode: Mode, cluster: Cluster, document: Document) -> None:
    world = world_of(cluster)
    before = verdicts(world, mode)
    passing = renamed(document, "passing")
    name = passing["metadata"]["name"]
    key = (passing["kind"], passing["metadata"].get("namespace", ""), name)
    if key in world.state.policies:
        return
    world.policy(passing)
    verdicts(world, mode)
    world.forget(*key[1:], kind=key[0])
    assert verdicts(world, mode) == before == verdicts(world_of(cluster), mode)


@run
@given(modes, clusters)
def test_the_same_policies_once_more(mode: Mode, cluster: Cluster) -> None:
    again = tuple(renamed(one, f"{one['metadata']['name']}-again") for one in cluster.policies)
    doubled = replace(cluster, policies=(*cluster.policies, *again))
    assert verdicts(world_of(doubled), mode) == verdicts(world_of(cluster), mode)


@run
@given(modes, clusters, network_policies, st.sampled_from(["ingress", "egress"]), specs)
def test_one_more_rule_where_there_is_a_policy_only_ever_allows_more(
    mode: Mode, cluster: Cluster, policy: Document, side: str, other: dict[str, Any]
) -> None:
    spec, isolates = policy["spec"], _isolates(policy)
    more = [*spec.get(side, ()), *other.get(side, ())]
    grown = {**policy, "spec": {**spec, "policyTypes": isolates, side: more}}
    before = verdicts(world_of(replace(cluster, policies=(*cluster.policies, policy))), mode)
    after_all = verdicts(world_of(replace(cluster, policies=(*cluster.policies, grown))), mode)
    for flow, after in after_all.items():
        for was, now in zip(before[flow], after, strict=True):
            assert now or not was, flow


@run
@given(modes, clusters, cilium(), st.sampled_from(["ingressDeny", "egressDeny"]))
def test_one_more_denial_only_ever_allows_less(
    mode: Mode, cluster: Cluster, policy: Document, side: str
) -> None:
    """Where it isolates nobody that was not isolated before."""
    denials = {**policy, "specs": [_only(spec, side) for spec in _specs(policy)]}
    denials.pop("spec", None)
    before = verdicts(world_of(cluster), mode)
    more = replace(cluster, policies=(*cluster.policies, renamed(denials, "denials")))
    for flow, after in verdicts(world_of(more), mode).items():
        for was, now in zip(before[flow], after, strict=True):
            assert was or not now, flow


def _specs(document: Document) -> list[Document]:
    return list(document.get("specs") or [document["spec"]])


def _only(spec: Document, side: str) -> Document:
    """The denials of one direction, which isolate nobody."""
    isolates = {"ingress": False, "egress": False}
    kept = {"endpointSelector": spec["endpointSelector"], "enableDefaultDeny": isolates}
    return kept | {side: spec.get(side) or []}
