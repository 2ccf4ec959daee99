from dataclasses import replace
from typing import Any

import pytest

from deciding import GRACE_MS, Desk, kinds
from tabard.events.ledger import (
    EventQuarantined,
    IdentityAllocated,
    IdentityRetired,
    NodeAdded,
    NodeRemoved,
    PolicyAccepted,
    PolicyForgotten,
    PolicyRefused,
    WorkloadAccepted,
    WorkloadForgotten,
)
from tabard.events.observed import (
    NodeJoined,
    NodeLeft,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.identity.labels import LABELS_MAX
from tabard.identity.numbers import CIDR_SCOPE
from world import network_policy


def cidrs(*prefixes: str) -> dict[str, Any]:
    return network_policy(
        "p", ingress=[{"from": [{"ipBlock": {"cidr": prefix}} for prefix in prefixes]}]
    )


def test_each_new_cidr_of_a_policy_has_a_number_before_the_policy_is_accepted() -> None:
    desk = Desk()
    document = cidrs("10.0.0.0/8", "192.0.2.0/24")
    assert desk.observe(PolicySet(document, "a.yaml:1")) == [
        IdentityAllocated(CIDR_SCOPE, ("cidr:10.0.0.0/8",)),
        IdentityAllocated(CIDR_SCOPE + 1, ("cidr:192.0.2.0/24",)),
        PolicyAccepted("NetworkPolicy", "default", "p", document, "a.yaml:1"),
    ]
    assert desk.observe(PolicySet(document, "a.yaml:9")) == []


def test_a_cidr_that_no_policy_names_any_more_is_retired_and_its_number_used_again() -> None:
    desk = Desk()
    desk.observe(PolicySet(cidrs("10.0.0.0/8", "192.0.2.0/24")))
    desk.observe(PolicySet(cidrs("192.0.2.0/24")))
    assert kinds(desk.tick(after_ms=GRACE_MS)) == ["IdentityRetired", "IdentityReleased"]
    allocated, _ = desk.observe(PolicySet(cidrs("192.0.2.0/24", "203.0.113.0/24")))
    assert allocated == IdentityAllocated(CIDR_SCOPE, ("cidr:203.0.113.0/24",))


def test_a_wrong_policy_is_refused_once_and_the_accepted_version_stays() -> None:
    desk = Desk()
    good = cidrs("10.0.0.0/8")
    desk.observe(PolicySet(good))
    bad = network_policy("p", ingres=[])
    (refused,) = desk.observe(PolicySet(bad, "a.yaml:3"))
    assert isinstance(refused, PolicyRefused)
    assert "spec.ingres" in refused.reason
    assert refused.origin == "a.yaml:3"
    assert desk.observe(PolicySet(bad, "a.yaml:3")) == []
    assert desk.state.policies[("NetworkPolicy", "default", "p")].document == good
    # The good version again ends the refusal.
    assert kinds(desk.observe(PolicySet(good))) == ["PolicyAccepted"]
    assert not desk.state.refused_policies


def test_a_policy_on_labels_that_identities_lack_is_refused() -> None:
    selector = {"matchLabels": {"pod-template-hash": "abc"}}
    (refused,) = Desk().observe(PolicySet(network_policy("p", podSelector=selector)))
    assert isinstance(refused, PolicyRefused)
    assert "pod-template-hash" in refused.reason


def test_a_policy_of_nodes_is_taken() -> None:
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "p"},
        "specs": [
            {"endpointSelector": {}, "ingress": [{}]},
            {"nodeSelector": {}, "ingress": [{}]},
        ],
    }
    assert kinds(Desk().observe(PolicySet(document))) == ["PolicyAccepted"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"apiVersion": "v1", "kind": "HousePolicy"}, "kind 'HousePolicy' is not read"),
        ({}, "kind ''"),
        ({"kind": 7, "metadata": [1]}, "kind ''"),
        ({"kind": "NetworkPolicy", "spec": b"bytes"}, "bytes"),
        ({"kind": "NetworkPolicy", "metadata": {"name": "x" * 300}}, ""),
    ],
)
def test_what_is_no_policy_of_a_known_kind_is_refused(document: dict[str, Any], said: str) -> None:
    desk = Desk()
    (refused,) = desk.observe(PolicySet(document))
    assert isinstance(refused, PolicyRefused)
    assert said in refused.reason
    assert desk.observe(PolicySet(document)) == []


def test_a_document_nested_too_deeply_is_refused() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    (refused,) = Desk().observe(PolicySet(network_policy("p", ingress=deep)))
    assert isinstance(refused, PolicyRefused)
    assert "deeper than" in refused.reason


def test_a_policy_larger_than_an_event_is_refused() -> None:
    document = network_policy("p")
    document["metadata"]["annotations"] = {"big": "x" * (1 << 20)}
    (refused,) = Desk().observe(PolicySet(document))
    assert isinstance(refused, PolicyRefused)
    assert "bytes" in refused.reason


def test_a_removed_policy_is_forgotten_whether_accepted_or_refused() -> None:
    desk = Desk()
    removed = PolicyRemoved("NetworkPolicy", "default", "p")
    assert desk.observe(removed) == []
    desk.observe(PolicySet(network_policy("p")))
    assert desk.observe(removed) == [PolicyForgotten("NetworkPolicy", "default", "p")]
    desk.observe(PolicySet(network_policy("p", oops=1)))
    assert desk.observe(removed) == [PolicyForgotten("NetworkPolicy", "default", "p")]
    assert desk.observe(removed) == []


def cilium(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": "shop"} if kind == "CiliumNetworkPolicy" else {})
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, **fields}


def test_a_cluster_wide_policy_has_no_namespace_in_its_key() -> None:
    desk = Desk()
    kind = "CiliumClusterwideNetworkPolicy"
    written = cilium(kind, "p", spec={"endpointSelector": {}, "ingress": [{}]})
    assert kinds(desk.observe(PolicySet(written))) == ["PolicyAccepted"]
    assert (kind, "", "p") in desk.state.policies
    placed = cilium(kind, "p") | {"metadata": {"name": "p", "namespace": "shop"}}
    (refused,) = desk.observe(PolicySet(placed))
    assert isinstance(refused, PolicyRefused)
    assert (refused.kind, refused.namespace, refused.name) == (kind, "", "p")
    assert refused.reason.startswith("metadata.namespace: is 'shop'; ")
    removed = PolicyRemoved(kind, "", "p")
    assert desk.observe(removed) == [PolicyForgotten(kind, "", "p")]


def test_what_policies_refer_to_is_kept_and_its_cidrs_get_identities() -> None:
    desk = Desk()
    group = cilium("CiliumCIDRGroup", "g", spec={"externalCIDRs": ["192.0.2.0/24"]})
    found = desk.observe(PolicySet(group))
    assert kinds(found) == ["IdentityAllocated", "PolicyAccepted"]
    allocated = found[0]
    assert isinstance(allocated, IdentityAllocated)
    assert allocated.labels == ("cidr:192.0.2.0/24",)
    peers = {"fromCIDRSet": [{"cidrGroupRef": "g", "except": ["192.0.2.7/32"]}]}
    policy = cilium("CiliumNetworkPolicy", "p", spec={"endpointSelector": {}, "ingress": [peers]})
    assert kinds(desk.observe(PolicySet(policy))) == ["IdentityAllocated", "PolicyAccepted"]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    assert kinds(desk.observe(PolicySet(service))) == ["PolicyAccepted"]
    assert ("Service", "default", "s") in desk.state.policies
    desk.observe(PolicyRemoved("CiliumCIDRGroup", "", "g"))
    assert desk.state.identities[allocated.identity].idle_since is not None


def test_a_policy_of_what_is_not_enforced_is_refused_and_the_version_before_stays() -> None:
    desk = Desk()
    spec: dict[str, Any] = {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]}
    desk.observe(PolicySet(good := cilium("CiliumNetworkPolicy", "p", spec=spec)))
    ports = [{"ports": [{"port": "80"}], "rules": {"http": [{"method": "GET"}]}}]
    bad = cilium("CiliumNetworkPolicy", "p", spec={**spec, "egress": [{"toPorts": ports}]})
    (refused,) = desk.observe(PolicySet(bad))
    assert isinstance(refused, PolicyRefused)
    assert refused.reason.startswith("spec.egress[0].toPorts[0].rules.http: Tabard does not enf")
    assert desk.state.policies[("CiliumNetworkPolicy", "shop", "p")].document == good


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def test_workloads_are_passed_on_when_they_change() -> None:
    desk = Desk()
    one = deployment(replicas=1)
    assert desk.observe(WorkloadSet(one, "w.yaml:1")) == [
        WorkloadAccepted("Deployment", "shop", "web", one, "w.yaml:1")
    ]
    assert desk.observe(WorkloadSet(one)) == []
    assert kinds(desk.observe(WorkloadSet(deployment(replicas=2)))) == ["WorkloadAccepted"]
    removed = WorkloadRemoved("Deployment", "shop", "web")
    assert desk.observe(removed) == [WorkloadForgotten("Deployment", "shop", "web")]
    assert desk.observe(removed) == []


@pytest.mark.parametrize(
    "document",
    [{}, deployment(""), deployment("No_Name"), deployment(image="x" * (1 << 20))],
)
def test_a_workload_that_cannot_be_passed_on_is_rejected(document: dict[str, Any]) -> None:
    desk = Desk()
    (rejected,) = desk.observe(WorkloadSet(document))
    assert isinstance(rejected, EventQuarantined)
    assert (rejected.stream, rejected.sequence) == ("OBSERVED", 1)
    assert not desk.state.workloads


def test_nodes_join_change_and_leave() -> None:
    desk = Desk()
    node = NodeJoined("n1", ("192.0.2.1", "2001:db8::1"), ("10.244.1.0/24",))
    assert desk.observe(node) == [NodeAdded(node.name, node.addresses, node.pod_cidrs)]
    assert not desk.state.identities
    assert desk.observe(node) == []
    assert kinds(desk.observe(NodeJoined("n1", ("192.0.2.9",), ()))) == ["NodeAdded"]
    assert desk.observe(NodeLeft("n1")) == [NodeRemoved("n1")]
    assert desk.observe(NodeLeft("n1")) == []


def test_the_addresses_of_a_node_with_labels_have_identities_while_it_is_there() -> None:
    desk = Desk()
    node = NodeJoined("n1", ("192.0.2.1", "2001:db8::1"), (), (("role", "edge"),))
    first, second = CIDR_SCOPE, CIDR_SCOPE + 1
    assert desk.observe(node) == [
        IdentityAllocated(first, ("cidr:192.0.2.1/32",)),
        IdentityAllocated(second, ("cidr:2001:db8::1/128",)),
        NodeAdded("n1", node.addresses, (), node.labels),
    ]
    assert desk.observe(node) == []
    relabelled = replace(node, labels=(("role", "core"),))
    assert kinds(desk.observe(relabelled)) == ["NodeAdded"]
    moved = replace(relabelled, addresses=("192.0.2.1", "192.0.2.7"))
    assert kinds(desk.observe(moved)) == ["IdentityAllocated", "NodeAdded"]
    assert IdentityRetired(second) in desk.tick(after_ms=GRACE_MS)
    assert desk.state.identities[first].users == 1
    desk.observe(NodeLeft("n1"))
    assert IdentityRetired(first) in desk.tick(after_ms=GRACE_MS)
    assert not desk.state.identities
    assert desk.refolded() == desk.state


def test_a_cluster_wide_policy_lies_in_no_namespace() -> None:
    desk = Desk()
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}
    document = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    key = ("ClusterNetworkPolicy", "", "p")
    assert desk.observe(PolicySet(document)) == [PolicyAccepted(*key, document, "")]
    (refused,) = desk.observe(PolicySet(document | {"spec": {**spec, "priority": 1_001}}))
    assert isinstance(refused, PolicyRefused)
    assert (refused.kind, refused.namespace, refused.name) == key
    assert refused.reason.startswith("spec.priority: is 1001")
    assert desk.observe(PolicyRemoved(*key)) == [PolicyForgotten(*key)]
    assert kinds(desk.observe(PolicyRemoved("NetworkPolicy", "", "p"))) == ["EventQuarantined"]


@pytest.mark.parametrize(
    "node",
    [
        NodeJoined("N1", (), ()),
        NodeJoined("n1", ("192.0.2.01",), ()),
        NodeJoined("n1", (), ("10.244.1.1/24",)),
        NodeJoined("n1", (), tuple(f"10.244.{n}.0/24" for n in range(65))),
        NodeJoined("n1", (), (), (("a b", ""),)),
        NodeJoined("n1", (), (), (("a", "b c"),)),
        NodeJoined("n1", (), (), (("b", ""), ("a", ""))),
        NodeJoined("n1", (), (), tuple((f"k{n:04}", "") for n in range(LABELS_MAX + 1))),
        NodeJoined("n1", (), (), tuple((f"k{n:04}" + "x" * 200, "") for n in range(LABELS_MAX))),
        NodeJoined("n1", (), (), tuple((f"{'p' * 200}.{n}/k", "v" * 60) for n in range(4_000))),
    ],
)
def test_a_malformed_node_is_rejected(node: NodeJoined) -> None:
    desk = Desk()
    assert kinds(desk.observe(node)) == ["EventQuarantined"]
    assert not desk.state.nodes
