"""What apply and delete publish, and in which order."""

from tabard.events.observed import (
    NamespaceLabelsSet,
    NamespaceRemoved,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.manifests.events import applied, removed
from tabard.manifests.objects import check
from tabard.manifests.source import load

TEXT = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: c}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: data}
spec: {podSelector: {}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: b, area: a}}
"""
OBJECTS = check(load(TEXT, "f.yaml")).objects


def test_namespaces_come_before_policies_and_policies_before_workloads() -> None:
    pod, policy, _ = OBJECTS
    assert applied(OBJECTS) == [
        NamespaceLabelsSet("shop", (("area", "a"), ("team", "b"))),
        NamespaceLabelsSet("data", ()),
        PolicySet(policy.document, "f.yaml:6"),
        WorkloadSet(pod.document, "f.yaml:1"),
    ]


def test_a_known_namespace_that_is_only_used_keeps_its_labels() -> None:
    published = applied(OBJECTS, known=["data", "shop"])
    assert [event for event in published if isinstance(event, NamespaceLabelsSet)] == [
        NamespaceLabelsSet("shop", (("area", "a"), ("team", "b")))
    ]


def test_removal_goes_the_other_way_round() -> None:
    assert removed(OBJECTS) == [
        WorkloadRemoved("Pod", "shop", "web"),
        PolicyRemoved("NetworkPolicy", "data", "deny"),
        NamespaceRemoved("shop"),
    ]


def test_what_policies_refer_to_comes_before_them_and_goes_after() -> None:
    text = (
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}\n"
        "spec: {endpointSelector: {}}\n---\napiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\n"
        "metadata: {name: g}\nspec: {externalCIDRs: []}\n"
    )
    objects = check(load(text, "f.yaml")).objects
    policy, group = objects
    assert applied(objects) == [
        PolicySet(group.document, "f.yaml:6"),
        PolicySet(policy.document, "f.yaml:1"),
    ]
    assert removed(objects) == [
        PolicyRemoved("CiliumClusterwideNetworkPolicy", "", "p"),
        PolicyRemoved("CiliumCIDRGroup", "", "g"),
    ]
