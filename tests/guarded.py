"""Dataplanes on a topology's nodes, their maps written by hand: what real packets meet."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from entries import ISOLATED, allowing
from kernel import COMPILED, SMALL, cluster_name
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.pins import BPF_ROOT
from tabard.dataplane.maps import (
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    address,
)
from tabard.dataplane.port import NodeConfig
from tabard.policy.diff import diff
from topology import Echo, Node, Pod, Topology, topology

CLIENT, SERVER, OTHER = 300, 301, 302
SERVER_POLICY, FREE_POLICY, NODE_POLICY = 11, 12, 13
ALLOWED_PORT, DENIED_PORT = 8080, 8081


@dataclass
class Cluster:
    """Dataplanes on a topology's nodes: client and other may speak to whom they like, the server
    accepts the client on one port, TCP and UDP."""

    mode: Mode
    v: int
    topology: Topology
    name: str = field(default_factory=cluster_name)
    dataplanes: dict[Node, EbpfDataplane] = field(default_factory=dict)
    pods: dict[Pod, tuple[int, int]] = field(default_factory=dict)
    """Pod → identity, interface index."""
    guarded: dict[Node, tuple[EndpointFlag, list[PolicyKey]]] = field(default_factory=dict)
    """Nodes that policies select: flags, and what is allowed, under policy NODE_POLICY."""

    def start(self, node: Node, **options: object) -> EbpfDataplane:
        config = NodeConfig(
            node.namespace,
            self.mode,
            (address(node.v4), address(node.v6)),
            underlay_device="eth0",
        )
        dataplane = EbpfDataplane(
            config,
            cluster=self.name,
            sizes=options.pop("sizes", SMALL),  # type: ignore[arg-type]
            netns=node.namespace,
            compiled=COMPILED,
            **options,  # type: ignore[arg-type]
        )
        self.dataplanes[node] = dataplane
        dataplane.open()
        return dataplane

    def add(self, pod: Pod, identity: int) -> Pod:
        ifindex, mac = self.dataplanes[pod.node].attach(pod.uid, pod.interface)
        assert mac == pod.host_mac
        self.pods[pod] = (identity, ifindex)
        return pod

    def maps(self, node: Node) -> Maps:
        """What a node's agent would compile."""
        endpoints, hosts = {}, {}
        for pod, (identity, ifindex) in self.pods.items():
            if pod.node == node:
                server = identity == SERVER
                endpoints |= pod.endpoints(
                    ifindex,
                    identity,
                    SERVER_POLICY if server else FREE_POLICY,
                    ISOLATED if server else EndpointFlag(0),
                )
            elif self.mode is Mode.NATIVE:
                hosts |= {address(pod.v4): identity, address(pod.v6): identity}
        prefixes = {
            (address("0.0.0.0"), 96): PrefixEntry(2),
            (address("::"), 0): PrefixEntry(2),
        }
        for other in self.topology.nodes:
            overlay = self.mode is Mode.OVERLAY and other != node
            tunnel = other.underlay(self.v) if overlay else b""
            entry = PrefixEntry(0, PrefixFlag.POD_RANGE, tunnel)
            prefixes[address(f"10.{other.number}.0.0"), 112] = entry
            prefixes[address(f"fd00:{other.number}::"), 64] = entry
            for place in (other.v4, other.v6):
                hosts[address(place)] = 1 if other == node else 6
        flags, keys = self.guarded.get(node, (None, []))
        if flags is not None:
            itself = Endpoint(7, 1, NODE_POLICY, flags | EndpointFlag.NODE, 0, bytes(6), bytes(6))
            endpoints |= {address(place): itself for place in (node.v4, node.v6)}
        return Maps(
            identities=frozenset({1, 2, 6, CLIENT, SERVER, OTHER}),
            policies=allowing(
                PolicyKey(SERVER_POLICY, Direction.INGRESS, CLIENT, protocol, ALLOWED_PORT, 16)
                for protocol in (Protocol.TCP, Protocol.UDP)
            )
            | allowing(keys),
            nodes=frozenset(
                address(place)
                for other in self.topology.nodes
                if other != node
                for place in (other.v4, other.v6)
            ),
            prefixes=prefixes,
            hosts=hosts,
            endpoints=endpoints,
        )

    def write(self) -> None:
        for node, dataplane in self.dataplanes.items():
            dataplane.write(diff(dataplane.read(), self.maps(node)))

    def remove(self) -> None:
        for dataplane in self.dataplanes.values():
            dataplane.remove()


@contextlib.contextmanager
def cluster(mode: Mode, nodes: int, v: int = 4) -> Iterator[Cluster]:
    with topology() as made:
        for _ in range(nodes):
            made.node()
        if mode is Mode.NATIVE:
            made.route_pods_natively()
        one = Cluster(mode, v, made)
        try:
            yield one
        finally:
            one.remove()
    assert not (BPF_ROOT / "tabard" / one.name).exists()


@dataclass
class Scene:
    cluster: Cluster
    client: Pod
    server: Pod
    other: Pod


@contextlib.contextmanager
def scene(mode: Mode, nodes: int, v: int = 4) -> Iterator[Scene]:
    """The server on the last node, client and other on the first; echoes on both ports."""
    with cluster(mode, nodes, v) as one, contextlib.ExitStack() as stack:
        for node in one.topology.nodes:
            one.start(node)
        first, last = one.topology.nodes[0], one.topology.nodes[-1]
        made = Scene(
            one,
            one.add(one.topology.pod(first), CLIENT),
            one.add(one.topology.pod(last), SERVER),
            one.add(one.topology.pod(first), OTHER),
        )
        one.write()
        for port in (ALLOWED_PORT, DENIED_PORT):
            stack.callback(Echo(made.server.namespace, port).stop)
        yield made
