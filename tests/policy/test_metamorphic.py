"""What must not change a verdict (suites' README, 2.5): needs no opinion of what the verdict is.

Random clusters and policies of all languages, judged by the policy engine or by compiled maps. A
failure prints how to reproduce it.
METAMORPHIC_EXAMPLES in the environment says how many of each kind (default 40).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from languages import OF_NAMESPACE, PLACE, Document, cilium, groups, services, tiered
from strategies import KEYS, NAMESPACES, PORT_NAMES, PORTS, VALUES, labels, named_ports, specs
from tabard.dataplane.maps import Direction, Mode, Protocol, address
from tabard.dataplane.verdict import flow_verdict
from tabard.events.ledger import Enforcement, SettingsAdopted
from tabard.policy.engine import Engine
from tabard.policy.reading import REFERENT_KINDS, read_policies
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
By = Mode | None
"""The mode of the maps that judge; None: the engine."""
judges = st.sampled_from([*Mode, None])
NODES = ("n1", "n2")


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
    """Of all languages, no two of one name but for their kind; and what they refer to."""
    nodes: Mapping[str, Mapping[str, str]]
    """Labels by name."""
    enforcement: Enforcement


def world_of(cluster: Cluster) -> World:
    world = World(nodes=0)
    world.emit(SettingsAdopted("default", 0, 8, (), (), (), 1, cluster.enforcement))
    for node, held in cluster.nodes.items():
        number = node.removeprefix("n")
        world.node(node, (f"192.168.9.{number}",), (f"10.244.{number}.0/24",), **held)
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


def verdicts(world: World, by: By) -> Verdicts:
    """(source, destination, protocol, port) → whether (egress, ingress) allows it, of all flows
    between those that were there first."""
    engine = Engine(world.state)
    nodes = {} if by is None else world.judges(by)
    found: Verdicts = {}
    for source in (*PLACES, *OUTSIDE):
        for target in (*PLACES, *OUTSIDE):
            for name, port in ASKED if source != target else ():
                protocol = Protocol[name]
                if by is None:
                    said = engine.decide(source, target, protocol, port)
                    halves = [half and half.reason for half in (said.egress, said.ingress)]
                else:
                    ends = address(source), address(target)
                    verdict = flow_verdict(nodes, *ends, protocol, port)
                    halves = [verdict.egress, verdict.ingress]
                egress, ingress = (None if one is None else one.allowed for one in halves)
                found[source, target, name, port] = egress, ingress
    return found


def allow_no_less(after: Verdicts, before: Verdicts) -> None:
    for flow, halves in after.items():
        for was, now in zip(before[flow], halves, strict=True):
            assert now or not was, flow


pods = st.builds(Pod, st.sampled_from(NAMESPACES), labels, named_ports)
network_policies = st.builds(
    lambda namespace, spec: network_policy("p", namespace, **spec),
    st.sampled_from(NAMESPACES),
    specs,
)
documents = st.one_of(network_policies, cilium(), cilium(), tiered(), tiered())
referred = groups | services(OUTSIDE)


def _named(found: list[Document]) -> tuple[Document, ...]:
    """Each policy under a name of its own, but for the one kind that has but one."""
    named = [
        one if one["kind"] in REFERENT_KINDS else renamed(one, f"p{number}")
        for number, one in enumerate(found)
    ]
    return tuple({_key(one): one for one in named}.values())


def _key(document: Document) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def renamed(document: Document, name: str) -> Document:
    if document["kind"] == "BaselineAdminNetworkPolicy":
        return document
    return {**document, "metadata": {**document["metadata"], "name": name}}


clusters = st.builds(
    Cluster,
    st.fixed_dictionaries(dict.fromkeys(NAMESPACES, labels)),
    st.lists(pods, min_size=3, max_size=len(PLACES)).map(tuple),
    st.builds(
        lambda said, meant: _named([*said, *meant]),
        st.lists(documents, min_size=1, max_size=5),
        st.lists(referred, max_size=3),
    ),
    st.fixed_dictionaries(dict.fromkeys(NODES, labels)),
    st.sampled_from(["default", "default", "default", "always"]),
)


@run
@given(judges, clusters, st.randoms(use_true_random=False))
def test_the_order_of_the_policies(by: By, cluster: Cluster, chance: Any) -> None:
    order = list(cluster.policies)
    chance.shuffle(order)
    other = replace(cluster, policies=tuple(order))
    assert verdicts(world_of(other), by) == verdicts(world_of(cluster), by)


@run
@given(judges, clusters)
def test_a_policy_with_many_rules_or_one_policy_for_each(by: By, cluster: Cluster) -> None:
    apart = replace(
        cluster, policies=tuple(one for policy in cluster.policies for one in _apart(policy))
    )
    assert verdicts(world_of(apart), by) == verdicts(world_of(cluster), by)


def _apart(document: Document) -> Iterator[Document]:
    """A policy for each rule; in the tiers where order counts their names keep it."""
    match document["kind"]:
        case kind if kind in REFERENT_KINDS:
            yield document
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
@given(judges, clusters, st.permutations(KEYS), st.permutations(VALUES))
def test_the_names_of_labels_and_values(
    by: By, cluster: Cluster, keys: list[str], values: list[str]
) -> None:
    key, value = dict(zip(KEYS, keys, strict=True)), dict(zip(VALUES, values, strict=True))

    def own(held: Mapping[str, str]) -> dict[str, str]:
        return {key.get(k, k): value.get(v, v) for k, v in held.items()}

    def wanted(found: Document) -> Document:
        """matchLabels"""
        return {_with(key, k): v if k == PLACE else value.get(v, v) for k, v in found.items()}

    def renamed_keys(found: Any) -> Any:
        match found:
            case {"kind": "Service", "spec": spec, **rest}:
                chosen = {name: own(selector) for name, selector in spec.items()}
                return renamed_keys(rest) | {"kind": "Service", "spec": chosen}
            case {"metadata": {"labels": held} as metadata, **rest}:
                return renamed_keys(rest) | {"metadata": {**metadata, "labels": own(held)}}
            case {"matchLabels": dict(chosen), **rest}:
                return renamed_keys(rest) | {"matchLabels": wanted(chosen)}
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
        {name: own(held) for name, held in cluster.nodes.items()},
        cluster.enforcement,
    )
    assert verdicts(world_of(other), by) == verdicts(world_of(cluster), by)


def _with(names: Mapping[str, str], key: str) -> str:
    """The new name of a selector's key, which may have a source."""
    if key.startswith(OF_NAMESPACE):
        return OF_NAMESPACE + names[key.removeprefix(OF_NAMESPACE)]
    source, colon, bare = key.rpartition(":")
    return f"{source}{colon}{names.get(bare, bare)}"


@run
@given(judges, clusters, st.permutations(NAMESPACES), st.permutations(PORT_NAMES))
def test_the_names_of_namespaces_and_ports(
    by: By, cluster: Cluster, spaces: list[str], names: list[str]
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
        cluster.nodes,
        cluster.enforcement,
    )
    assert verdicts(world_of(other), by) == verdicts(world_of(cluster), by)


@run
@given(judges, clusters, pods)
def test_one_more_pod(by: By, cluster: Cluster, newcomer: Pod) -> None:
    world = world_of(cluster)
    before = verdicts(world, by)
    _start(world, NEWCOMER, newcomer)
    assert verdicts(world, by) == before
    world.stop(f"{newcomer.namespace}/at-{NEWCOMER}")
    assert verdicts(world, by) == before


@run
@given(judges, clusters, documents | referred)
def test_a_policy_that_came_and_went(by: By, cluster: Cluster, document: Document) -> None:
    world = world_of(cluster)
    before = verdicts(world, by)
    passing = renamed(document, "passing")
    key = _key(passing)
    if key in world.state.policies:
        return
    world.policy(passing)
    verdicts(world, by)
    world.forget(*key[1:], kind=key[0])
    assert verdicts(world, by) == before == verdicts(world_of(cluster), by)


@run
@given(judges, clusters)
def test_the_same_policies_once_more(by: By, cluster: Cluster) -> None:
    again = tuple(renamed(one, f"{one['metadata']['name']}-again") for one in cluster.policies)
    doubled = replace(cluster, policies=(*cluster.policies, *again))
    assert verdicts(world_of(doubled), by) == verdicts(world_of(cluster), by)


@run
@given(judges, clusters, network_policies, st.sampled_from(["ingress", "egress"]), specs)
def test_one_more_rule_where_there_is_a_policy_only_ever_allows_more(
    by: By, cluster: Cluster, policy: Document, side: str, other: dict[str, Any]
) -> None:
    spec, isolates = policy["spec"], _isolates(policy)
    more = [*spec.get(side, ()), *other.get(side, ())]
    grown = {**policy, "spec": {**spec, "policyTypes": isolates, side: more}}
    allow_no_less(_with_one_more(cluster, grown, by), _with_one_more(cluster, policy, by))


@run
@given(judges, clusters, cilium())
def test_allowances_that_isolate_nobody_only_ever_allow_more(
    by: By, cluster: Cluster, policy: Document
) -> None:
    more = _only(policy, "ingress", "egress")
    allow_no_less(_with_one_more(cluster, more, by), verdicts(world_of(cluster), by))


@run
@given(judges, clusters, cilium())
def test_denials_that_isolate_nobody_only_ever_allow_less(
    by: By, cluster: Cluster, policy: Document
) -> None:
    more = _only(policy, "ingressDeny", "egressDeny")
    allow_no_less(verdicts(world_of(cluster), by), _with_one_more(cluster, more, by))


@run
@given(judges, clusters, tiered(), st.booleans())
def test_in_a_tier_denials_only_ever_allow_less_and_allowances_more(
    by: By, cluster: Cluster, policy: Document, denies: bool
) -> None:
    """Wherever they stand among the rules there."""
    if _key(policy) in map(_key, cluster.policies):
        return
    allowing = "Accept" if policy["kind"] == "ClusterNetworkPolicy" else "Allow"
    more = _doing(policy, "Deny" if denies else allowing)
    before, after = verdicts(world_of(cluster), by), _with_one_more(cluster, more, by)
    if denies:
        before, after = after, before
    allow_no_less(after, before)


@run
@given(judges, clusters, tiered())
def test_a_last_policy_of_a_tier_that_passes(by: By, cluster: Cluster, policy: Document) -> None:
    if policy["kind"] == "BaselineAdminNetworkPolicy":
        return  # has no such rules
    passing = _doing(policy, "Pass")
    passing["spec"]["priority"] = 1_000
    assert _with_one_more(cluster, passing, by) == verdicts(world_of(cluster), by)


@run
@given(judges, clusters, st.integers(1, 900))
def test_all_priorities_greater_by_the_same(by: By, cluster: Cluster, more: int) -> None:
    def later(document: Document) -> Document:
        spec = document.get("spec", {})
        if "priority" not in spec:
            return document
        return {**document, "spec": {**spec, "priority": spec["priority"] + more}}

    other = replace(cluster, policies=tuple(map(later, cluster.policies)))
    assert verdicts(world_of(other), by) == verdicts(world_of(cluster), by)


@run
@given(clusters)
def test_where_nothing_is_enforced_all_is_allowed(cluster: Cluster) -> None:
    for by in (*Mode, None):
        found = verdicts(world_of(replace(cluster, enforcement="never")), by)
        assert False not in {half for halves in found.values() for half in halves}


def _with_one_more(cluster: Cluster, policy: Document, by: By) -> Verdicts:
    more = (*cluster.policies, renamed(policy, "more"))
    return verdicts(world_of(replace(cluster, policies=more)), by)


def _doing(policy: Document, action: str) -> Document:
    """With this action in all rules, but those of domain names, which can only allow."""
    spec = dict(policy["spec"])
    for side in ("ingress", "egress"):
        if side in spec:
            spec[side] = [
                {**rule, "action": action}
                for rule in spec[side]
                if action in ("Accept", "Allow") or not _names_domains(rule)
            ]
    return {**policy, "spec": spec}


def _names_domains(rule: Document) -> bool:
    return any("domainNames" in peer for peer in rule.get("to", ()))


def _specs(document: Document) -> list[Document]:
    return list(document.get("specs") or [document["spec"]])


def _only(document: Document, *sides: str) -> Document:
    """Some sections alone, which isolate nobody."""
    found = []
    for spec in _specs(document):
        isolates = {"ingress": False, "egress": False}
        kept = {"endpointSelector": spec["endpointSelector"], "enableDefaultDeny": isolates}
        found.append(kept | {side: spec.get(side) or [] for side in sides})
    return {key: held for key, held in document.items() if key != "spec"} | {"specs": found}
