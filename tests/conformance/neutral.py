"""Cases in the neutral format, `netpol-neutral/v1` (suites' README, 2)."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from conformance import raw_rules
from conformance.cluster import Cluster
from conformance.examples import outcome
from conformance.layer7 import KINDS, document_without, rule_without
from conformance.probes import EXPECTED, NODES, TWIN, Probes, of_matrix
from conformance.story import (
    Action,
    CaseError,
    EndpointSpec,
    LeftOut,
    PodSpec,
    Step,
    Story,
)
from tabard.identity.labels import split_label

FORMAT = "netpol-neutral/v1"
DERIVED = re.compile(r"io\.cilium\.k8s\.|reserved:")
"""What Kubernetes' kinds cannot select by, and Cilium's reading of them can."""

_TOP = {
    *("format", "suite", "name", "source", "features", "notes", "settings", "namespaces", "pods"),
    *("endpoints", "externals", "steps", "std_ports"),
}
_SETTINGS = {"enforcement", "cluster", "loopback", "np_cilium"}
_ENDPOINT = {"labels", "identity", "ports"}
_POD = {"labels", "ip", "serviceAccount", "ports", "hostNetwork"}
_EXTERNAL = {"entities", "ip", "fqdn", "labels", "cidr_selectable"}
_STEP = {"name", "actions", "probes", "probe", "matrix"}
_PROBE = {
    *("from", "to", "port", "protocol", "expect", "direction", "port_name", "l7", "note"),
}


def reader(path: Path) -> Callable[[], Story]:
    return partial(_read, path)


def _read(path: Path) -> Story:
    try:
        case = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CaseError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(case, dict) or not str(case.get("format", "")).startswith(FORMAT):
        raise CaseError(f"{path.name} does not say that its format is {FORMAT}")
    return story(case)


def story(case: Mapping[str, Any]) -> Story:
    """The case as steps; CaseError names the first part of it that is not understood."""
    _known("case", case, _TOP)
    settings = case.get("settings") or {}
    _known("settings", settings, _SETTINGS)
    if settings.get("loopback") not in (None, "ignore"):
        raise CaseError(f"settings.loopback: {settings['loopback']} is not known")
    enforcement = settings.get("enforcement", "default")
    if enforcement not in ("default", "always", "never"):
        raise CaseError(f"settings.enforcement: {enforcement} is not known")
    return _Reading(case, settings).story(enforcement)


class _Reading:
    def __init__(self, case: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self._case = case
        self._externals: dict[str, dict[str, Any]] = case.get("externals") or {}
        for name, external in self._externals.items():
            _known(f"external {name}", external, _EXTERNAL)
        self._twins: set[str] = set()
        """Pods that are asked about traffic to another of their own identity."""
        self._given: set[str] = set()
        self._policies: list[Any] = []
        self._probes = Probes(self._externals, self._policies)
        self._folded = 0
        self._is_cilium = bool(settings.get("np_cilium"))
        self._rules = 0
        steps = case.get("steps") or []
        if settings.get("loopback") != "ignore":
            probes = [probe for step in steps for probe in step.get("probes") or ()]
            self._twins = {probe["from"] for probe in probes if probe["from"] == probe["to"]}
            self._twins -= self._externals.keys()

    def story(self, enforcement: str) -> Story:
        pods = [
            partial(_start, spec)
            for key, pod in (self._case.get("pods") or {}).items()
            for spec in self._specs(key, pod)
        ]
        endpoints = [
            partial(_bind, spec)
            for key, endpoint in (self._case.get("endpoints") or {}).items()
            for spec in self._endpoints(key, endpoint)
        ]
        steps = [self._step(number, step) for number, step in enumerate(self._case["steps"], 1)]
        namespaces = [
            partial(_label_namespace, name, (value or {}).get("labels"))
            for name, value in (self._case.get("namespaces") or {}).items()
        ]
        if steps:
            first = steps[0]
            begin: list[Action] = [*namespaces, *pods, *endpoints]
            steps[0] = Step(first.name, (*begin, *first.actions), first.checks, first.skipped)
        return Story(
            steps=tuple(steps),
            addresses=frozenset(self._given),
            nodes=self._nodes(),
            node_labels=self._node_labels(),
            one_node=any(self._probes.is_host(name) for name in self._externals),
            enforcement=enforcement,
            cluster=(self._case.get("settings") or {}).get("cluster") or "default",
            folded=self._folded,
        )

    def _nodes(self) -> tuple[tuple[str, ...], ...]:
        """The addresses that externals give to the pods' own node and to another one."""
        by_entity: dict[str, tuple[str, ...]] = {"host": (), "remote-node": ()}
        for external in self._externals.values():
            for entity in NODES & set(external.get("entities") or ()):
                by_entity[entity] += (external["ip"],) if external.get("ip") else ()
        return (by_entity["host"], by_entity["remote-node"])

    def _node_labels(self) -> tuple[dict[str, str], ...]:
        """The labels that externals give to the pods' own node and to another one."""
        by_entity: dict[str, dict[str, str]] = {"host": {}, "remote-node": {}}
        for external in self._externals.values():
            given = external.get("labels") or ()
            if isinstance(given, Mapping):
                given = [f"k8s:{key}={value}" for key, value in given.items()]
            for entity in NODES & set(external.get("entities") or ()):
                for source, key, value in map(split_label, given):
                    if source not in ("cidr", "reserved"):
                        by_entity[entity][key] = value
        return (by_entity["host"], by_entity["remote-node"])

    def _specs(self, key: str, pod: Mapping[str, Any] | None) -> Iterator[PodSpec]:
        pod = pod or {}
        _known(f"pod {key}", pod, _POD)
        ports = pod.get("ports") or ()
        if isinstance(ports, str):
            if ports not in self._case:
                raise CaseError(
                    f"pod {key} has ports {ports!r}, and the case says none of that name"
                )
            ports = self._case[ports]
        addresses = tuple(filter(None, str(pod.get("ip") or "").replace(",", " ").split()))
        self._given.update(addresses)
        spec = PodSpec(
            key=key,
            labels=_texts(pod.get("labels")),
            addresses=addresses,
            ports=tuple(
                (port["name"], port["port"], port.get("protocol", "TCP"))
                for port in ports
                if port.get("name")
            ),
            service_account=pod.get("serviceAccount") or "default",
            host_network=bool(pod.get("hostNetwork")),
        )
        yield spec
        if key in self._twins:
            yield PodSpec(key + TWIN, spec.labels, (), spec.ports, spec.service_account)

    def _endpoints(self, key: str, endpoint: Mapping[str, Any]) -> Iterator[EndpointSpec]:
        _known(f"endpoint {key}", endpoint, _ENDPOINT)
        labels = tuple(label(text) for text in endpoint.get("labels") or ())
        for text in labels:
            if text.startswith("reserved:"):
                raise LeftOut(text.rstrip("="))
        ports = tuple(
            (port["name"], port["port"], port.get("protocol", "TCP"))
            for port in endpoint.get("ports") or ()
        )
        yield EndpointSpec(key, labels, ports)
        if key in self._twins:
            yield EndpointSpec(key + TWIN, labels, ports)

    def _step(self, number: int, step: Mapping[str, Any]) -> Step:
        name = str(step.get("name") or f"step {number}")
        _known(f"step {name}", step, _STEP)
        actions = [
            told
            for action in step.get("actions") or ()
            for kind, value in action.items()
            for told in self._actions(kind, value)
        ]
        probes: list[dict[str, Any]] = []
        skipped: dict[str, int] = {}
        for probe in (*(step.get("probes") or ()), *of_matrix(step.get("matrix"))):
            _known("probe", probe, _PROBE)
            tag = self._probes.left_out(probe, self._twins)
            if tag:
                skipped[tag] = skipped.get(tag, 0) + 1
            elif probe["expect"] not in EXPECTED:
                raise CaseError(f"probe {probe} expects {probe['expect']!r}, which is not known")
            else:
                probes.append(probe)
        return Step(name, tuple(actions), partial(self._probes.checks, probes), skipped)

    def _actions(self, kind: str, value: Any) -> Iterator[Action]:
        match kind:
            case "apply":
                for given in value:
                    document, folded = document_without(given)
                    self._folded += folded
                    self._policies.append(document)
                    if self._is_cilium and not cilium_reads(document):
                        raise LeftOut("np_cilium")
                    _supported(document)
                    yield partial(_apply, document)
                yield self._look_up
            case "rules":
                rules = [rule_without(rule) for rule in value]
                self._folded += sum(folded for _, folded in rules)
                self._rules += 1
                document = raw_rules.document(f"rules-{self._rules}", [rule for rule, _ in rules])
                self._policies.append(document)
                _supported(document)
                yield partial(_apply, document)
            case "clear_rules":
                yield _clear
            case "delete":
                yield partial(_delete, value)
            case "set_pod_labels":
                key, labels = value["pod"], value.get("labels") or {}
                yield partial(_relabel, key, labels)
                if key in self._twins:
                    yield partial(_relabel, key + TWIN, labels)
            case "set_namespace_labels" | "create_namespace":
                name, labels = (
                    (value, {}) if isinstance(value, str) else (value["name"], value.get("labels"))
                )
                yield partial(_label_namespace, name, labels)
            case "create_pod":
                key = value["pod"]
                given = {name: field for name, field in value.items() if name != "pod"}
                for spec in self._specs(key, given):
                    yield partial(_start, spec)
            case "delete_pod":
                key = value if isinstance(value, str) else value["pod"]
                yield partial(_stop, key)
                if key in self._twins:
                    yield partial(_stop, key + TWIN)
            case "delete_namespace":
                yield partial(_drop, value if isinstance(value, str) else value["name"])
            case "note":
                pass
            case _:
                raise CaseError(f"the case asks for action {kind!r}, which is not known")

    def _look_up(self, cluster: Cluster) -> None:
        """Pods ask where the externals are, as they do before they speak to them."""
        for external in self._externals.values():
            for name in external.get("fqdn") or ():
                if external.get("ip"):
                    cluster.resolve(name, external["ip"])


def _known(what: str, value: Mapping[str, Any], fields: set[str]) -> None:
    if unknown := set(value or ()) - fields:
        raise CaseError(f"{what} has {', '.join(sorted(unknown))}, which is not known here")


def cilium_reads(document: Mapping[str, Any]) -> bool:
    """Whether the policy means to others what it means to Cilium: it is of Cilium's own kind, or
    selects by labels of pods and namespaces alone."""
    return document.get("kind") in KINDS or not DERIVED.search(repr(document.get("spec")))


def _supported(document: Mapping[str, Any]) -> None:
    """LeftOut if the policy is right in its language, and refused by declaration."""
    tag, _ = outcome(document)
    if tag:
        raise LeftOut(tag)


def label(text: str) -> str:
    """A label of an identity: one of any source is taken to be Kubernetes' own."""
    source, colon, rest = text.partition(":")
    if not colon:
        source, rest = "any", text
    key, _, value = rest.partition("=")
    return f"{'k8s' if source == 'any' else source}:{key}={value}"


def _texts(labels: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in (labels or {}).items()}


def _start(pod: PodSpec, cluster: Cluster) -> None:
    cluster.start(pod)


def _bind(endpoint: EndpointSpec, cluster: Cluster) -> None:
    cluster.bind(endpoint)


def _clear(cluster: Cluster) -> None:
    cluster.delete_all(raw_rules.KIND)


def _stop(key: str, cluster: Cluster) -> None:
    cluster.stop(key)


def _relabel(key: str, labels: Mapping[str, str], cluster: Cluster) -> None:
    cluster.relabel(key, _texts(labels))


def _label_namespace(name: str, labels: Mapping[str, str] | None, cluster: Cluster) -> None:
    cluster.label_namespace(name, _texts(labels))


def _drop(name: str, cluster: Cluster) -> None:
    cluster.delete_namespace(name)


def _apply(document: Mapping[str, Any], cluster: Cluster) -> None:
    cluster.apply(dict(document))


def _delete(value: Mapping[str, str], cluster: Cluster) -> None:
    cluster.delete(value["kind"], value.get("namespace") or "default", value["name"])
