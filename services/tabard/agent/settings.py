"""What an agent is told when it starts: environment variables with the prefix TABARD_."""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from tabard.agent.gate import ATTACHES_MAX
from tabard.dataplane.maps import MAP_NAMES, STALE_AFTER_S_MAX
from tabard.dataplane.port import MapSizes
from tabard.events.observed import Pairs
from tabard.identity.labels import HOSTNAME
from tabard.identity.syntax import LABEL_VALUE, LABEL_VALUE_MAX, is_dns_subdomain, is_label_key
from tabard.netns.names import RUN
from tabard.process.connection import BusSettings
from tabard.process.environment import PREFIX, Listed, LogFormat, LogLevel
from tabard.process.http import HttpAddress
from tabard.process.places import locks, run_directory


class Settings(BusSettings):
    """Times in milliseconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    cluster: str = Field(pattern=f"^{RUN.pattern}$")
    data: Path
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    http: HttpAddress = ""
    """Where /metrics, /healthz and /readyz are served; empty: nowhere."""
    node: str = Field(min_length=1)
    underlay: Listed = ()
    pod_cidrs: Listed = ()
    node_labels: Listed = ()
    """`key=value` each; what policies select nodes by, beside the hostname."""
    mode: Literal["overlay", "native"] = "overlay"
    dataplane: Literal["ebpf", "memory"] = "ebpf"
    run_dir: Path = Field(default_factory=run_directory)
    """Where the agents of this machine lock their nodes: the same for all of them."""
    socket: Path | None = None
    """The gate's; `agent.sock` in `data` if not given."""
    netns: str = ""
    """Name of the network namespace that the dataplane works in; empty: the process's own."""
    underlay_device: str = ""

    tick_spacing_ms: int = Field(default=3, ge=0)
    """Least time between two writes of the maps."""
    status_spacing_ms: int = Field(default=50, ge=1)
    status_heartbeat_ms: int = Field(default=3_000, ge=1)
    checkpoint_spacing_ms: int = Field(default=1_000, ge=1)
    digest_after_ms: int = Field(default=500, ge=1)
    """When the ledger was quiet for so long, the digest of its state is taken."""
    drift_interval_ms: int = Field(default=10_000, ge=1)
    flows_spacing_ms: int = Field(default=200, ge=1)
    offline_after_ms: int = Field(default=2_000, ge=0)
    """Without the ledger's end for so long, a started agent serves from its checkpoint."""
    staleness_after_ms: int = Field(default=30_000, ge=1_000, le=STALE_AFTER_S_MAX * 1_000)
    """An agent that did not know for so long that it enforces the ledger's head is stale; in whole
    seconds, rounded up."""
    staleness_then: Literal["hold", "deny-new"] = "hold"
    """What the kernel does then: go on, or open no new flows of the node's pods."""
    attaches_max: int = Field(default=ATTACHES_MAX, ge=1)
    rcu_expedited: bool = True
    """Whether grace periods may be expedited while a pod is attached or a write waits for one
    (`ebpf.grace`)."""

    # Most entries of each map; a full one is a closed verdict, an error and a line in the status.
    identities_max: int = Field(default=MapSizes().identities, ge=1)
    policies_max: int = Field(default=MapSizes().policies, ge=1)
    nodes_max: int = Field(default=MapSizes().nodes, ge=1)
    prefixes_max: int = Field(default=MapSizes().prefixes, ge=1)
    hosts_max: int = Field(default=MapSizes().hosts, ge=1)
    endpoints_max: int = Field(default=MapSizes().endpoints, ge=1)
    conntrack_max: int = Field(default=MapSizes().conntrack, ge=1)
    fragments_max: int = Field(default=MapSizes().fragments, ge=1)

    @field_validator("underlay")
    @classmethod
    def _addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_address(value)) for value in values)

    @field_validator("pod_cidrs")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(value)) for value in values)

    @field_validator("node_labels")
    @classmethod
    def _labels(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        keys = set()
        for label in values:
            key, separator, value = label.partition("=")
            if not (separator and is_label_key(key) and LABEL_VALUE.fullmatch(value)):
                raise ValueError(f"{label!r} is no label key=value in Kubernetes label syntax")
            if key in keys:
                raise ValueError(f"label {key} is there twice")
            keys.add(key)
        return values

    @field_validator("node")
    @classmethod
    def _node(cls, value: str) -> str:
        if not is_dns_subdomain(value):
            raise ValueError(f"{value!r} is no node name (RFC 1123 subdomain)")
        return value

    @property
    def labels(self) -> Pairs:
        """The node's labels; the hostname is its name, if nothing else is given."""
        hostname = self.node[:LABEL_VALUE_MAX].rstrip("-.")
        pairs = (label.split("=", 1) for label in self.node_labels)
        return tuple(sorted({HOSTNAME: hostname, **{key: value for key, value in pairs}}.items()))

    @property
    def socket_path(self) -> Path:
        return self.socket if self.socket is not None else self.data / "agent.sock"

    @property
    def stale_after_s(self) -> int:
        return -(-self.staleness_after_ms // 1_000)

    @property
    def denies_when_stale(self) -> bool:
        return self.staleness_then == "deny-new"

    @property
    def locks(self) -> Path:
        return locks(self.run_dir, self.cluster)

    def map_sizes(self) -> MapSizes:
        maps = (*MAP_NAMES, "conntrack", "fragments")
        return MapSizes(**{name: getattr(self, f"{name}_max") for name in maps})
