"""The one running engine of a case: what happens is observed, the allocator decides, and its
events are folded. Nothing is rebuilt between steps."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from conformance.story import CaseError, EndpointSpec, PodSpec
from deciding import GRACE_MS, SETTINGS, Desk, pairs
from tabard.allocator.plan import Plan
from tabard.bus.port import Stored, Stream
from tabard.dataplane.maps import Address, address
from tabard.events.ledger import (
    EndpointBound,
    Enforcement,
    EventQuarantined,
    NodeRefused,
    PodRefused,
    PolicyRefused,
)
from tabard.events.observed import (
    NameAnswered,
    NamespaceLabelsSet,
    NamespaceRemoved,
    NodeJoined,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    PolicyRemoved,
    PolicySet,
)
from tabard.identity.labels import NAMED_PORT_SOURCE, label_set
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.messages import recorded
from tabard.ledger.state import State

PODS_OF_A_NODE_MAX = 48
"""With addresses of the case's own, each of which is a pod CIDR of its node."""
RANGES = ("10.255", "172.31", "192.168", "100.64", "198.18")
"""Where pods without an address of their own may lie."""
OWN_IPV6 = ipaddress.ip_network("fd00::/32")
"""Where all pods' IPv6 addresses lie that the case does not give."""


class Refused(Exception):
    """The engine does not take what the case applies; it says why."""


class Cluster:
    """Pods on several nodes, by their keys `namespace/name`.

    `given` are the addresses that the case itself gives to somebody, `avoid` networks that must
    hold none of ours. With `one_node` all pods run on the first node.
    """

    def __init__(
        self,
        given: Iterable[str] = (),
        nodes: tuple[tuple[str, ...], ...] = ((), ()),
        avoid: Iterable[str] = (),
        *,
        one_node: bool = False,
        node_labels: Sequence[Mapping[str, str]] = (),
        cluster: str = "default",
        enforcement: Enforcement = "default",
    ) -> None:
        settings = replace(SETTINGS, cluster=cluster, enforcement=enforcement)
        self.desk = Desk(settings, checked=False)
        self._given = frozenset(given)
        self._uids: dict[str, str] = {}
        self._started = 0
        self._told = 0
        """Messages that were read as records."""
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._prefix = self._free_range(avoid)
        self._hosts: list[tuple[str, ...]] = []
        self._cidrs: list[list[str]] = []
        self._node_labels = node_labels
        many = len(self._given) // PODS_OF_A_NODE_MAX + 1
        for own in (*nodes, *[()] * (many - len(nodes))):
            self._node(own)
        self._pod_nodes = 1 if one_node else len(self._hosts)

    @property
    def state(self) -> State:
        return self.desk.state

    def start(self, pod: PodSpec) -> None:
        """A new incarnation of `pod`; one that runs under its name is stopped first."""
        if pod.key in self._uids:
            self.stop(pod.key)
        namespace, _, name = pod.key.partition("/")
        if not name:
            raise CaseError(f"pod {pod.key!r} is not namespace/name")
        self._started += 1
        uid = f"pod-{self._started}"
        if pod.host_network:
            # On a node of its own: to all other pods it is what comes from another node.
            at = self._node(pod.addresses)
            addresses = self._hosts[at]
        else:
            at = self._started % self._pod_nodes
            addresses = self._addresses_of(pod, at)
        self.desk.now += 1
        self._observe(
            PodStarted(
                uid=uid,
                namespace=namespace,
                name=name,
                node=f"n{at + 1}",
                addresses=() if pod.host_network else addresses,
                labels=pairs(pod.labels),
                started_at=self._started,
                service_account=pod.service_account,
                ports=pod.ports,
                host_network=pod.host_network,
            )
        )
        self._uids[pod.key] = uid
        self._addresses[pod.key] = addresses

    def bind(self, endpoint: EndpointSpec) -> None:
        """An endpoint of just these labels: no observed pod has them, so the ledger is told."""
        named = [f"{NAMED_PORT_SOURCE}:{name}={at}/{of}" for name, at, of in endpoint.ports]
        labels = label_set([*endpoint.labels, *named])
        plan = Plan(self.state, self.desk.indexes)
        identity = plan.number(labels)
        self._started += 1
        uid = f"pod-{self._started}"
        at = self._started % self._pod_nodes
        addresses = self._addresses_of(PodSpec(endpoint.key), at)
        self.desk.write(
            *plan.allotment.events,
            EndpointBound(
                uid=uid,
                namespace="",
                name=endpoint.key,
                node=f"n{at + 1}",
                identity=identity,
                addresses=addresses,
                labels=(),
                started_at=self._started,
                service_account="",
                ports=endpoint.ports,
                owner="",
                host_network=False,
            ),
        )
        self._uids[endpoint.key] = uid
        self._addresses[endpoint.key] = addresses

    def stop(self, key: str) -> None:
        self._observe(PodStopped(self._uid(key)))
        del self._uids[key], self._addresses[key]

    def relabel(self, key: str, labels: dict[str, str]) -> None:
        self._observe(PodLabelsChanged(self._uid(key), pairs(labels)))

    def label_namespace(self, name: str, labels: dict[str, str]) -> None:
        self._observe(NamespaceLabelsSet(name, pairs(labels)))

    def delete_namespace(self, name: str) -> None:
        """With all that is in it, as Kubernetes does."""
        for key in [key for key in self._uids if key.partition("/")[0] == name]:
            self.stop(key)
        for kind, namespace, policy in list(self.state.policies):
            if namespace == name:
                self._observe(PolicyRemoved(kind, namespace, policy))
        self._observe(NamespaceRemoved(name))

    def apply(self, document: dict[str, Any], origin: str = "") -> None:
        self._observe(PolicySet(document, origin))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        if (kind, namespace, name) not in self.state.policies:
            raise CaseError(f"there is no {kind} {namespace}/{name} to delete")
        self._observe(PolicyRemoved(kind, namespace, name))

    def delete_all(self, kind: str) -> None:
        for found, namespace, name in list(self.state.policies):
            if found == kind:
                self._observe(PolicyRemoved(kind, namespace, name))

    def resolve(self, name: str, address: str) -> None:
        """Some pod asked for a domain name, and was told an address."""
        self._observe(NameAnswered("n1", name.lower().removesuffix("."), (address,), 60))

    def settle(self) -> None:
        """Time goes by: what nobody uses any more is retired, and its number released."""
        self.desk.tick(after_ms=GRACE_MS)
        self.desk.tick()

    def records(self) -> list[LedgerRecord]:
        """What was written into the ledger since this was asked before."""
        new = self.desk.messages[self._told :]
        stored = [
            Stored(self._told + number, message.subject, message.payload, 0)
            for number, message in enumerate(new, 1)
        ]
        self._told += len(new)
        return [recorded(Stream.LEDGER, message) for message in stored]

    def address(self, key: str, *, is_ipv6: bool = False) -> Address:
        """The pod's address of that IP version."""
        self._uid(key)
        for text in self._addresses[key]:
            if (":" in text) is is_ipv6:
                return address(text)
        raise CaseError(f"pod {key} has no IPv{6 if is_ipv6 else 4} address")

    def versions(self, key: str) -> set[bool]:
        """Whether each of the pod's addresses is IPv6."""
        self._uid(key)
        return {":" in text for text in self._addresses[key]}

    def named_port(self, key: str, name: str, protocol: str) -> int | None:
        for named, number, of in self.state.endpoints[self._uid(key)].ports:
            if (named, of) == (name, protocol):
                return number
        return None

    def node_address(self, key: str | None, *, is_ipv6: bool = False) -> Address:
        """Of the node that runs the pod; of another one for None."""
        at = 1
        if key is not None:
            at = int(self.state.endpoints[self._uid(key)].node[1:]) - 1
        for text in self._hosts[at]:
            if (":" in text) is is_ipv6:
                return address(text)
        raise CaseError(f"node n{at + 1} has no IPv{6 if is_ipv6 else 4} address")

    def is_ours(self, number: int) -> bool:
        """Whether an IPv4 address, as a number, is a pod's or a node's, or may become one's."""
        text = str(ipaddress.IPv4Address(number))
        return (
            text.startswith(f"{self._prefix}.")
            or text in self._given
            or any(text in own for own in self._hosts)
        )

    def _uid(self, key: str) -> str:
        if key not in self._uids:
            raise CaseError(f"there is no pod {key} at this step")
        return self._uids[key]

    def _observe(self, event: Any) -> None:
        """Every node is up: what is planned is carried out at once."""
        for decided in self.desk.observe(event) + (self.desk.tick() if self.state.relabels else []):
            if isinstance(decided, PolicyRefused | PodRefused | NodeRefused | EventQuarantined):
                name = getattr(decided, "name", "")
                kind = getattr(decided, "kind", "Pod" if name else "event")
                raise Refused(
                    f"{kind} {getattr(decided, 'namespace', '')}/{name}: {decided.reason}"
                )

    def _node(self, addresses: tuple[str, ...] = ()) -> int:
        """Another node joins, with `addresses` before those of the runner's choice; its place."""
        at = len(self._hosts)
        self._hosts.append((*addresses, f"192.0.2.{at + 1}", f"fd00:ffff::{at + 1:x}"))
        self._cidrs.append([f"{self._prefix}.{at + 1}.0/24", f"fd00:0:0:{at + 1:x}::/64"])
        self._join(at)
        return at

    def _join(self, at: int) -> None:
        cidrs = tuple(self._cidrs[at])
        labels = self._node_labels[at] if at < len(self._node_labels) else {}
        self._observe(NodeJoined(f"n{at + 1}", self._hosts[at], cidrs, pairs(labels)))

    def _addresses_of(self, pod: PodSpec, at: int) -> tuple[str, ...]:
        found = []
        for text in pod.addresses:
            # Some sources give two pods one address, where no address is judged; one holds it.
            if text not in self.state.bindings:
                self._route(f"{text}/{128 if ':' in text else 32}", at)
                found.append(text)
        low = 1 + self._started // self._pod_nodes
        if low > 250:
            raise CaseError(f"pod {pod.key} is one more than its node has addresses for")
        if not any("." in text for text in found):
            found.append(f"{self._prefix}.{at + 1}.{low}")
        if not any(":" in text for text in found):
            found.append(f"fd00:0:0:{at + 1:x}::{low:x}")
        return tuple(found)

    def _route(self, cidr: str, at: int) -> None:
        """A pod CIDR is one node's: of two pods that had the address, the later one's."""
        for node, cidrs in enumerate(self._cidrs):
            if cidr in cidrs and node != at:
                cidrs.remove(cidr)
                self._join(node)
        if cidr not in self._cidrs[at]:
            self._cidrs[at].append(cidr)
            self._join(at)

    def _free_range(self, avoid: Iterable[str]) -> str:
        """The first of RANGES that none of `avoid`'s networks and no given address touches."""
        taken = [ipaddress.ip_network(text) for text in (*avoid, *self._given) if ":" not in text]
        for prefix in RANGES:
            network = ipaddress.ip_network(f"{prefix}.0.0/16")
            if not any(network.overlaps(other) for other in taken):
                return prefix
        return RANGES[0]
