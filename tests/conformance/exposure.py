"""np-guard's exposure analysis: what a workload may have with pods that do not exist yet.

Each line names such pods by the labels that a rule asks for, and states what they may connect to.
Here a pod of such labels is started, in the namespace that the line names or in a new one, and
asked about. It may fit several lines (np-guard has a representative for each rule, and compares
rules with it as texts), so what is expected is all that the lines it fits state together. A pod
that fits none, in a namespace without labels, stands for `entire-cluster`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conformance import manifests, portsets
from conformance.cluster import Cluster
from conformance.policies import ports_of
from conformance.portsets import Connections
from conformance.story import Action, CaseError, Check, Flow, PodSpec, Step, why
from tabard.dataplane.maps import Direction, Protocol

HEADING = "Exposure Analysis Result:"
ENTIRE_CLUSTER = "entire-cluster"
NEW = "exposed"
"""Name of pods that do not exist yet, and beginning of new namespaces' names."""
FIRST_PORT = 40_001
"""Number of the first port that is told by name."""

_LINE = re.compile(r"(\S.*?)\s+(=>|<=)\s+(\S.*?) : (.*)")
_REMARK = re.compile(r"(Ingress Exposure|Egress Exposure|Workloads not .*):|.* is not protected .*")
_PEER = re.compile(r"(\[namespace with \{.*?\}\]|\[all namespaces\]|[^/\[]+)/(\[.*\])")
_REQUIREMENT = re.compile(r"\{Key:(.*?),Operator:(\w+),Values:\[(.*?)\],\}|([^,{}=]+)=([^,{}]*)")
_WORD = re.compile(r"[a-z][\w-]*")

Needs = tuple[tuple[str, str, tuple[str, ...]], ...]
"""(key, operator, values), as in a label selector."""
Line = tuple[str, Direction, str, str]
"""(workload, direction, peer, connections)"""


@dataclass(frozen=True, slots=True)
class Peer:
    """Pods by their labels; `namespace` is "" for namespaces by theirs."""

    namespace: str
    namespace_needs: Needs
    pod_needs: Needs

    def fits(self, name: str, labels: Mapping[str, str], pod: Mapping[str, str]) -> bool:
        """Whether a pod of such labels in the namespace `name` of `labels` is meant."""
        if self.namespace and self.namespace != name:
            return False
        return _hold(self.namespace_needs, labels) and _hold(self.pod_needs, pod)


ANYONE = Peer("", (), ())


def steps(file: Path, form: str, topology: manifests.Topology) -> Iterator[Step]:
    """The step that judges the expected file."""
    lines = list(_lines(file, form))
    texts = " ".join(connections for *_, connections in lines)
    words = sorted(set(_WORD.findall(texts.replace(portsets.ALL, ""))))
    names = {name: (Protocol.TCP, FIRST_PORT + number) for number, name in enumerate(words)}
    stated: dict[tuple[str, Direction], list[tuple[Peer, Connections]]] = {}
    for workload, direction, peer, connections in lines:
        told = portsets.parse(connections, names)
        stated.setdefault((workload, direction), []).append((_peer(peer), told))
    peers = [ANYONE, *dict.fromkeys(peer for told in stated.values() for peer, _ in told)]
    pods = [_pod(number, peer, topology, names) for number, peer in enumerate(dict.fromkeys(peers))]
    actions = tuple(action for labels, pod in pods for action in _begin(labels, pod, topology))
    yield Step(f"{file.name}, exposure", actions, partial(_checks, topology, stated, pods))


def _lines(file: Path, form: str) -> Iterator[Line]:
    """Of peers in the cluster alone: what is outside stands among the connections too."""
    try:
        text = file.read_text(encoding="utf-8")
        if form == "json":
            found = json.loads(text)["exposure_results"]
            told = [
                (*_json_ends(each, direction), each["conn"])
                for direction in Direction
                for each in found[f"{direction.name.lower()}_exposure"] or ()
            ]
        else:
            told = list(_text_lines(file, text.partition(HEADING)[2]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{file} cannot be read: {why(error)}") from error
    for line in told:
        if not line[2].endswith("[External]"):
            yield line


def _json_ends(line: Mapping[str, str], direction: Direction) -> tuple[str, Direction, str]:
    if direction is Direction.EGRESS:
        return line["src"], direction, line["dst"]
    return line["dst"], direction, line["src"]


def _text_lines(file: Path, text: str) -> Iterator[Line]:
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LINE.fullmatch(line)
        if match is not None:
            direction = Direction.EGRESS if match[2] == "=>" else Direction.INGRESS
            yield match[1], direction, match[3], match[4]
        elif not _REMARK.fullmatch(line):
            raise CaseError(f"{file.name}: the line {line!r} is no exposure")


def _peer(text: str) -> Peer:
    if text == ENTIRE_CLUSTER:
        return ANYONE
    match = _PEER.fullmatch(text)
    if match is None:
        raise CaseError(f"{text!r} names no pods")
    namespace, pods = match[1], match[2]
    name = "" if namespace.startswith("[") else namespace
    return Peer(name, () if name else _needs(namespace), _needs(pods))


def _needs(text: str) -> Needs:
    inner = text.partition("{")[2].rpartition("}")[0]
    found = []
    for key, operator, values, own, value in _REQUIREMENT.findall(inner):
        if key:
            found.append((key, operator, tuple(values.split())))
        else:
            found.append((own.strip(), "In", (value,)))
    return tuple(found)


def _hold(needs: Needs, labels: Mapping[str, str]) -> bool:
    for key, operator, values in needs:
        value = labels.get(key)
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[operator]:
            return False
    return True


def _labels(needs: Needs) -> dict[str, str]:
    """The fewest labels that fulfil all of `needs`."""
    found: dict[str, str] = {}
    for key, operator, values in sorted(needs, key=lambda need: need[1] != "In"):
        if operator == "In":
            found[key] = values[0]
        elif operator == "Exists":
            found.setdefault(key, NEW)
    return found


def _pod(
    number: int,
    peer: Peer,
    topology: manifests.Topology,
    names: Mapping[str, tuple[Protocol, int]],
) -> tuple[dict[str, str], PodSpec]:
    """The labels of its namespace, and a pod that `peer` means."""
    namespace = peer.namespace or f"{NEW}-{number}"
    labels = topology.namespaces.get(namespace, {}) if peer.namespace else {}
    ports = tuple((name, at, protocol.name) for name, (protocol, at) in names.items())
    pod = PodSpec(f"{namespace}/{NEW}-{number}", _labels(peer.pod_needs), (), ports)
    return {**labels, **_labels(peer.namespace_needs)}, pod


def _begin(labels: dict[str, str], pod: PodSpec, topology: manifests.Topology) -> Iterator[Action]:
    namespace = pod.key.partition("/")[0]

    def label(cluster: Cluster) -> None:
        cluster.label_namespace(namespace, labels)

    def start(cluster: Cluster) -> None:
        cluster.start(pod)

    if namespace not in topology.namespaces:
        yield label
    yield start


def _checks(
    topology: manifests.Topology,
    stated: Mapping[tuple[str, Direction], Sequence[tuple[Peer, Connections]]],
    pods: Sequence[tuple[dict[str, str], PodSpec]],
    cluster: Cluster,
) -> Iterator[Check]:
    documents = [document for document, _ in topology.policies]
    told = [connections for lines in stated.values() for _, connections in lines]
    parts = portsets.cut(ports_of(documents, cluster.state), told)
    for workload, _ in stated:
        if workload not in topology.workloads:
            raise CaseError(f"the analysis has {workload}, and the manifests no such workload")
    for (workload, own), direction in (
        (each, direction) for each in topology.workloads.items() for direction in Direction
    ):
        for labels, pod in pods:
            namespace = pod.key.partition("/")[0]
            fitting = [
                connections
                for peer, connections in stated.get((workload, direction), ())
                if peer.fits(namespace, labels, pod.labels)
            ]
            other = cluster.address(pod.key, is_ipv6=True)
            ends = [(cluster.address(each.key, is_ipv6=True), other) for each in own]
            if direction is Direction.INGRESS:
                ends = [(peer, subject) for subject, peer in ends]
            arrow = "=>" if direction is Direction.EGRESS else "<="
            yield Check(
                probe=f"{workload} {arrow} {_shown(namespace, labels, pod)}",
                flows=tuple(
                    Flow(*pair, protocol, port, frozenset({direction}))
                    for pair in ends
                    for protocol, spans in parts.items()
                    for port, _ in spans
                ),
                expected=portsets.text(portsets.union(fitting)),
                found=partial(portsets.told, parts, len(ends)),
            )


def _shown(namespace: str, labels: Mapping[str, str], pod: PodSpec) -> str:
    def told(given: Mapping[str, Any]) -> str:
        return ",".join(f"{key}={value}" for key, value in given.items()) or "no labels"

    return f"a pod with {told(pod.labels)} in namespace {namespace} with {told(labels)}"
