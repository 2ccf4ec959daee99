"""Manifests of other projects' tests: objects that no API server ever saw.

Policies go to the engine as they are written. Of workloads only what makes an endpoint is read,
and leniently: a containerPort without a number, for instance, is passed over, and so is
hostNetwork, which np-guard does not read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from conformance.cluster import Cluster
from conformance.story import Action, CaseError, PodSpec
from tabard.manifests.errors import ManifestError
from tabard.manifests.reading import SUFFIXES
from tabard.manifests.source import load

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Kinds that make pods, and where their template is."""


POLICIES = ("NetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy")


@dataclass(slots=True)
class Topology:
    """What the manifests of one case declare."""

    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    workloads: dict[str, list[PodSpec]] = field(default_factory=dict)
    """`ns/name[Kind]` → its pods, one for each different set of labels and ports."""
    policies: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    """(document, `file:line`)"""
    services: list[dict[str, Any]] = field(default_factory=list)
    ingresses: list[dict[str, Any]] = field(default_factory=list)
    """Ingresses and Routes."""


def read(directories: Sequence[Path]) -> Topology:
    """All manifests under the directories. CaseError for one that is no YAML."""
    topology = Topology()
    files = [
        file
        for directory in directories
        for file in sorted(directory.rglob("*"))
        if file.suffix in SUFFIXES and file.is_file()
    ]
    for file in files:
        for value, origin in objects(file):
            _take(topology, value, origin)
    return topology


def objects(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """(object, `file:line`) of all that a file declares, lists being taken apart."""
    try:
        documents = load(file.read_text(encoding="utf-8-sig"), file.name)
    except (OSError, ValueError, ManifestError) as error:
        raise CaseError(f"{file} cannot be read: {error}") from error
    for document in documents:
        for value in _unlisted(document.value):
            yield value, document.origin


def begin(topology: Topology) -> tuple[Action, ...]:
    """The actions that bring the manifests about; nothing of them has run before."""

    def label(name: str, labels: dict[str, str], cluster: Cluster) -> None:
        cluster.label_namespace(name, labels)

    def start(pod: PodSpec, cluster: Cluster) -> None:
        cluster.start(pod)

    def apply(document: dict[str, Any], origin: str, cluster: Cluster) -> None:
        cluster.apply(document, origin)

    namespaces = dict.fromkeys(
        pod.key.partition("/")[0] for pods in topology.workloads.values() for pod in pods
    )
    labels = {
        name: topology.namespaces.get(name, {}) for name in (*namespaces, *topology.namespaces)
    }
    return (
        *(partial(label, name, value) for name, value in labels.items()),
        *(partial(apply, document, origin) for document, origin in topology.policies),
        *(partial(start, pod) for pods in topology.workloads.values() for pod in pods),
    )


def _unlisted(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The items of a `PodList` and the like, which need not say their own kind."""
    kind = str(value.get("kind") or "")
    if not kind.endswith("List") or not isinstance(value.get("items"), list):
        yield value
        return
    for item in value["items"]:
        said = {"kind": kind.removesuffix("List"), "apiVersion": value.get("apiVersion")}
        yield from _unlisted(said | {name: field for name, field in item.items() if field})


def _take(topology: Topology, value: dict[str, Any], origin: str) -> None:
    kind = str(value.get("kind") or "")
    metadata: dict[str, Any] = value.get("metadata") or {}
    if kind == "Namespace":
        topology.namespaces[metadata["name"]] = metadata.get("labels") or {}
    elif kind in POLICIES:
        topology.policies.append((value, origin))
    elif kind == "Service":
        topology.services.append(value)
    elif kind in ("Ingress", "Route"):
        topology.ingresses.append(value)
    elif kind in TEMPLATES:
        name, spec = workload(kind, value, metadata)
        pods = topology.workloads.setdefault(name, [])
        if not any((pod.labels, pod.ports) == (spec.labels, spec.ports) for pod in pods):
            number = sum(map(len, topology.workloads.values()))
            pods.append(replace(spec, key=f"{spec.key}-{number}"))


def valid(document: Mapping[str, Any]) -> dict[str, Any]:
    """The policy as an API server would take it, where its authors' tool asks for less: a name of
    other letters, and an ipBlock of one address without a length."""
    metadata = document.get("metadata") or {}
    found = deepcopy(dict(document))
    found["metadata"] = {**metadata, "name": valid_name(metadata.get("name"))}
    spec = found.get("spec") or {}
    for section, side in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(section) or ():
            for peer in (rule or {}).get(side) or ():
                block = peer.get("ipBlock") if isinstance(peer, dict) else None
                if block and "/" not in str(block.get("cidr")):
                    block["cidr"] = f"{block['cidr']}/32"
    return found


def valid_name(name: object) -> str:
    """`name` as an API server would take it: np-guard asks for no such thing."""
    return re.sub(r"[^a-z0-9.-]", "-", str(name or "unnamed").lower()).strip(".-")


def workload(kind: str, value: dict[str, Any], metadata: dict[str, Any]) -> tuple[str, PodSpec]:
    """`ns/name[Kind]` of the workload that the object makes or belongs to, and its pod."""
    namespace = metadata.get("namespace") or "default"
    template: dict[str, Any] = value
    for name in TEMPLATES[kind]:
        template = template.get(name) or {}
    own = str(metadata.get("name") or metadata.get("generateName") or "")
    name, shown = own, kind
    if kind == "Pod":
        owners = metadata.get("ownerReferences") or ()
        owner = next((owner for owner in owners if owner.get("kind") != "Node"), None)
        if owner is not None:
            name, shown = owner["name"], owner.get("kind") or "Pod"
    spec = template.get("spec") or {}
    ports = [
        (port["name"], port["containerPort"], port.get("protocol") or "TCP")
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name") and port.get("containerPort")
    ]
    pod = PodSpec(
        key=f"{namespace}/{valid_name(own)}.{kind.lower()}",
        labels=(template.get("metadata") or {}).get("labels") or {},
        ports=tuple(dict.fromkeys(ports)),
        service_account=spec.get("serviceAccountName") or spec.get("serviceAccount") or "default",
    )
    return f"{namespace}/{name}[{shown}]", pod
