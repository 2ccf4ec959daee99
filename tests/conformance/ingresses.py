"""What an ingress controller may reach: Ingress or Route → Service → pods (suites' README, 5).

np-guard puts the controller into a namespace of no policy. Its lines are about the target ports of
the Services that Ingresses and Routes name, as far as policies let the controller reach them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from conformance import manifests, portsets
from conformance.cluster import Cluster
from conformance.portsets import Connections
from conformance.story import Action, Check, Flow, PodSpec
from tabard.dataplane.maps import Protocol

CONTROLLER = "{ingress-controller}"

_POD = PodSpec("ingress-controller-ns/ingress-controller")


def begin(topology: manifests.Topology) -> tuple[Action, ...]:
    """The controller starts, if anything asks for one."""

    def start(cluster: Cluster) -> None:
        cluster.start(_POD)

    return (start,) if topology.ingresses else ()


def checks(
    topology: manifests.Topology, expected: Mapping[str, Connections], cluster: Cluster
) -> Iterator[Check]:
    """What the controller may have with each workload; `expected` is by workload."""
    for name, pods in topology.workloads.items():
        ports = sorted({port for pod in pods for port in _targets(topology, name, pod)})
        if not ports:
            if name in expected:
                yield Check(
                    _probe(name), (), portsets.text(expected[name]), lambda _: portsets.NONE
                )
            continue
        parts = {Protocol.TCP: [(port, port) for port in ports]}
        ends = [(cluster.address(_POD.key), cluster.address(pod.key)) for pod in pods]
        yield Check(
            _probe(name),
            tuple(Flow(*pair, Protocol.TCP, port) for pair in ends for port in ports),
            portsets.text(expected.get(name, {})),
            partial(portsets.told, parts, len(ends)),
        )


def _probe(name: str) -> str:
    return f"{CONTROLLER} => {name}"


def _targets(topology: manifests.Topology, workload: str, pod: PodSpec) -> Iterator[int]:
    """The pod's ports that Ingresses and Routes lead to."""
    namespace = workload.partition("/")[0]
    for ingress in topology.ingresses:
        if _namespace(ingress) != namespace:
            continue
        for name, port in _backends(ingress):
            for service in topology.services:
                metadata = service.get("metadata") or {}
                if (_namespace(service), metadata.get("name")) == (namespace, name):
                    yield from _ports(service.get("spec") or {}, port, pod)


def _backends(ingress: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(Service, its port by number or name, None for all) that an Ingress or Route names."""
    spec = ingress.get("spec") or {}
    if ingress.get("kind") == "Route":
        port = (spec.get("port") or {}).get("targetPort")
        for to in (spec.get("to"), *(spec.get("alternateBackends") or ())):
            if to:
                yield to["name"], port
        return
    paths = [
        path.get("backend")
        for rule in spec.get("rules") or ()
        for path in (rule.get("http") or {}).get("paths") or ()
    ]
    for backend in (spec.get("defaultBackend"), *paths):
        service = (backend or {}).get("service")
        if service:
            port = service.get("port") or {}
            yield service["name"], port.get("number") or port.get("name")


def _ports(spec: Mapping[str, Any], wanted: Any, pod: PodSpec) -> Iterator[int]:
    selector = spec.get("selector") or {}
    if not selector or any(pod.labels.get(key) != value for key, value in selector.items()):
        return
    for port in spec.get("ports") or ():
        target = port.get("targetPort") or port.get("port")
        if wanted is None or wanted in (port.get("port"), port.get("name"), target):
            if isinstance(target, int):
                yield target
            else:
                yield from (number for name, number, _ in pod.ports if name == target)


def _namespace(document: Mapping[str, Any]) -> str:
    return (document.get("metadata") or {}).get("namespace") or "default"


def listed(lines: Sequence[tuple[str, str, str]]) -> dict[str, Connections]:
    """The connections of the controller's lines, by workload."""
    return {
        target: portsets.parse(connections)
        for source, target, connections in lines
        if source == CONTROLLER
    }
