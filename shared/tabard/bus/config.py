"""The text of a nats-server.conf, from values. Pure.

Texts are written in double quotes with escapes, in which nats-server looks for no variables and no
includes; names, hosts and ports are held against what they may be. So no path or name adds a line.
Only `accounts` goes in as it is: a text in nats-server's own words, made by code of ours, whose
secrets' places, if any, it must have put through `quoted`.
"""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tabard.bus.port import BATCH_MESSAGES_MAX, PAYLOAD_BYTES_MAX, BusError

FREE_PORT = 0
"""A port for the server to choose; it tells which in its ports file."""
MAX_PAYLOAD_BYTES = 1 << 20
LOG_BYTES_MAX = 10 << 20
"""nats-server begins a new log beyond it, and keeps the old one beside it."""
MEMORY_BYTES_MAX = 512 << 20
"""Most that streams in memory may hold together."""
FILE_BYTES_MAX = 1 << 40
"""LEDGER reserves its max_bytes; the disk, not this number, is the limit."""
BUFFERED_MESSAGES_MAX = 2_048
"""Messages that wait to be stored in one stream, which with a sync for each takes seconds: what
comes while so many do is refused, and sent again. By nats-server's own bound, 100,000, whoever may
write to a stream can keep all others from writing and reading it for minutes after he has gone. An
atomic batch of BATCH_MESSAGES_MAX must fit in."""
SUBSCRIPTIONS_MAX = 1_024
"""Of one connection; a process has a handful. Each takes the server's memory."""
PING_S, PINGS_MAX = 2, 2
"""A server that another hears nothing of asks so often, and with so many questions open gives the
connection up. By nats-server's own bounds, 30 s and 2, requests go on being sent to it for as long:
each that would have been answered by it is lost."""
SYNC_SLACK_S = 120
"""Without syncing each write: nats-server's own interval."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ESCAPES = {'"': r"\"", "\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}

assert PAYLOAD_BYTES_MAX < MAX_PAYLOAD_BYTES
assert BATCH_MESSAGES_MAX < BUFFERED_MESSAGES_MAX


class ConfigError(BusError):
    """A value that a server cannot be configured with; names the value and what it may be."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: an IP address or a host's name, and a port (FREE_PORT: any)."""

    host: str
    port: int = FREE_PORT

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host) and not _is_ip_address(self.host):
            raise ConfigError(f"host {self.host!r} is neither an IP address nor a host's name")
        if not 0 <= self.port <= 0xFFFF:
            raise ConfigError(f"port {self.port} is not within 0 to 65535")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port or -1}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM; `ca` has the certificates of those who vouch for the other servers."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Membership:
    """A server's place in a cluster: where it hears the others, and where they hear it.

    `peers` may hold the server's own address too: one list then does for all.
    """

    name: str
    listen: Address
    peers: tuple[Address, ...]

    def __post_init__(self) -> None:
        _check_name("cluster name", self.name)
        if not self.listen.port or not all(peer.port for peer in self.peers):
            raise ConfigError("servers of a cluster find each other at fixed ports: none may be 0")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One nats-server with JetStream."""

    name: str
    """Unique within its cluster, and the same at every start: replicas belong to names."""
    listen: Address
    """For clients."""
    monitoring: Address
    """/healthz, /varz, /jsz; it asks for no credentials."""
    store: Path
    """JetStream makes its directory `jetstream` in it."""
    ports: Path | None = None
    """A directory for the file that tells the ports which the server chose; None: no such file."""
    log: Path | None = None
    """None: standard error."""
    sync_always: bool = True
    """Sync each write to disk before it is acknowledged; else every SYNC_SLACK_S."""
    membership: Membership | None = None
    """None: a server of its own."""
    tls: Tls | None = None
    """For clients; and for the other servers, which show each other who they are."""
    accounts: str = ""
    """`accounts { … }`, `authorization { … }` or an `include`, in nats-server's words, as it is."""

    def __post_init__(self) -> None:
        _check_name("server name", self.name)


def text(config: ServerConfig) -> str:
    """The configuration file."""
    lines = [
        "# Written at each start by Tabard; changes are lost.",
        f"server_name: {quoted(config.name)}",
        f"listen: {quoted(str(config.listen))}",
        f"http: {quoted(str(config.monitoring))}",
        *([f"ports_file_dir: {quoted(config.ports)}"] if config.ports else []),
        *([f"log_file: {quoted(config.log)}"] if config.log else []),
        *([f"logfile_size_limit: {LOG_BYTES_MAX}"] if config.log else []),
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        f"max_subscriptions: {SUBSCRIPTIONS_MAX}",
        "jetstream {",
        f"  store_dir: {quoted(config.store)}",
        f"  sync_interval: {'always' if config.sync_always else f'{SYNC_SLACK_S}s'}",
        f"  max_memory_store: {MEMORY_BYTES_MAX}",
        f"  max_file_store: {FILE_BYTES_MAX}",
        f"  max_buffered_msgs: {BUFFERED_MESSAGES_MAX}",
        "  limits { default_max_consumers: -1 }",
        "}",
        *_tls(config.tls, "", verify=False),
    ]
    if (place := config.membership) is not None:
        routes = (f"    {quoted(f'nats-route://{peer}')}" for peer in place.peers)
        lines += [
            "cluster {",
            f"  name: {quoted(place.name)}",
            f"  listen: {quoted(str(place.listen))}",
            f"  ping_interval: {PING_S}s",
            f"  ping_max: {PINGS_MAX}",
            "  routes: [",
            *routes,
            "  ]",
            *_tls(config.tls, "  ", verify=True),
            "}",
        ]
    if config.accounts:
        lines.append(config.accounts)
    return "\n".join(lines) + "\n"


def quoted(value: str | Path) -> str:
    """`value` as one quoted text of the configuration's language, whatever it holds."""
    return '"' + "".join(_escaped(character) for character in str(value)) + '"'


def include(file: Path, directory: Path) -> str:
    """The line that takes `file` into a configuration in `directory`; both are absolute.

    nats-server puts the directory before whatever path it is given.
    """
    return f"include {quoted(os.path.relpath(file, directory))}"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character < " " or character == "\x7f":
        return f"\\x{ord(character):02X}"
    return character


def _tls(tls: Tls | None, indent: str, *, verify: bool) -> list[str]:
    if tls is None:
        return []
    lines = [
        "tls {",
        f"  cert_file: {quoted(tls.certificate)}",
        f"  key_file: {quoted(tls.key)}",
        f"  ca_file: {quoted(tls.ca)}",
        f"  verify: {'true' if verify else 'false'}",
        "}",
    ]
    return [indent + line for line in lines]


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # what follows it may be anything


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{what} {name!r} is not usable: 1 to 64 of a-z, A-Z, 0-9 and inner '.', '_', '-'"
        )
