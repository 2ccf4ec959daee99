"""Workload objects: which pods they ask for.

`read_workload` is used at the edge, to refuse a bad manifest, and again by whoever acts on a
workload that the ledger accepted: one meaning for both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from tabard.events.observed import Pairs, Ports
from tabard.identity.syntax import PORT_NAME, SUBDOMAIN_MAX
from tabard.manifests.errors import ManifestError
from tabard.manifests.fields import Field, check_label_key

API_VERSIONS = {
    "Pod": "v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}
"""The workload kinds that are read, and the version that each is read in."""
SCALABLE = ("Deployment", "ReplicaSet", "StatefulSet")
"""Kinds with `spec.replicas`."""
REPLICAS_MAX = 10_000
"""Most pods of one workload."""
PORTS_MAX = 256
"""Most containerPorts of one pod."""

PROTOCOLS = ("TCP", "UDP", "SCTP")
DEFAULT_NAMESPACE = "default"
SAFE_DIGITS = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes generated names of: no vowels, so no words (apimachinery's rand)."""

_CRON_JOB_NAME_MAX = 52
_REVISION_DIGITS = 10


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What a workload's pods have in common."""

    labels: Pairs
    ports: Ports
    """Every containerPort, those without a name under ""."""
    service_account: str = "default"
    host_network: bool = False
    node_name: str = ""
    node_selector: Pairs = ()

    @property
    def named_ports(self) -> Ports:
        """The ports that take part in the pods' identity (`tabard.events.observed.Ports`)."""
        return tuple(port for port in self.ports if port[0])


@dataclass(frozen=True, slots=True)
class Workload:
    """Asks for `replicas` pods of `template` (None: one on every node).

    `revision` stands for the template: another template has another one.
    """

    kind: str
    namespace: str
    name: str
    replicas: int | None
    template: PodTemplate
    revision: str
    first_ordinal: int = 0
    """The lowest ordinal of a StatefulSet's pods (spec.ordinals.start)."""

    @property
    def owner(self) -> str:
        """`Kind/namespace/name`, as its pods name it."""
        return f"{self.kind}/{self.namespace}/{self.name}"


def read_workload(document: Mapping[str, Any]) -> Workload:
    """The workload that `document` states; ManifestError names the first field that is wrong.

    A CronJob asks for no pods: it is read and checked as a suspended job, since Tabard has no
    schedule. A Job asks for as many pods as may run at once; they do not complete.
    """
    top = Field(dict(document))
    kind = top["kind"].text()
    expected = API_VERSIONS.get(kind)
    if expected is None:
        top["kind"].fail(f"it must be one of {', '.join(API_VERSIONS)}")
    if top["apiVersion"].value != expected:
        top["apiVersion"].fail(f"{kind} is read as {expected}")
    name = top["metadata"]["name"].name(_CRON_JOB_NAME_MAX if kind == "CronJob" else SUBDOMAIN_MAX)
    namespace_field = top["metadata"]["namespace"]
    namespace = DEFAULT_NAMESPACE if namespace_field.absent else namespace_field.namespace()
    spec = top["spec"]
    if spec.absent:
        spec.fail("it must say which pods to run")
    if kind == "Pod":
        template = _template(top)
        revised: Any = [document.get("metadata", {}).get("labels"), document["spec"]]
    else:
        of_pods = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]
        template = _template(of_pods)
        revised = of_pods.value
        if kind not in ("Job", "CronJob"):
            _check_selector(spec["selector"], template.labels)
    return Workload(
        kind=kind,
        namespace=namespace,
        name=name,
        replicas=_replicas(kind, spec),
        template=template,
        revision=_revision(revised),
        first_ordinal=spec["ordinals"]["start"].integer(0, REPLICAS_MAX, default=0)
        if kind == "StatefulSet"
        else 0,
    )


def scaled(document: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """`document` with another `spec.replicas`; ManifestError if its kind has none."""
    if document.get("kind") not in SCALABLE:
        Field(document.get("kind"), "kind").fail(f"only {', '.join(SCALABLE)} can be scaled")
    Field(replicas, "spec.replicas").integer(0, REPLICAS_MAX)
    return {**document, "spec": {**document["spec"], "replicas": replicas}}


def _replicas(kind: str, spec: Field) -> int | None:
    match kind:
        case "Pod":
            return 1
        case "DaemonSet":
            return None
        case "CronJob":
            return 0
        case "Job":
            parallelism = spec["parallelism"].integer(0, REPLICAS_MAX, default=1)
            completions = spec["completions"].integer(0, 1 << 31, default=parallelism)
            return 0 if spec["suspend"].flag() else min(parallelism, completions)
    return spec["replicas"].integer(0, REPLICAS_MAX, default=1)


def _template(template: Field) -> PodTemplate:
    """The pod template at `template` (a PodTemplateSpec, or a Pod)."""
    spec = template["spec"]
    if spec.absent:
        spec.fail("a pod template needs a spec with containers")
    account = spec["serviceAccountName"]
    if account.value in (None, ""):
        account = spec["serviceAccount"]  # the deprecated name of the same field
    node_name = spec["nodeName"]
    return PodTemplate(
        labels=template["metadata"]["labels"].labels(),
        ports=_ports(spec),
        service_account="default" if account.value in (None, "") else account.name(),
        host_network=spec["hostNetwork"].flag(),
        node_name="" if node_name.value in (None, "") else node_name.name(),
        node_selector=spec["nodeSelector"].labels(),
    )


def _ports(spec: Field) -> Ports:
    containers = spec["containers"].items()
    if not containers:
        spec["containers"].fail("a pod needs at least one container")
    # An init container that is restarted always is a sidecar: it serves as long as the pod does.
    sidecars = [
        container
        for container in spec["initContainers"].items()
        if container["restartPolicy"].value == "Always"
    ]
    found: dict[tuple[str, int, str], None] = {}
    for container in containers + sidecars:
        named: dict[str, Field] = {}
        for port in container["ports"].items():
            read = _port(port)
            if read[0] in named:
                port["name"].fail("another port of this container has the name; choose another")
            if read[0]:
                named[read[0]] = port
            found[read] = None
    if len(found) > PORTS_MAX:
        raise ManifestError(spec.path, f"has {len(found)} containerPorts; at most {PORTS_MAX}")
    return tuple(found)


def _port(port: Field) -> tuple[str, int, str]:
    name = port["name"]
    protocol = port["protocol"].text(default="TCP")
    if protocol not in PROTOCOLS:
        port["protocol"].fail(f"it must be one of {', '.join(PROTOCOLS)}, in capitals")
    return (
        ""
        if name.value in (None, "")
        else name.matching(
            PORT_NAME,
            "a port name has at most 15 lower-case letters, digits and single '-', with at least "
            "one letter (RFC 6335)",
            15,
        ),
        port["containerPort"].integer(1, 65_535),
        protocol,
    )


def _check_selector(selector: Field, labels: Pairs) -> None:
    wanted = selector["matchLabels"]
    expressions = selector["matchExpressions"].items()
    if not wanted.mapping() and not expressions:
        selector.fail("it must select the pods of the template, by matchLabels for instance")
    have = dict(labels)
    for key, value in wanted.labels():
        if have.get(key) != value:
            Field(value, f"{wanted.path}[{key}]").fail(
                f"the template's label {key} is {have.get(key)!r}; make them equal"
            )
    for expression in expressions:
        if not _holds(expression, have):
            expression.fail("the template's labels do not satisfy it; make them agree")


def _holds(expression: Field, labels: Mapping[str, str]) -> bool:
    key = expression["key"].text()
    check_label_key(expression["key"], key)
    values = {value.label_value() for value in expression["values"].items()}
    operator = expression["operator"].text(default="")
    if operator in ("In", "NotIn"):
        if not values:
            expression["values"].fail(f"{operator} needs at least one value")
        return (labels.get(key) in values) is (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        if values:
            expression["values"].fail(f"{operator} takes no values")
        return (key in labels) is (operator == "Exists")
    return expression["operator"].fail("it must be In, NotIn, Exists or DoesNotExist")


def _revision(template: object) -> str:
    """A template's revision, such as `7f9c8d6b54`: equal templates have equal ones."""
    try:
        text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ManifestError("spec", f"holds what JSON has no value for: {error}") from error
    digest = blake2b(text.encode(), digest_size=_REVISION_DIGITS).digest()
    return "".join(SAFE_DIGITS[byte % len(SAFE_DIGITS)] for byte in digest)
