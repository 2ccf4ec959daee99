"""A policy set over a topology, and what it allows, as np-guard's network-config-analyzer sees it.

Everything is asked of the pure engine. Pods stand here without addresses, so that ipBlocks hold
what is outside alone, as the analyzer reads them; what is outside is cut into ranges wherever a
policy or an expected file begins or ends one.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from conformance.cluster import Cluster, Refused
from conformance.policies import networks_of
from conformance.story import CaseError, PodSpec
from tabard.dataplane.maps import Direction, Protocol
from tabard.events.ledger import PolicyAccepted
from tabard.identity.numbers import Reserved
from tabard.policy.engine import Engine
from tabard.policy.model import Cidr, Peer, PolicyError
from tabard.policy.parties import Party, Role
from tabard.policy.reading import read_object
from tabard.policy.traffic import ALL, EVERYTHING, Traffic, difference, intersection

Document = Mapping[str, Any]
Name = str
"""`namespace/pod`, or an outside range's first address."""
Pair = tuple[Name, Name]
Allowed = Mapping[Pair, Traffic]
"""Pairs without any traffic are left out, and so are pods with themselves."""

IPV4_END = 1 << 32
_PORTS = ((1, 65_535),)
REAL: Traffic = {
    protocol: _PORTS if protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP) else ALL
    for protocol in EVERYTHING
}
"""All there is, for whom no port is 0."""


@dataclass(frozen=True, slots=True)
class Pod:
    name: Name
    owner: str
    """Of the workload, or the pod's own."""
    kind: str
    namespace: str
    labels: Mapping[str, str]
    spec: PodSpec


@dataclass(slots=True)
class Topology:
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: dict[Name, Pod] = field(default_factory=dict)

    def key(self) -> tuple[Any, ...]:
        """Equal for topologies whose configurations can be compared."""
        return (
            sorted((name, sorted(pod.labels.items())) for name, pod in self.pods.items()),
            sorted((name, sorted(self.namespaces.get(name, {}).items())) for name in self._names()),
        )

    def _names(self) -> set[str]:
        return {pod.namespace for pod in self.pods.values()}


class Configuration:
    """`name`, its pods and its policies; what it allows is found once."""

    def __init__(self, name: str, topology: Topology, documents: Sequence[Document]) -> None:
        self.name = name
        self.topology = topology
        self.documents = list(documents)
        self._cluster: Cluster | None = None
        self._engine: Engine | None = None
        self._parties: dict[Name, Party] = {}
        self._allowed: dict[tuple[int, ...], Allowed] = {}

    def with_documents(self, documents: Sequence[Document], name: str = "") -> "Configuration":
        """The same topology under other policies."""
        made = Configuration(name or self.name, self.topology, documents)
        made._cluster = self._running()
        return made

    def only(self, wanted: str) -> "Configuration":
        """The configuration with one policy alone, named `namespace/name` or `name`."""
        found = [
            each for each in self.documents if wanted in ("/".join(key_of(each)), key_of(each)[1])
        ]
        if len(found) != 1:
            raise CaseError(f"{self.name} has {len(found)} policies called {wanted}")
        return self.with_documents(found, f"{self.name}/{wanted}")

    def without(self, document: Document) -> "Configuration":
        return self.with_documents([each for each in self.documents if each is not document])

    def without_rule(self, document: Document, field_name: str, index: int) -> "Configuration":
        changed = deepcopy(dict(document))
        changed["spec"].setdefault("policyTypes", _types(document))
        del changed["spec"][field_name][index]
        others = [each for each in self.documents if each is not document]
        return self.with_documents([*others, changed])

    def networks(self) -> set[tuple[int, int]]:
        """(first, end) of every IPv4 CIDR that the policies name."""
        named = map(ip_network, networks_of(self.documents))
        return {(int(net[0]), int(net[-1]) + 1) for net in named if net.version == 4}

    def allowed(self, cuts: Sequence[int]) -> Allowed:
        """All connections, outside ranges being cut at `cuts` (0 and IPV4_END among them)."""
        known = self._allowed.get(tuple(cuts))
        if known is not None:
            return known
        outside = [str(IPv4Address(cut)) for cut in cuts[:-1]]
        engine = self._asked()
        found = {}
        alike: dict[tuple[Hashable, Hashable], Traffic] = {}
        sorts: dict[Name, Hashable] = {}
        for source, target in self._pairs(outside):
            for name, party in (source, target):
                if name not in sorts:
                    sorts[name] = engine.alike(party)
            sort = (sorts[source[0]], sorts[target[0]])
            if sort not in alike:
                alike[sort] = intersection(engine.allowed(source[1], target[1]), REAL)
            if alike[sort]:
                found[source[0], target[0]] = alike[sort]
        self._allowed[tuple(cuts)] = found
        return found

    def captured(self, allowed: Allowed) -> Allowed:
        """Of `allowed` what policies state: their subject is one of the ends."""
        engine = self._asked()

        def is_stated(pair: Pair) -> bool:
            sender, receiver = (self._parties.get(end) for end in pair)
            return bool(
                (sender and engine.isolating(Direction.EGRESS, sender))
                or (receiver and engine.isolating(Direction.INGRESS, receiver))
            )

        return {pair: traffic for pair, traffic in allowed.items() if is_stated(pair)}

    def isolated(self, direction: Direction) -> set[Name]:
        """The pods that a policy isolates."""
        engine = self._asked()
        return {name for name, party in self._parties.items() if engine.isolating(direction, party)}

    def selected(self, document: Document) -> set[Name]:
        """The pods that a policy selects."""
        engine = self._asked()
        return {
            name
            for name, party in self._parties.items()
            for policy in read_object(document).policies
            if engine.names(policy.subject, party, "")
        }

    def empty_rules(self, document: Document) -> list[str]:
        """Field paths of the rules whose peers are nobody: no pod, and nothing outside."""
        engine = self._asked()
        found = []
        for policy in read_object(document).policies:
            for rule in policy.rules:
                if rule.peers is not None and not any(
                    isinstance(peer, Cidr) or self._anybody(engine, peer) for peer in rule.peers
                ):
                    found.append(rule.path)
        return found

    def _anybody(self, engine: Engine, peer: Peer) -> bool:
        return any(engine.names(peer, party, "") for party in self._parties.values())

    def _pairs(
        self, outside: Sequence[Name]
    ) -> Iterator[tuple[tuple[Name, Party], tuple[Name, Party]]]:
        self._asked()
        pods = list(self._parties.items())
        world = [(name, _outside(name)) for name in outside]
        for one in pods:
            for other in pods:
                if one[0] != other[0]:
                    yield one, other
            for other in world:
                yield one, other
                yield other, one

    def _running(self) -> Cluster:
        """The topology's pods, started; the policies are put beside them."""
        if self._cluster is None:
            self._cluster = Cluster()
            for name in {pod.namespace for pod in self.topology.pods.values()}:
                labels = self.topology.namespaces.get(name, {})
                self._cluster.label_namespace(name, labels)
            for pod in self.topology.pods.values():
                self._cluster.start(pod.spec)
        return self._cluster

    def _asked(self) -> Engine:
        if self._engine is None:
            cluster = self._running()
            accepted = {}
            for document in self.documents:
                try:
                    found = read_object(document)
                except PolicyError as error:
                    raise Refused(f"{self.name}: {error}") from error
                accepted[found.key] = PolicyAccepted(*found.key, dict(document), "")
            self._engine = Engine(replace(cluster.state, policies=accepted))
            for name, pod in self.topology.pods.items():
                (uid,) = [
                    uid
                    for uid, endpoint in cluster.state.endpoints.items()
                    if f"{endpoint.namespace}/{endpoint.name}" == pod.spec.key
                ]
                self._parties[name] = replace(self._engine.parties.find(uid)[0], address=None)
        return self._engine


def key_of(document: Document) -> tuple[str, str]:
    """(namespace, name)"""
    metadata = document.get("metadata") or {}
    return metadata.get("namespace") or "default", str(metadata.get("name"))


def cuts_of(configurations: Iterable[Configuration], more: Iterable[int] = ()) -> list[int]:
    """Where the IPv4 space is cut for all of them."""
    found = {0, IPV4_END, *more}
    for configuration in configurations:
        for first, end in configuration.networks():
            found |= {first, end}
    return sorted(found)


def minus(one: Allowed, other: Allowed) -> Allowed:
    """What `one` alone allows."""
    found = {}
    for pair, traffic in one.items():
        rest = traffic if pair not in other else difference(traffic, other[pair])
        if rest:
            found[pair] = rest
    return found


def both(one: Allowed, other: Allowed) -> Allowed:
    """What both allow."""
    shared = {pair: intersection(one[pair], other[pair]) for pair in one.keys() & other.keys()}
    return {pair: traffic for pair, traffic in shared.items() if traffic}


def _outside(name: Name) -> Party:
    return Party(Role.WORLD, IPv4Address(name), Reserved.WORLD_IPV4.value)


def _types(document: Document) -> list[str]:
    """The policy's types, spelt out, so that a rule less changes none of them."""
    (policy,) = read_object(document).policies
    return [direction.name.capitalize() for direction in sorted(policy.isolates)]
