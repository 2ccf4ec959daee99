"""Documents → checked objects, and notes on what was left out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any

from tabard.identity.labels import HOSTNAME
from tabard.manifests.errors import ManifestError
from tabard.manifests.fields import Field
from tabard.manifests.source import Document
from tabard.manifests.workloads import API_VERSIONS, DEFAULT_NAMESPACE, Workload, read_workload
from tabard.policy import services
from tabard.policy.kubernetes import KIND as NETWORK_POLICY
from tabard.policy.model import PolicyError
from tabard.policy.reading import CLUSTERWIDE_KINDS, KINDS, REFERENT_KINDS, read_object

OBJECTS_MAX = 100_000
"""Most objects in one reading."""
KNOWN_NODE_LABELS = (HOSTNAME, "kubernetes.io/os", "kubernetes.io/arch")
"""What a nodeSelector may ask for: pods are placed by these alone (the last two always match)."""

FOREIGN_POLICY_GROUPS = (
    "cilium.io",
    "projectcalico.org",
    "crd.antrea.io",
    "policy.networking.k8s.io",
)
"""API groups, with those beneath them, whose policies are meant to restrict pods' traffic."""
LIKENESS_MIN = 0.8
"""From this `difflib` ratio on, an unknown kind is a misspelt one: Deploymet, pods, DaemonSets."""

_KINDS: Mapping[str, tuple[str, ...]] = {
    "Namespace": ("v1",),
    **{kind: (version,) for kind, version in API_VERSIONS.items()},
    **KINDS,
}
"""kind → the apiVersions in which it is read"""
_LEGACY_GROUPS = dict.fromkeys(
    ("Deployment", "DaemonSet", "ReplicaSet", NETWORK_POLICY), ("extensions",)
)
_POLICIES = ", ".join(
    f"{kind} ({', '.join(versions)})"
    for kind, versions in KINDS.items()
    if kind not in REFERENT_KINDS
)


class Role(Enum):
    """What an object is for."""

    NAMESPACE = "namespace"
    POLICY = "policy"
    """Or something for policies to refer to."""
    WORKLOAD = "workload"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked object. `namespace` is "" for a Namespace and what else is cluster-wide; otherwise
    `document` names it always."""

    role: Role
    kind: str
    namespace: str
    name: str
    document: dict[str, Any]
    origin: str
    """`file:line`"""
    source: Document = field(compare=False, repr=False)
    """As it was written: knows the line of each field."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was read and has no effect, and why."""

    kind: str
    name: str
    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.kind} {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that cannot be taken, or all of a file (`source` is None)."""

    error: ManifestError
    source: Document | None = None


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read, in the order in which it was written."""

    objects: tuple[Manifest, ...] = ()
    notes: tuple[Note, ...] = ()


def check(
    documents: Iterable[Document],
    namespace: str = DEFAULT_NAMESPACE,
    refused: list[Refusal] | None = None,
) -> Manifests:
    """The objects that `documents` are; ManifestError, with its line, at the first mistake.

    With `refused` mistakes are put there instead, and what they are in is left out.

    An object that names no namespace is put into `namespace`. Kinds that no policy and no pod
    depends on are skipped with a note; what its author takes for a policy, or misspelt, is a
    mistake, since nothing would be enforced of it.
    """
    objects: dict[tuple[str, str, str], Manifest] = {}
    notes: list[Note] = []
    for document in documents:
        try:
            manifest = _check(document, namespace, notes)
        except (ManifestError, PolicyError) as error:
            fault = ManifestError(error.path, error.reason, document.origin_of(error.path))
            if refused is None:
                raise fault from error
            refused.append(Refusal(fault, document))
            continue
        if manifest is None:
            continue
        before = objects.get(manifest.key)
        if before is not None:
            fault = ManifestError(
                "metadata.name",
                f"is {manifest.name!r}, a {manifest.kind} that {before.origin} declares already; "
                "remove one of them",
                document.origin_of("metadata.name"),
            )
            if refused is None:
                raise fault
            refused.append(Refusal(fault, document))
            continue
        objects[manifest.key] = manifest
        if len(objects) > OBJECTS_MAX:
            raise ManifestError(
                "",
                f"is one object more than the {OBJECTS_MAX} of one reading; apply in parts",
                document.origin,
            )
    return Manifests(tuple(objects.values()), tuple(notes))


def _check(document: Document, namespace: str, notes: list[Note]) -> Manifest | None:
    top = Field(document.value)
    for named in (top["kind"], top["apiVersion"]):
        if named.absent:
            named.fail("every object needs one")
    kind = top["kind"].text()
    version = top["apiVersion"].text()

    def note(reason: str) -> None:
        name = top["metadata"]["name"].value
        notes.append(Note(kind, str(name or "?"), document.origin, reason))

    expected = _KINDS.get(kind, ())
    if _group(version) not in {*map(_group, expected), *_LEGACY_GROUPS.get(kind, ())}:
        _refuse_policy_or_misspelling(kind, version)
        note(f"skipped: {version} {kind} has no part in identities or policies")
        return None
    if version not in expected:
        top["apiVersion"].fail(f"{kind} is read as {' or '.join(expected)}")
    value = document.value
    if kind == services.SLICE and services.is_derived(value):
        note("skipped: the selector of its Service says the same")
        return None
    if kind == "Namespace":
        name = top["metadata"]["name"].namespace()
        top["metadata"]["labels"].labels()
        return Manifest(Role.NAMESPACE, kind, "", name, value, document.origin, document)
    if kind not in CLUSTERWIDE_KINDS and top["metadata"]["namespace"].absent:
        value = {**value, "metadata": {**top["metadata"].mapping(), "namespace": namespace}}
    if kind in KINDS:
        found = read_object(value, document.origin)
        place = (found.namespace, found.name)
        return Manifest(Role.POLICY, kind, *place, value, document.origin, document)
    workload = read_workload(value)
    for reason in _ineffective(workload):
        note(reason)
    place = (workload.namespace, workload.name)
    return Manifest(Role.WORKLOAD, kind, *place, value, document.origin, document)


def _refuse_policy_or_misspelling(kind: str, version: str) -> None:
    """ManifestError if `kind`, which is not read in `version`, must not be passed over."""
    group = _group(version)
    is_foreign = any(f".{group}".endswith(f".{known}") for known in FOREIGN_POLICY_GROUPS)
    if kind.endswith(NETWORK_POLICY) or (is_foreign and "polic" in kind.lower()):
        field = Field(version, "apiVersion") if kind in KINDS else Field(kind, "kind")
        field.fail(
            f"it would not be enforced; Tabard reads {_POLICIES}: convert it, or leave it out"
        )
    by_lower_case = {
        known.lower(): known
        for known, versions in _KINDS.items()
        if not is_foreign or group in map(_group, versions)
    }
    near = get_close_matches(kind.lower(), by_lower_case, n=1, cutoff=LIKENESS_MIN)
    if near and kind not in _KINDS:
        Field(kind, "kind").fail(f"did you mean {by_lower_case[near[0]]}?")


def _ineffective(workload: Workload) -> list[str]:
    found = []
    if workload.kind == "CronJob":
        found.append("has no pods: there is no schedule, it is taken as a suspended job")
    unknown = [key for key, _ in workload.template.node_selector if key not in KNOWN_NODE_LABELS]
    if unknown:
        found.append(
            f"nodeSelector {', '.join(unknown)} is ignored: pods are placed by "
            f"{', '.join(KNOWN_NODE_LABELS)}"
        )
    return found


def _group(version: str) -> str:
    group, slash, _ = version.partition("/")
    return group if slash else ""
