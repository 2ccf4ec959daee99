"""What workload objects ask for, and how their mistakes are named."""

from typing import Any

import pytest

import workloads as building
from tabard.manifests import workloads
from tabard.manifests.errors import ManifestError
from tabard.manifests.workloads import PodTemplate, read_workload, scaled


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`document` with another value at a path such as `spec.template.spec.containers.0.name`."""
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = document
    for step in steps:
        place = place[step] if isinstance(place, list) else place.setdefault(step, {})
    if isinstance(place, list):
        place[last] = value  # type: ignore[call-overload]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [
        ("Pod", 1),
        ("Deployment", 3),
        ("ReplicaSet", 3),
        ("StatefulSet", 3),
        ("DaemonSet", None),
        ("Job", 3),
    ],
)
def test_each_kind_asks_for_its_pods(kind: str, replicas: int | None) -> None:
    ports = [
        {"name": "http", "containerPort": 80},
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 53, "protocol": "UDP"},
    ]
    read = read_workload(building.document(kind, replicas=3, ports=ports))
    assert (read.owner, read.replicas) == (f"{kind}/shop/web", replicas)
    assert read.template == PodTemplate(
        labels=(("app", "web"),), ports=(("http", 80, "TCP"), ("", 53, "UDP"))
    )
    assert read.template.named_ports == (("http", 80, "TCP"),)


def test_what_is_absent_has_the_defaults_of_the_api() -> None:
    document = building.document("Deployment", replicas=None)
    del document["metadata"]["namespace"]
    read = read_workload(document)
    assert (read.namespace, read.replicas, read.template.service_account) == (
        "default",
        1,
        "default",
    )


def test_a_pods_place_account_and_network_are_read() -> None:
    template = read_workload(
        building.document(
            serviceAccountName="seller",
            hostNetwork=True,
            nodeName="n1",
            nodeSelector={"kubernetes.io/hostname": "n1"},
        )
    ).template
    assert template.service_account == "seller"
    assert template.host_network
    assert template.node_name == "n1"
    assert template.node_selector == (("kubernetes.io/hostname", "n1"),)


def test_the_old_name_of_the_service_account_counts_if_the_new_one_is_absent() -> None:
    assert read_workload(building.document(serviceAccount="old")).template.service_account == "old"


def test_a_sidecar_serves_and_an_init_container_does_not() -> None:
    init = [
        {"name": "once", "ports": [{"containerPort": 1}]},
        {"name": "sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 2}]},
    ]
    assert read_workload(building.document(initContainers=init)).template.ports == (("", 2, "TCP"),)


@pytest.mark.parametrize(
    ("fields", "replicas"),
    [
        ({}, 1),
        ({"parallelism": 3}, 3),
        ({"parallelism": 3, "completions": 2}, 2),
        ({"completions": 5}, 1),
        ({"parallelism": 3, "suspend": True}, 0),
    ],
)
def test_a_job_has_as_many_pods_as_may_run_at_once(fields: dict[str, Any], replicas: int) -> None:
    document = building.document("Job")
    del document["spec"]["parallelism"]
    document["spec"] |= fields
    assert read_workload(document).replicas == replicas


def test_a_cron_job_is_read_and_has_no_pods() -> None:
    job = building.document("Job")
    document = building.document("CronJob") | {"spec": {"jobTemplate": {"spec": job["spec"]}}}
    read = read_workload(document)
    assert (read.kind, read.replicas) == ("CronJob", 0)
    assert dict(read.template.labels) == {"app": "web"}


def test_a_stateful_set_may_begin_at_another_ordinal() -> None:
    document = building.document("StatefulSet")
    document["spec"]["ordinals"] = {"start": 5}
    assert read_workload(document).first_ordinal == 5


def test_a_revision_stands_for_the_template_alone() -> None:
    one = read_workload(building.document(replicas=1))
    # Written down: another value would replace every pod at an upgrade of Tabard.
    assert one.revision == "l8ctrwbt6k"
    assert read_workload(building.document(replicas=2)).revision == one.revision
    assert read_workload(building.document(priority=1)).revision != one.revision
    bare = read_workload(building.document("Pod"))
    labelled = changed(building.document("Pod"), "metadata/labels/app", "other")
    assert read_workload(labelled).revision != bare.revision


PORT = "spec/template/spec/containers/0/ports"


@pytest.mark.parametrize(
    ("path", "value", "at", "reason"),
    [
        ("kind", "Widget", "kind", "must be one of"),
        ("kind", 3, "kind", "must be text"),
        ("apiVersion", "apps/v1beta1", "apiVersion", "Deployment is read as apps/v1"),
        ("metadata/name", None, "metadata.name", "needs a name"),
        ("metadata/name", "Web", "metadata.name", "RFC 1123"),
        ("metadata/name", "w" * 254, "metadata.name", "at most 253"),
        ("metadata/name", "web\n", "metadata.name", "RFC 1123"),
        ("metadata/namespace", "a.b", "metadata.namespace", "RFC 1123 label"),
        ("metadata", [], "metadata", "must be a mapping"),
        ("spec", None, "spec", "which pods"),
        ("spec/replicas", "3", "spec.replicas", "without quotes"),
        ("spec/replicas", True, "spec.replicas", "whole number"),
        ("spec/replicas", -1, "spec.replicas", "must be 0 to 10000"),
        ("spec/replicas", 10_001, "spec.replicas", "must be 0 to 10000"),
        ("spec/selector", None, "spec.selector", "must select the pods"),
        (
            "spec/selector/matchLabels",
            {"app": "api"},
            "spec.selector.matchLabels[app]",
            "the template's label app is 'web'",
        ),
        (
            "spec/selector/matchExpressions",
            [{"key": "app", "operator": "NotIn", "values": ["web"]}],
            "spec.selector.matchExpressions[0]",
            "do not satisfy",
        ),
        (
            "spec/selector/matchExpressions",
            [{"key": "app", "operator": "In"}],
            "spec.selector.matchExpressions[0].values",
            "needs at least one value",
        ),
        (
            "spec/selector/matchExpressions",
            [{"key": "app", "operator": "Exists", "values": ["x"]}],
            "spec.selector.matchExpressions[0].values",
            "takes no values",
        ),
        (
            "spec/selector/matchExpressions",
            [{"key": "app", "operator": "Gt", "values": ["1"]}],
            "spec.selector.matchExpressions[0].operator",
            "must be In, NotIn, Exists or DoesNotExist",
        ),
        (
            "spec/template/metadata/labels",
            {"a b": "x"},
            "spec.template.metadata.labels",
            "label key 'a b'",
        ),
        (
            "spec/template/metadata/labels",
            {"/x": "x"},
            "spec.template.metadata.labels",
            "label key '/x'",
        ),
        (
            "spec/template/metadata/labels",
            {"app": "-x"},
            "spec.template.metadata.labels[app]",
            "a label value",
        ),
        (
            "spec/template/metadata/labels",
            {"app": 1},
            "spec.template.metadata.labels[app]",
            "put it in quotes",
        ),
        ("spec/template/spec", None, "spec.template.spec", "needs a spec"),
        (
            "spec/template/spec/containers",
            [],
            "spec.template.spec.containers",
            "at least one container",
        ),
        (
            "spec/template/spec/containers",
            {"name": "c"},
            "spec.template.spec.containers",
            "must be a list",
        ),
        (
            "spec/template/spec/hostNetwork",
            "true",
            "spec.template.spec.hostNetwork",
            "without quotes",
        ),
        ("spec/template/spec/nodeName", "N 1", "spec.template.spec.nodeName", "RFC 1123"),
        (
            PORT,
            [{"containerPort": 0}],
            "spec.template.spec.containers[0].ports[0].containerPort",
            "must be 1 to 65535",
        ),
        (
            PORT,
            [{"name": "http"}],
            "spec.template.spec.containers[0].ports[0].containerPort",
            "whole number",
        ),
        (
            PORT,
            [{"containerPort": 1, "protocol": "tcp"}],
            "spec.template.spec.containers[0].ports[0].protocol",
            "in capitals",
        ),
        (
            PORT,
            [{"containerPort": 1, "name": "has--two"}],
            "spec.template.spec.containers[0].ports[0].name",
            "RFC 6335",
        ),
        (
            PORT,
            [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}],
            "spec.template.spec.containers[0].ports[1].name",
            "another port",
        ),
    ],
)
def test_a_mistake_is_named_with_its_field(path: str, value: Any, at: str, reason: str) -> None:
    document = changed(building.document(replicas=1), path, value)
    with pytest.raises(ManifestError) as error:
        read_workload(document)
    assert error.value.path == at
    assert reason in error.value.reason


def test_expressions_that_hold_are_taken() -> None:
    document = building.document()
    document["spec"]["selector"] = {
        "matchExpressions": [
            {"key": "app", "operator": "In", "values": ["web", "api"]},
            {"key": "tier", "operator": "NotIn", "values": ["db"]},
            {"key": "app", "operator": "Exists"},
            {"key": "tier", "operator": "DoesNotExist"},
        ]
    }
    assert read_workload(document)


def test_ports_are_bounded() -> None:
    def with_ports(count: int) -> dict[str, Any]:
        return building.document(ports=[{"containerPort": n + 1} for n in range(count)])

    assert read_workload(with_ports(workloads.PORTS_MAX))
    with pytest.raises(ManifestError, match="257 containerPorts"):
        read_workload(with_ports(workloads.PORTS_MAX + 1))


def test_bytes_from_a_foreign_writer_are_refused() -> None:
    with pytest.raises(ManifestError, match="JSON has no value for"):
        read_workload(building.document(volumes=b"x"))


def test_scaling_changes_replicas_and_nothing_else() -> None:
    document = building.document("StatefulSet", replicas=1)
    assert scaled(document, 7) == building.document("StatefulSet", replicas=7)
    assert document == building.document("StatefulSet", replicas=1)


@pytest.mark.parametrize(("kind", "replicas"), [("DaemonSet", 1), ("Deployment", 10_001)])
def test_what_cannot_be_scaled_so_is_refused(kind: str, replicas: int) -> None:
    with pytest.raises(ManifestError):
        scaled(building.document(kind), replicas)
