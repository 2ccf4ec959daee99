import pytest

from tabard.cli.kinds import SHOWN, listed, shown, workload
from tabard.cli.tables import VIEWS
from tabard.manifests.workloads import API_VERSIONS


def test_every_view_has_a_kind() -> None:
    assert SHOWN.keys() == VIEWS.keys()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pods", "pods"),
        ("pod", "pods"),
        ("po", "pods"),
        ("Policy", "policies"),
        ("netpol", "policies"),
        ("identity", "identities"),
        ("node", "nodes"),
        ("binding", "bindings"),
        ("workload", "workloads"),
        ("services", None),
        ("", None),
    ],
)
def test_a_kind_has_its_singular_and_short_names(text: str, kind: str | None) -> None:
    assert shown(text) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("deployment", "Deployment"),
        ("deploy", "Deployment"),
        ("StatefulSets", "StatefulSet"),
        ("sts", "StatefulSet"),
        ("rs", "ReplicaSet"),
        ("ds", "DaemonSet"),
        ("service", None),
    ],
)
def test_a_workload_has_its_names_in_kubectl(text: str, kind: str | None) -> None:
    assert workload(text, API_VERSIONS) == kind


def test_kinds_are_listed_with_their_other_names() -> None:
    assert listed({"pods": ("pod", "po"), "nodes": ("node",)}) == "pods (pod, po), nodes (node)"
