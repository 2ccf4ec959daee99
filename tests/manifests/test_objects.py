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
    [("v1", "Service"), ("example.com/v1", "Deployment"), ("batch.example/v1", "Job")],
)
def test_other_kinds_are_skipped_with_a_note(version: str, kind: str) -> None:
    found = checked(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n")
    assert found.objects == ()
    (note,) = found.notes
    assert (note.kind, note.name, note.origin) == (kind, "x", "f.yaml:1")
    assert str(note).startswith(f"f.yaml:1: {kind} x: skipped: {version} {kind} has no part")


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("apps/v1beta2", "Deployment"),
        ("extensions/v1beta1", "NetworkPolicy"),
        ("batch/v1beta1", "CronJob"),
        ("v2", "Pod"),
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
        "nodeSelector disk is ignored: nodes have no such labels",
    ]


def test_an_object_that_is_there_twice_is_refused_with_both_places() -> None:
    text = POD.format(name="a") + POD.format(name="b") + POD.format(name="a")
    with pytest.raises(ManifestError, match=r"^f.yaml:18: .*that f.yaml:1 declares already"):
        checked(text)


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
