"""What `tabard up` was asked for, and the names and addresses that follow from it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from pathlib import Path
from typing import Literal

from tabard.cluster.errors import ClusterError
from tabard.netns.names import RUN

NODES_MAX = 100
"""Most nodes on one machine; each is a namespace and a process."""

UNDERLAY: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("198.18.0.0/24"),
    IPv6Network("fd00:c612::/64"),
)
"""The hub's networks (the first of RFC 2544's benchmarking range: no real network's addresses)."""
HUB: tuple[IPv4Interface | IPv6Interface, ...] = (
    IPv4Interface("198.18.0.1/24"),
    IPv6Interface("fd00:c612::1/64"),
)
BUS_PORT = 4222
APART_FROM = 200
"""Host number on the underlay of the first process with its own namespace: above all nodes'."""

BUS_SERVERS = (1, 3, 5)
"""How many servers hold the bus: a majority of them must be up, so an even number gains nothing."""
ALLOCATORS_MAX = 9
"""Most allocators of one cluster: one leads, and each other costs what a leader costs in memory."""

SERVICE_SETTINGS = ("LOG_FORMAT", "LOG_LEVEL")
"""Settings of every service."""
INSTALL_SETTINGS = (
    "LABELS_INCLUDE",
    "LABELS_EXCLUDE",
    "NUMBERS_CLUSTER_ID",
    "NUMBERS_CLUSTER_BITS",
    "FIXED",
    "RETIRE_GRACE_MS",
    "NAMES_KEPT_MS",
    "ENFORCEMENT",
)
"""Settings of the allocator that the first start writes to the ledger, for good; a later start may
change ENFORCEMENT alone."""
ALLOCATOR_SETTINGS = (
    *INSTALL_SETTINGS,
    "SILENCE_MS",
    "NODE_LOST_MS",
    "RELABEL_TIMEOUT_MS",
    "NODE_RANGES",
    "SNAPSHOT_EVENTS",
    "SNAPSHOT_MS",
    "BUS_MONITORING",
    "BUS_READ_MS",
)
"""Settings of every allocator: those of the install, after how long a silence of the leader another
one leads, for how long nodes are waited for and what they may claim, when a snapshot is due, where
the servers of a bus that is not the cluster's own are monitored, and how often the bus's replicas
are read."""
AGENT_SETTINGS = (
    "IDENTITIES_MAX",
    "POLICIES_MAX",
    "NODES_MAX",
    "PREFIXES_MAX",
    "HOSTS_MAX",
    "ENDPOINTS_MAX",
    "CONNTRACK_MAX",
    "FRAGMENTS_MAX",
    "DRIFT_INTERVAL_MS",
    "RCU_EXPEDITED",
    "NODE_LABELS",
    "STALENESS_AFTER_MS",
    "STALENESS_THEN",
)
"""Settings of every agent: the sizes of its maps, how often it compares them, whether it has grace
periods expedited, labels of its node, and how old what it knows may be."""

ModeName = Literal["overlay", "native"]
PodsName = Literal["netns", "memory", "none"]
DataplaneName = Literal["ebpf", "memory"]


@dataclass(frozen=True, slots=True)
class Settings:
    """A cluster as it was asked for; what is empty or None is chosen at the start."""

    name: str = ""
    nodes: int = 3
    allocators: int = 1
    mode: ModeName = "overlay"
    pods: PodsName | None = None
    dataplane: Literal["auto", "ebpf", "memory"] = "auto"
    nats: tuple[str, ...] = ()
    """URLs of an existing bus; empty: one of the cluster's own, of `bus_servers`."""
    bus_servers: int = 1
    apart: bool = False
    """Whether each server of its own bus and each allocator lives in a network namespace of its
    own, so that a fault can cut off one alone; takes root and eBPF. Else all are in the hub's."""
    secure: bool = False
    """Whether its own bus is guarded: TLS, and a key with the least rights for each process."""
    auth: Path | None = None
    """The auth directory of an existing bus that is guarded."""
    replicas: int = 1
    """On an existing bus; its own servers hold one each."""
    data: Path | None = None
    """Kept if given; otherwise a temporary directory, removed at the end."""
    ready_timeout_s: float = 60.0
    restart_delay_ms: int = 100
    """Wait before a process that exited is started again; doubles with each exit in a row."""
    restart_delay_ms_max: int = 5_000
    stop_timeout_s: float = 5.0
    """From SIGTERM to SIGKILL."""
    log_level: str = "info"
    extra: Mapping[str, str] = field(default_factory=dict)
    """More settings of the processes, by name without TABARD_ (those listed above)."""

    def __post_init__(self) -> None:
        if self.name and not RUN.fullmatch(self.name):
            raise ClusterError(
                f"cluster name {self.name!r} is not usable: 1 to 16 of a-z, 0-9 and inner '-'"
            )
        if not 1 <= self.nodes <= NODES_MAX:
            raise ClusterError(f"{self.nodes} nodes asked for; 1 to {NODES_MAX} are possible")
        if self.bus_servers not in BUS_SERVERS or self.replicas not in BUS_SERVERS:
            raise ClusterError("a bus has 1, 3 or 5 servers, and as many replicas of a stream")
        if self.nats and self.bus_servers > 1:
            raise ClusterError("either an existing bus is used, or one of several servers is made")
        if self.apart and (self.nats or self.dataplane == "memory"):
            raise ClusterError(
                "servers and allocators have namespaces of their own only with a bus of the "
                "cluster's own and the ebpf dataplane"
            )
        if self.secure and self.nats:
            raise ClusterError(
                "an existing bus is guarded by whoever runs it; its auth directory is what counts",
                "tabard up --nats URL --auth DIR",
            )
        if self.auth and not self.nats:
            raise ClusterError(
                "an auth directory is one of an existing bus; a bus of its own makes another",
                "tabard up --secure",
            )
        if not 1 <= self.allocators <= ALLOCATORS_MAX:
            raise ClusterError(
                f"{self.allocators} allocators asked for; 1 to {ALLOCATORS_MAX} are possible"
            )
        known = (*SERVICE_SETTINGS, *ALLOCATOR_SETTINGS, *AGENT_SETTINGS)
        if unknown := sorted(self.extra.keys() - set(known)):
            raise ClusterError(
                f"there is no setting {unknown[0]!r}; settings are {', '.join(known)}"
            )

    @property
    def monitoring(self) -> tuple[str, ...]:
        """Where the servers of a bus are monitored that is not the cluster's own."""
        urls = self.extra.get("BUS_MONITORING", "").split(",")
        return tuple(url.strip() for url in urls if url.strip()) if self.nats else ()

    @property
    def stream_replicas(self) -> int:
        """How often each stream is held."""
        return self.replicas if self.nats else self.bus_servers


def bus_hosts(servers: int) -> tuple[str, ...]:
    """The hub's addresses for the servers of a bus, on BUS_PORT each."""
    return tuple(str(HUB[0].ip + at) for at in range(servers))


def apart_hosts(processes: Iterable[str]) -> dict[str, str]:
    """Process → its address on the underlay, of those with a network namespace of their own."""
    return {name: str(UNDERLAY[0][APART_FROM + at]) for at, name in enumerate(processes)}


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node's names and addresses; `index` counts from 1."""

    index: int

    @property
    def name(self) -> str:
        return f"n{self.index}"

    @property
    def underlay(self) -> tuple[IPv4Address | IPv6Address, ...]:
        return tuple(network[10 + self.index] for network in UNDERLAY)

    @property
    def pod_cidrs(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """10.244.<i>.0/24 and fd00:244:<i>::/64."""
        return (
            ip_network(f"10.244.{self.index}.0/24"),
            ip_network(f"fd00:244:{self.index:x}::/64"),
        )


def places(nodes: int) -> tuple[NodePlace, ...]:
    return tuple(NodePlace(index) for index in range(1, nodes + 1))


def pods_for(dataplane: DataplaneName, asked: PodsName | None) -> PodsName:
    """Which pods a dataplane can guard. ClusterError for a pair in which packets pass unjudged."""
    match dataplane, asked:
        case "ebpf", None:
            return "netns"
        case "memory", None:
            return "memory"
        case "memory", "netns":
            raise ClusterError(
                "--pods netns needs the ebpf dataplane: real packets of real pods would pass a "
                "memory dataplane unjudged",
                "tabard up --pods memory",
            )
        case "ebpf", "memory":
            raise ClusterError(
                "--pods memory has no interfaces that the ebpf dataplane could guard",
                "tabard up --pods netns",
            )
        case _, pods:
            assert pods is not None
            return pods
