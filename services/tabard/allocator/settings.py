"""What an allocator is told when it starts: environment variables with the prefix TABARD_."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from tabard.allocator.commands import Limits
from tabard.events.ledger import Enforcement, SettingsAdopted
from tabard.identity.labels import LabelFilter, label_set
from tabard.identity.numbers import FIXED_MAX, FIXED_MIN, NumberSpace
from tabard.netns.names import RUN
from tabard.process.connection import BusSettings
from tabard.process.environment import PREFIX, Listed, LogFormat, LogLevel, from_json
from tabard.process.http import HttpAddress


class Settings(BusSettings):
    """Times in milliseconds. All but the first four groups are set at install, for ever, save
    `enforcement`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    data: Path
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    http: HttpAddress = ""
    """Where /metrics, /healthz and /readyz are served; empty: nowhere."""
    holder: str = Field(default="allocator", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    """Name of this allocator, and of no other; each of its processes adds what makes it unique."""

    bus_monitoring: Listed = ()
    """Where the bus's servers are monitored, http://HOST:PORT each; empty: their replicas' health
    is not looked after."""
    bus_read_ms: int = Field(default=3_600_000, ge=0)
    """How often all replicas are read, slowly; 0: never, then only what servers count is told."""

    tick_ms: int = Field(default=1_000, ge=10)
    checkpoint_ms: int = Field(default=10_000, ge=10)
    node_lost_ms: int = Field(default=600_000, ge=1_000)
    """How long a node may get no further before nothing waits for it any more."""
    relabel_timeout_ms: int = Field(default=3_000, ge=0)
    """How long a running pod's new identity waits for all nodes to know it."""
    node_ranges: Listed = ()
    """CIDRs in which addresses and pod CIDRs of nodes must lie; empty: anywhere. A node in other
    hands could else claim the addresses of others outside, and have pods' traffic to them."""
    silence_ms: int = Field(default=2_000, ge=100)
    """Another takes the lead after so much silence of the leader."""
    snapshot_events: int = Field(default=100_000, ge=1)
    """A snapshot is due after so many events …"""
    snapshot_ms: int = Field(default=3_600_000, ge=1_000)
    """… or after so long, if there were any; the first one after a minute."""

    cluster: str = Field(pattern=f"^{RUN.pattern}$")
    numbers_cluster_id: int = 0
    numbers_cluster_bits: int = 8
    labels_include: Annotated[tuple[str, ...], NoDecode, BeforeValidator(from_json)] = ()
    """Regular expressions of label keys, as JSON; see tabard.identity.labels.LabelFilter."""
    labels_exclude: Annotated[tuple[str, ...], NoDecode, BeforeValidator(from_json)] = ()
    fixed: Annotated[dict[int, tuple[str, ...]], NoDecode, BeforeValidator(from_json)] = Field(
        default_factory=dict
    )
    """Identities fixed by the operator, as JSON: `{"128": ["k8s:app=dns", …]}`."""
    retire_grace_ms: int = Field(default=300_000, ge=0)
    """How long an identity without users is kept."""
    names_kept_ms: int = Field(default=3_600_000, ge=0)
    """How long at least an address stands for a domain name after it was last said to."""
    enforcement: Enforcement | None = None
    """What a later start may change; None leaves it as the ledger has it, `default` at first."""

    @field_validator("node_ranges")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(value)) for value in values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        NumberSpace(self.numbers_cluster_id, self.numbers_cluster_bits)
        LabelFilter(self.labels_include, self.labels_exclude)
        sets = set()
        for number, labels in self.fixed.items():
            if not FIXED_MIN <= number <= FIXED_MAX:
                raise ValueError(f"fixed: {number} does not lie in {FIXED_MIN}-{FIXED_MAX}")
            if not labels or not all(re.fullmatch(r"[a-z0-9-]+:\S+", label) for label in labels):
                raise ValueError(f"fixed: {number} needs labels of the form source:key=value")
            sets.add(label_set(labels))
        if len(sets) < len(self.fixed):
            raise ValueError("fixed: one label set has two numbers")
        return self

    def limits(self) -> Limits:
        return Limits(self.node_lost_ms, self.relabel_timeout_ms)

    def adopted(self) -> SettingsAdopted:
        """What a new ledger says of them."""
        return SettingsAdopted(
            cluster=self.cluster,
            cluster_id=self.numbers_cluster_id,
            cluster_bits=self.numbers_cluster_bits,
            include=self.labels_include,
            exclude=self.labels_exclude,
            fixed=tuple(
                (number, label_set(labels)) for number, labels in sorted(self.fixed.items())
            ),
            retire_grace_ms=self.retire_grace_ms,
            names_kept_ms=self.names_kept_ms,
            enforcement=self.enforcement or "default",
        )
