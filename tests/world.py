"""A cluster told to the fold event by event: the least that an allocator does, for tests."""

from collections.abc import Mapping
from typing import Any

from tabard.dataplane.maps import Mode, address
from tabard.dataplane.verdict import FlowVerdict, Judge, flow_verdict
from tabard.events import ledger as events
from tabard.events.envelope import Envelope, Recorded
from tabard.identity.labels import LabelFilter, LabelSet, cidr_label, label_set, pod_labels
from tabard.identity.numbers import CIDR_SCOPE, NumberSpace
from tabard.ledger.fold import LedgerRecord, evolve
from tabard.ledger.state import Node, State
from tabard.policy.compile import Attachment, Compiler, Provisional
from tabard.policy.reading import read_object

Ports = tuple[tuple[str, int, str], ...]


class World:
    """Names a pod `namespace/name`, which is also its UID unless another is given."""

    def __init__(self, nodes: int = 2) -> None:
        self.state = State()
        self.filter = LabelFilter()
        self.ifindexes: dict[str, int] = {}
        self.compilers: dict[str, Compiler] = {}
        self.history: list[LedgerRecord] = []
        self._told: dict[str, int] = {}
        """Compiler, by its node → how much of the history it was told."""
        self.untold: list[LedgerRecord] = []
        """What was folded; whoever tells a compiler of it clears it."""
        for number in range(1, nodes + 1):
            self.node(f"n{number}", (f"192.168.9.{number}",), (f"10.244.{number}.0/24",))

    def emit(self, event: events.LedgerEvent, at: int = 0) -> None:
        sequence = self.state.sequence + 1
        record: LedgerRecord = Recorded("LEDGER", sequence, Envelope(b"i" * 16, "", at), event)
        evolve(self.state, record)
        self.untold.append(record)
        self.history.append(record)

    def node(
        self,
        name: str,
        addresses: tuple[str, ...] = (),
        pod_cidrs: tuple[str, ...] = (),
        **labels: str,
    ) -> None:
        """A node that joins, or is another from now on."""
        added = events.NodeAdded(name, addresses, pod_cidrs, tuple(sorted(labels.items())))
        for cidr in Node(name, addresses, pod_cidrs, added.labels).cidrs():
            self.identity(label_set((cidr_label(cidr),)))
        self.emit(added)

    def namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Label a namespace; its pods change identity at once."""
        self.emit(events.NamespaceLabelled(name, tuple(sorted(labels.items()))))
        changes = []
        for uid in self.state.by_namespace.get(name, {}):
            endpoint = self.state.endpoints[uid]
            labelled = self.labels_of(name, dict(endpoint.labels), endpoint.ports)
            changes.append((uid, self.identity(labelled)))
        if changes:
            self.emit(events.EndpointsRebound(name, tuple(changes)))

    def labels_of(self, namespace: str, labels: Mapping[str, str], ports: Ports = ()) -> LabelSet:
        return pod_labels(
            namespace=namespace,
            labels=labels,
            namespace_labels=self.state.namespaces.get(namespace, {}),
            service_account="default",
            cluster="default",
            ports=ports,
            label_filter=self.filter,
        )

    def identity(self, labels: LabelSet) -> int:
        """The identity of a label set, allocated if it has none."""
        if labels not in self.state.numbers:
            is_cidr = labels[0].startswith("cidr:")
            start = CIDR_SCOPE if is_cidr else NumberSpace().first
            number = next(n for n in range(start, start + 65_000) if n not in self.state.identities)
            self.emit(events.IdentityAllocated(number, labels))
        return self.state.numbers[labels]

    def pod(
        self,
        key: str,
        labels: Mapping[str, str] | None = None,
        *,
        node: str = "n1",
        ip: str | tuple[str, ...] = (),
        ports: Ports = (),
        uid: str = "",
        host_network: bool = False,
    ) -> str:
        namespace, _, name = key.partition("/")
        labels = labels or {}
        self.emit(
            events.EndpointBound(
                uid=uid or key,
                namespace=namespace,
                name=name,
                node=node,
                identity=self.identity(self.labels_of(namespace, labels, ports)),
                addresses=(ip,) if isinstance(ip, str) else ip,
                labels=tuple(sorted(labels.items())),
                started_at=0,
                service_account="default",
                ports=ports,
                owner="",
                host_network=host_network,
            )
        )
        return uid or key

    def relabel(self, uid: str, labels: Mapping[str, str]) -> None:
        endpoint = self.state.endpoints[uid]
        number = self.identity(self.labels_of(endpoint.namespace, labels, endpoint.ports))
        self.emit(events.EndpointRelabelled(uid, number, tuple(sorted(labels.items()))))

    def stop(self, uid: str) -> None:
        self.emit(events.EndpointUnbound(uid))

    def retire(self, number: int) -> None:
        """Take an unused number back, at once free for another label set."""
        self.emit(events.IdentityRetired(number))
        self.emit(events.IdentityReleased(number))

    def policy(self, document: dict[str, Any]) -> None:
        found = read_object(document)
        for cidr in sorted(found.cidrs()):
            self.identity(label_set((cidr_label(cidr),)))
        self.emit(events.PolicyAccepted(*found.key, document, ""))

    def forget(self, namespace: str, name: str, kind: str = "NetworkPolicy") -> None:
        self.emit(events.PolicyForgotten(kind, namespace, name))

    def attachments(self, node: str) -> dict[str, Attachment]:
        """Every pod that the ledger has on `node`, attached."""
        return {
            uid: attachment(uid, self.ifindexes.setdefault(uid, 100 + len(self.ifindexes)))
            for uid in self.state.by_node.get(node, {})
        }

    def judge(self, node: str, mode: Mode = Mode.OVERLAY) -> Judge:
        """Of the node's maps as they are now, come to step by step as an agent does."""
        compiler = self.compilers.setdefault(node, Compiler())
        compiler.note(self.history[self._told.get(node, 0) :])
        self._told[node] = len(self.history)
        compiler.update(self.state, node, mode, self.attachments(node))
        return Judge(compiler.maps.copy(), mode)

    def judges(self, mode: Mode = Mode.OVERLAY) -> dict[str, Judge]:
        return {node: self.judge(node, mode) for node in self.state.nodes}

    def ip(self, key: str) -> str:
        """The address of a pod by its UID; an address stands for itself."""
        endpoint = self.state.endpoints.get(key)
        return endpoint.addresses[0] if endpoint else key

    def flow(
        self, source: str, destination: str, port: int = 80, protocol: int = 6, **where: Mode
    ) -> FlowVerdict:
        return flow_verdict(
            self.judges(**where),
            address(self.ip(source)),
            address(self.ip(destination)),
            protocol,
            port,
        )


def attachment(uid: str, ifindex: int = 100, provisional: Provisional | None = None) -> Attachment:
    mac = b"\2\0\0\0" + ifindex.to_bytes(2)
    return Attachment(uid, ifindex, mac, b"\2\1\0\0" + ifindex.to_bytes(2), provisional)


def network_policy(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def cilium_policy(name: str, namespace: str = "", **spec: Any) -> dict[str, Any]:
    """Cluster-wide without a namespace; for all its pods unless `spec` says otherwise."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": {"endpointSelector": {}, **spec},
    }


def host_policy(name: str, selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Of nodes."""
    document = cilium_policy(name, nodeSelector=selector, **spec)
    del document["spec"]["endpointSelector"]
    return document


def tiered_policy(name: str, tier: str = "Admin", priority: int = 0, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"tier": tier, "priority": priority, "subject": {"namespaces": {}}, **spec},
    }


def cidr_group(name: str, *cidrs: str) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": name},
        "spec": {"externalCIDRs": list(cidrs)},
    }
