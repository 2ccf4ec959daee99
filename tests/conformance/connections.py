"""np-guard's connection lists (suites' README, 5): who may connect to whom, and on which ports.

np-guard reads ipBlock as outside addresses alone. Tabard reads it as upstream does, for pods too,
so here pods speak to each other by their IPv6 addresses, and with the outside by IPv4. A case with
an IPv6 block that holds those is left out by the tag `ipblock-vs-pod`.
"""

import gzip
import ipaddress
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from conformance import exposure, ingresses, manifests, portsets
from conformance.cluster import OWN_IPV6, Cluster
from conformance.policies import networks_of, ports_of
from conformance.portsets import Connections, Spans
from conformance.story import CaseError, Check, Flow, LeftOut, Step, Story, why
from tabard.dataplane.maps import Address, Protocol, address

KINDS = ("connlist", "exposure", "eval-map")
"""Expected files that list connections; one on exposure does above its heading."""
IPV4_LAST = (1 << 32) - 1

_LINE = re.compile(r"(\S.*?) => (\S.*?) : (\S.*)")
_OUTSIDE = "[External]"

End = str | Spans
"""A workload `ns/name[Kind]`, or outside addresses."""


def are_in(entry: Mapping[str, Any]) -> bool:
    """Whether an index's entry is a directory with connection lists."""
    expected = entry.get("expected") or ()
    return any(isinstance(each, Mapping) and each.get("kind") in KINDS for each in expected)


def reader(folder: Path, entry: Mapping[str, Any]) -> Callable[[], Story]:
    return partial(_read, folder / entry["dir"], tuple(entry["expected"]))


def _read(directory: Path, expected: Sequence[Mapping[str, Any]]) -> Story:
    topology = manifests.read([directory / "manifests"])
    topology.policies = [(manifests.valid(each), origin) for each, origin in topology.policies]
    if any(OWN_IPV6.overlaps(net) for net in _networks(topology) if net.version == 6):
        raise LeftOut("ipblock-vs-pod")
    listed: list[tuple[Mapping[str, Any], list[tuple[str, str, str]]]] = []
    for each in expected:
        lines = _lines(directory / each["file"], each)
        if lines is not None:
            listed.append((each, lines))
    if not listed:
        raise LeftOut("no connection list")
    between = [[line for line in lines if line[0] != ingresses.CONTROLLER] for _, lines in listed]
    read = [[(_end(a), _end(b), portsets.parse(c)) for a, b, c in lines] for lines in between]
    cuts = _address_cuts(topology, [line for lines in read for line in lines])
    steps: list[Step] = []
    for (each, lines), ends in zip(listed, read, strict=True):
        file = directory / each["file"]
        checks = partial(_checks, topology, ends, ingresses.listed(lines), cuts)
        steps.append(Step(file.name, (), checks))
        if each["kind"] == "exposure":
            steps += exposure.steps(file, each["format"], topology)
    first = steps[0]
    begin = (*manifests.begin(topology), *ingresses.begin(topology))
    steps[0] = Step(first.name, begin, first.checks)
    avoid = frozenset(str(ipaddress.IPv4Address(cut)) for cut in cuts if 0 < cut <= IPV4_LAST)
    return Story(tuple(steps), avoid=avoid)


def _lines(file: Path, entry: Mapping[str, Any]) -> list[tuple[str, str, str]] | None:
    """(source, destination, connections) of each line; None if it answers another question."""
    kind, form = entry.get("kind"), entry.get("format")
    if kind not in KINDS or form not in ("txt", "json"):
        return None
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode()
        if form == "json":
            told = json.loads(text)
            lines = told["connlist_results"] if kind == "exposure" else told
            return [(line["src"], line["dst"], line["conn"]) for line in lines or ()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{file} cannot be read: {why(error)}") from error
    found = []
    for line in text.partition(exposure.HEADING)[0].splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise CaseError(f"{file.name}: the line {line!r} is no connection")
        found.append((match[1], match[2], match[3]))
    return found


def _end(text: str) -> End:
    if text.endswith("]") and not text.endswith(_OUTSIDE):
        return text
    ranges = text.removesuffix(_OUTSIDE).split(",")
    try:
        return frozenset(_range(part.strip()) for part in ranges)
    except ValueError as error:
        raise CaseError(f"{text!r} is neither a workload nor a range of IPv4 addresses") from error


def _range(text: str) -> tuple[int, int]:
    if "/" in text:
        network = ipaddress.IPv4Network(text)
        return int(network[0]), int(network[-1])
    first, _, last = text.partition("-")
    return int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last or first))


def _networks(
    topology: manifests.Topology,
) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    named = networks_of(document for document, _ in topology.policies)
    return [ipaddress.ip_network(text) for text in named]


def _address_cuts(
    topology: manifests.Topology, lines: Sequence[tuple[End, End, Connections]]
) -> list[int]:
    """Where the IPv4 space is cut, 0 and its end included."""
    cuts = {0, IPV4_LAST + 1}
    for network in _networks(topology):
        if network.version == 4:
            cuts |= {int(network[0]), int(network[-1]) + 1}
    for *ends, _ in lines:
        for end in ends:
            if not isinstance(end, str):
                cuts |= {at for first, last in end for at in (first, last + 1)}
    return sorted(cuts)


def _checks(
    topology: manifests.Topology,
    lines: Sequence[tuple[End, End, Connections]],
    controller: Mapping[str, Connections],
    cuts: Sequence[int],
    cluster: Cluster,
) -> Iterator[Check]:
    table = _Table(cuts, lines)
    documents = [document for document, _ in topology.policies]
    told = [connections for *_, connections in lines]
    parts = portsets.cut(ports_of(documents, cluster.state), told)
    atoms = [(first, end - 1, _outside(cluster, first, end)) for first, end in pairwise(cuts)]
    for name in table.workloads - topology.workloads.keys():
        raise CaseError(f"the list has {name}, and the manifests no such workload")

    def check(source: str, target: str, ends: Sequence[tuple[Address, Address]], key: Any) -> Check:
        return Check(
            probe=f"{source} => {target}",
            flows=tuple(
                Flow(*pair, protocol, port)
                for pair in ends
                for protocol, spans in parts.items()
                for port, _ in spans
            ),
            expected=portsets.text(table.expected.get(key, {})),
            found=partial(portsets.told, parts, len(ends)),
        )

    for (source, senders), (target, receivers) in product(topology.workloads.items(), repeat=2):
        if source != target:
            ends = [
                (cluster.address(a.key, is_ipv6=True), cluster.address(b.key, is_ipv6=True))
                for a, b in product(senders, receivers)
            ]
            yield check(source, target, ends, (source, target))
    for at, (first, last, representatives) in enumerate(atoms):
        shown = f"{ipaddress.IPv4Address(first)}-{ipaddress.IPv4Address(last)}{_OUTSIDE}"
        for name, pods in topology.workloads.items():
            own = [cluster.address(pod.key) for pod in pods]
            yield check(name, shown, list(product(own, representatives)), (name, at))
            yield check(shown, name, list(product(representatives, own)), (at, name))
    yield from ingresses.checks(topology, controller, cluster)


class _Table:
    """The expected connections by (source, destination), outside ends as their parts' numbers."""

    def __init__(self, cuts: Sequence[int], lines: Sequence[tuple[End, End, Connections]]) -> None:
        self.expected: dict[tuple[str | int, str | int], dict[Protocol, Spans]] = {}
        self.workloads: set[str] = set()
        for source, target, connections in lines:
            for key in product(self._keys(source, cuts), self._keys(target, cuts)):
                held = self.expected.setdefault(key, {})
                for protocol, spans in connections.items():
                    held[protocol] = held.get(protocol, frozenset()) | spans

    def _keys(self, end: End, cuts: Sequence[int]) -> Sequence[str | int]:
        if isinstance(end, str):
            self.workloads.add(end)
            return [end]
        return [
            at
            for first, last in end
            for at in range(bisect_left(cuts, first), bisect_right(cuts, last))
        ]


def _outside(cluster: Cluster, first: int, end: int) -> list[Address]:
    """Both ends of a part of the IPv4 space, or the next addresses that are not the cluster's."""
    found = []
    for numbers in (range(first, end), range(end - 1, first - 1, -1)):
        at = next((number for number in numbers if not cluster.is_ours(number)), None)
        if at is None:
            raise CaseError(f"the pods' own addresses fill {ipaddress.IPv4Address(first)} and on")
        found.append(address(str(ipaddress.IPv4Address(at))))
    return list(dict.fromkeys(found))
