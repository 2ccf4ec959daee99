"""The processes of a cluster: their arguments and environment (the contract between them). Pure."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tabard.auth.directory import Directory
from tabard.cluster import guard
from tabard.cluster.network import UNDERLAY_DEVICE
from tabard.cluster.processes import Program
from tabard.cluster.profile import Profile
from tabard.cluster.settings import (
    AGENT_SETTINGS,
    ALLOCATOR_SETTINGS,
    SERVICE_SETTINGS,
    NodePlace,
)
from tabard.netns.enter import path
from tabard.process.privileges import KERNEL, NAMESPACES

ALLOCATOR = "allocator"
SOURCE = "source"

PODS_PRIVILEGES = NAMESPACES | {"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"}
"""What making pods' namespaces takes, and listening on their ports below 1024."""


def allocator_names(number: int) -> tuple[str, ...]:
    """The process names of a cluster's allocators."""
    if number == 1:
        return (ALLOCATOR,)
    return tuple(f"{ALLOCATOR}.{index}" for index in range(1, number + 1))


def replica_name(name: str) -> str:
    """What the allocator of this process calls itself on STATUS."""
    return f"{ALLOCATOR}-{name.partition('.')[2] or 1}"


def agent_name(node: str) -> str:
    """The process name of a node's agent."""
    return f"agent.{node}"


@dataclass(frozen=True, slots=True)
class Place:
    """What all processes of a cluster share; `environment` is what they inherit."""

    profile: Profile
    log_level: str
    environment: Mapping[str, str]
    extra: Mapping[str, str] = field(default_factory=dict)
    """`Settings.extra`."""
    listeners: Mapping[str, int] = field(default_factory=dict)
    """Process name → descriptor of the socket on which it serves its page."""
    files: frozenset[str] = frozenset()
    """The capabilities that all need to use files (`privileges.for_files`)."""
    auth: Directory | None = None
    """Keys and certificates, of a bus that asks for them."""

    def program(self, name: str, data: Path, netns: str, **settings: str) -> Program:
        """The service of the process `name`, told by TABARD_… variables and by no others of that
        prefix, with no capabilities but those for files."""
        inherited = {
            key: value for key, value in self.environment.items() if not key.startswith("TABARD_")
        }
        own = {
            "NATS": ",".join(self.profile.nats),
            "CLUSTER": self.profile.name,
            "DATA": str(data),
            "LOG_LEVEL": self.log_level,
            **guard.settings(self.auth, name),
            **{key: value for key, value in self.extra.items() if key in SERVICE_SETTINGS},
            **settings,
        }
        listener = self.listeners.get(name)
        if listener is not None:
            own["HTTP"] = f"fd:{listener}"
        return Program(
            (sys.executable, "-m", f"tabard.{name.partition('.')[0]}"),
            inherited | {f"TABARD_{key}": value for key, value in own.items()},
            netns,
            () if listener is None else (listener,),
            self.files,
        )


def allocator(place: Place, netns: str, name: str = ALLOCATOR) -> Program:
    """The allocator of the process `name`, one of `allocator_names`."""
    data = Path(place.profile.data) / name
    chosen = {key: value for key, value in place.extra.items() if key in ALLOCATOR_SETTINGS}
    own = {"HOLDER": replica_name(name), "BUS_MONITORING": ",".join(place.profile.monitoring)}
    return place.program(name, data, netns, **(chosen | own))


def source(place: Place, netns: str) -> Program:
    data = Path(place.profile.data)
    program = place.program(
        SOURCE,
        data / "source",
        netns,
        PODS=place.profile.pods,
        NODES_DIR=str(data / "nodes"),
    )
    return _with(program, PODS_PRIVILEGES if place.profile.pods == "netns" else frozenset())


def agent(place: Place, node: NodePlace, namespace: str) -> Program:
    """The agent of `node`, whose namespace is empty on the memory dataplane.

    With a bus of the cluster's own the process lives in its node's namespace; with a foreign one
    it must reach that from outside, and only its dataplane thread enters the node's.
    """
    data = Path(place.profile.data) / "nodes" / node.name
    outside = bool(namespace) and not place.profile.netns
    chosen = {name: value for name, value in place.extra.items() if name in AGENT_SETTINGS}
    if run_directory := place.environment.get("TABARD_RUN_DIR"):
        chosen["RUN_DIR"] = run_directory
    program = place.program(
        agent_name(node.name),
        data,
        path(namespace) if namespace and not outside else "",
        NODE=node.name,
        UNDERLAY=",".join(str(address) for address in node.underlay),
        UNDERLAY_DEVICE=UNDERLAY_DEVICE if namespace else "",
        POD_CIDRS=",".join(str(cidr) for cidr in node.pod_cidrs),
        MODE=place.profile.mode,
        DATAPLANE=place.profile.dataplane,
        SOCKET=str(place.profile.socket(node.name)),
        NETNS=namespace if outside else "",
        **chosen,
    )
    needs = KERNEL if place.profile.dataplane == "ebpf" else frozenset()
    return _with(program, needs | NAMESPACES if outside else needs)


def _with(program: Program, capabilities: frozenset[str]) -> Program:
    return replace(program, capabilities=program.capabilities | capabilities)
