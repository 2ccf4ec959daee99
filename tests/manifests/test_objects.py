"""Documents become checked objects in order, with notes on what has no effect."""

import pytest

from tabard.manifests import objects
from tabard.manifests.errors import ManifestError
from tabard.manifests.objects import Manifests, Role, check
from tabard.manifests.source import load

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  containers: [{{name: c}}]
---
"""
POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: web}}
    ports:
    - port: 99999
"""


def checked(text: str, namespace: str = "default") -> Manifests:
    return check(load(text, "f.yaml"), namespace)


def test_objects_keep_their_order_their_place_and_their_text() -> None:
    found = checked(POD.format(name="a") + POLICY.replace("99999", "80"))
    assert [(m.role, m.key, m.origin) for m in found.objects] == [
        (Role.WORKLOAD, ("Pod", "default", "a"), "f.yaml:1"),
        (Role.POLICY, ("NetworkPolicy", "shop", "deny"), "f.yaml:8"),
    ]
    assert found.objects[1].document["spec"]["ingress"][0]["ports"] == [{"port": 80}]
    assert found.notes == ()


def test_an_object_without_a_namespace_is_put_into_the_one_given() -> None:
    (pod,) = checked(POD.format(name="a"), namespace="data").objects
    assert pod.namespace == "data"
    assert pod.document["metadata"] == {"name": "a", "namespace": "data"}


def test_a_namespace_lies_in_none_and_its_labels_are_checked() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {a: b}\n"
    (namespace,) = checked(text).objects
    assert namespace.key == ("Namespace", "", "shop")
    with pytest.raises(ManifestError, match=r"^f.yaml:5: metadata.labels\[a\]: is '-b'"):
        checked(text.replace("a: b", "a: -b"))
    with pytest.raises(ManifestError, match=r"^f.yaml:4: metadata.name: is 'a.b'"):
        checked(text.replace("name: shop", "name: a.b"))


def test_a_policys_mistake_is_named_with_its_line() -> None:
    with pytest.raises(ManifestError) as error:
        checked(POLICY)
    assert error.value.origin == "f.yaml:10"
    assert error.value.path == "spec.ingress[0].ports[0].port"


def test_a_workloads_mistake_is_named_with_its_line() -> None:
    with pytest.raises(ManifestError, match=r"^f.yaml:6: spec.containers\[0\].ports: is 3"):
        checked(POD.format(name="a").replace("{name: c}", "{name: c, ports: 3}"))


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("serving.knative.dev/v1", "Service"),
        ("v1", "ServiceAccount"),
        ("v1", "Node"),
        ("policy/v1", "PodDisruptionBudget"),
        ("policy/v1beta1", "PodSecurityPolicy"),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
        ("cilium.io/v2", "CiliumNode"),
        ("cilium.io/v2alpha1", "CiliumEndpointSlice"),
        ("stable.example.com/v1", "CronTab"),
        ("example.com/v1", "Deployment"),
        ("batch.example/v1", "Job"),
    ],
)
def test_other_kinds_are_skipped_with_a_note(version: str, kind: str) -> None:
    found = checked(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    assert found.objects == ()
    (note,) = found.notes
    assert (note.kind, note.name, note.origin) == (kind, "x", "f.yaml:1")
    assert str(note).startswith(f"f.yaml:1: {kind} x: skipped: {version} {kind} has no part")


@pytest.mark.parametrize(
    ("version", "kind", "mistake"),
    [
        ("cilium.io/v2", "CiliumNetworkPolicey", "kind: is 'CiliumNetworkPolicey'"),
        ("cilium.io/v2", "CiliumEgressGatewayPolicy", "kind: is 'CiliumEgressGatewayPolicy'"),
        ("crd.projectcalico.org/v1", "GlobalNetworkPolicy", "kind: is 'GlobalNetworkPolicy'"),
        ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy", "apiVersion: is 'crd.antrea.io/v1beta1'"),
        ("policy.networking.k8s.io/v1", "NodePolicy", "kind: is 'NodePolicy'"),
        ("example.com/v1", "HouseNetworkPolicy", "kind: is 'HouseNetworkPolicy'"),
        ("projectcalico.org/v3", "NetworkPolicy", "apiVersion: is 'projectcalico.org/v3'"),
        ("networking.k8s.oi/v1", "NetworkPolicy", "apiVersion: is 'networking.k8s.oi/v1'"),
    ],
)
def test_a_policy_that_would_not_be_enforced_is_refused(
    version: str, kind: str, mistake: str
) -> None:
    with pytest.raises(ManifestError) as error:
        checked(f"metadata: {{name: x}}\nkind: {kind}\napiVersion: {version}\nspec: {{}}\n")
    line = 2 if mistake.startswith("kind") else 3
    said = str(error.value)
    assert said.startswith(f"f.yaml:{line}: {mistake}; it would not be enforced; Tabard reads ")
    assert "NetworkPolicy (networking.k8s.io/v1)" in said
    assert said.endswith(": convert it, or leave it out")


def test_a_cluster_wide_policy_is_put_into_no_namespace() -> None:
    text = (
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n"
        "metadata: {name: x}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}}\n"
    )
    (found,) = checked(text).objects
    assert found.key == ("ClusterNetworkPolicy", "", "x")
    assert found.document["metadata"] == {"name": "x"}


@pytest.mark.parametrize("version", ["v2", "v2alpha1"])
def test_a_group_of_cidrs_is_read_in_both_versions_and_lies_in_no_namespace(version: str) -> None:
    text = (
        f"apiVersion: cilium.io/{version}\nkind: CiliumCIDRGroup\nmetadata:\n  name: x\n"
        "spec: {externalCIDRs: [10.0.0.0/8]}\n"
    )
    (group,) = checked(text, namespace="shop").objects
    assert (group.role, group.key) == (Role.POLICY, ("CiliumCIDRGroup", "", "x"))
    with pytest.raises(ManifestError, match=r"f.yaml:5: metadata.namespace: is 'shop'; this kind"):
        checked(text.replace("  name: x\n", "  name: x\n  namespace: shop\n"))


def test_a_service_is_kept_whether_or_not_a_policy_names_it() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 80}]}\n"
    found = checked(text)
    assert [(one.role, one.key) for one in found.objects] == [
        (Role.POLICY, ("Service", "default", "x"))
    ]
    assert found.notes == ()


def test_a_slice_that_repeats_its_services_selector_is_skipped_with_a_note() -> None:
    text = (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata:\n"
        "  name: x\n  labels: {endpointslice.kubernetes.io/managed-by: CONTROLLER}\n"
    )
    assert len(checked(text).objects) == 1
    found = checked(text.replace("CONTROLLER", "endpointslice-controller.k8s.io"))
    assert found.objects == ()
    assert [note.reason for note in found.notes] == [
        "skipped: the selector of its Service says the same"
    ]


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("NetworkPolicey", "NetworkPolicy"),
        ("networkpolicy", "NetworkPolicy"),
        ("Deploymet", "Deployment"),
        ("Pods", "Pod"),
        ("Services", "Service"),
        ("namespace", "Namespace"),
    ],
)
def test_a_misspelt_kind_is_refused_with_the_one_meant(kind: str, meant: str) -> None:
    with pytest.raises(ManifestError) as error:
        checked(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\n")
    assert str(error.value) == f"f.yaml:2: kind: is '{kind}'; did you mean {meant}?"


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("apps/v1beta2", "Deployment"),
        ("extensions/v1beta1", "NetworkPolicy"),
        ("batch/v1beta1", "CronJob"),
        ("v2", "Pod"),
        ("cilium.io/v1", "CiliumNetworkPolicy"),
        ("policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy"),
    ],
)
def test_an_old_version_of_a_known_kind_is_refused(version: str, kind: str) -> None:
    with pytest.raises(ManifestError, match=f"apiVersion: is '{version}'; {kind} is read as"):
        checked(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")


def test_what_is_read_and_has_no_effect_is_noted() -> None:
    text = (
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly}\nspec:\n  jobTemplate:\n"
        "    spec:\n      template:\n        spec:\n          containers: [{name: c}]\n"
        "          nodeSelector: {disk: ssd, kubernetes.io/os: linux}\n"
    )
    found = checked(text)
    assert len(found.objects) == 1
    assert [note.reason for note in found.notes] == [
        "has no pods: there is no schedule, it is taken as a suspended job",
        "nodeSelector disk is ignored: pods are placed by kubernetes.io/hostname, "
        "kubernetes.io/os, kubernetes.io/arch",
    ]


def test_an_object_that_is_there_twice_is_refused_with_both_places() -> None:
    text = POD.format(name="a") + POD.format(name="b") + POD.format(name="a")
    with pytest.raises(ManifestError, match=r"^f.yaml:18: .*that f.yaml:1 declares already"):
        checked(text)


@pytest.mark.parametrize(
    ("text", "field"), [("apiVersion: v1\n", "kind"), ("kind: Pod\n", "apiVersion")]
)
def test_what_every_object_needs_is_asked_for(text: str, field: str) -> None:
    with pytest.raises(ManifestError) as error:
        checked(text)
    assert str(error.value) == f"f.yaml:1: {field}: is absent; every object needs one"


@pytest.mark.parametrize("text", ["a: b\n", "kind: Pod\n", "apiVersion: 1\nkind: Pod\n"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"^f.yaml:1: (kind|apiVersion): "):
        checked(text)


def test_objects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "OBJECTS_MAX", 2)
    two = POD.format(name="a") + POD.format(name="b")
    assert len(checked(two).objects) == 2
    with pytest.raises(ManifestError, match=r"f.yaml:15: is one object more"):
        checked(two + POD.format(name="c"))
