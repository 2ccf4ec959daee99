"""What tells a workload's pods apart from its template: the labels that its controller adds."""

from collections.abc import Mapping

from tabard.events.observed import Pairs
from tabard.manifests.workloads import Workload

TEMPLATE_HASH = "pod-template-hash"
REVISION_HASH = "controller-revision-hash"


def revision_key(kind: str) -> str | None:
    """The label that says which template a pod was made from. Kubernetes gives a bare Pod none;
    it has no part in identities (the default label filter leaves it out)."""
    if kind == "Deployment":
        return TEMPLATE_HASH
    return REVISION_HASH if kind in ("StatefulSet", "DaemonSet", "Pod") else None


def labels_of(workload: Workload, name: str) -> Pairs:
    """The labels of the workload's pod `name`: the template's, and those that the kind's controller
    adds."""
    added: Mapping[str, str] = {}
    match workload.kind:
        case "StatefulSet":
            added = {
                "statefulset.kubernetes.io/pod-name": name,
                "apps.kubernetes.io/pod-index": name.rpartition("-")[2],
            }
        case "Job":
            added = {"batch.kubernetes.io/job-name": workload.name, "job-name": workload.name}
    key = revision_key(workload.kind)
    revision = {key: workload.revision} if key else {}
    return tuple(sorted({**dict(workload.template.labels), **added, **revision}.items()))
