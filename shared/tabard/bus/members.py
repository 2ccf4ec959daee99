"""The servers of one JetStream cluster on this machine: where each sits, and what makes it one."""

import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tabard.bus.config import Address, Membership
from tabard.bus.server import LOOPBACK, EmbeddedServer, Guard, ServerError

CLIENT_PORT = 4222
ROUTE_PORT = 6222
MONITORING_PORT = 8222
"""What nats-server's documentation uses for each."""
PORTS_FROM = 10_240
"""Ports are looked for from here to the range out of which the kernel gives ports to those that
connect. A port of that range may be somebody's whenever its server is down for a moment; and who
tries to reach a server that is down may get such a port, and reach himself."""
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RANGE_FROM = 32_768
"""Where there is no such file."""
_TRIES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one server listens: for clients, for the other servers, and for who monitors it."""

    client: Address
    route: Address
    monitoring: Address
    netns: str | None = None
    """The network namespace that it listens in; None: this one."""


def server_name(number: int) -> str:
    """`nats.1` of 1."""
    return f"nats.{number}"


def seats_on(hosts: Iterable[str], netns: str) -> tuple[Seat, ...]:
    """One on each of `hosts`, on the usual ports, in one network namespace of the cluster's own."""
    return tuple(
        Seat(
            Address(host, CLIENT_PORT),
            Address(host, ROUTE_PORT),
            Address(LOOPBACK, MONITORING_PORT + at),
            netns,
        )
        for at, host in enumerate(hosts)
    )


def seats_apart(places: Iterable[tuple[str, str]]) -> tuple[Seat, ...]:
    """One at each (host, network namespace), monitored there too: the others cannot reach its
    loopback."""
    return tuple(
        Seat(
            Address(host, CLIENT_PORT),
            Address(host, ROUTE_PORT),
            Address(host, MONITORING_PORT),
            netns,
        )
        for host, netns in places
    )


def free_seats(count: int) -> tuple[Seat, ...]:
    """On the loopback, on ports that are free, so that several clusters run at once. Blocks."""
    ports = iter(_free_ports(3 * count))
    return tuple(
        Seat(
            Address(LOOPBACK, next(ports)),
            Address(LOOPBACK, next(ports)),
            Address(LOOPBACK, next(ports)),
        )
        for _ in range(count)
    )


def members(
    cluster: str,
    directory: Path,
    seats: Sequence[Seat],
    guards: Mapping[str, Guard] = MappingProxyType({}),
) -> dict[str, EmbeddedServer]:
    """The servers by name, each with its store below `directory`; none is started.

    A replica belongs to its server's name, so the same names must come back to the same stores.
    `guards` are by name too.
    """
    routes = tuple(seat.route for seat in seats)
    return {
        server_name(number): EmbeddedServer(
            directory / server_name(number),
            seat.client.host,
            seat.client.port,
            netns=seat.netns,
            name=server_name(number),
            monitoring=seat.monitoring,
            membership=Membership(cluster, seat.route, routes),
            guard=guards.get(server_name(number)),
        )
        for number, seat in enumerate(seats, 1)
    }


def _free_ports(count: int) -> list[int]:
    try:
        below = int(_RANGE.read_text().split()[0])
    except OSError:
        below = _RANGE_FROM
    if below - PORTS_FROM < count:
        below = _RANGE_FROM
    found: list[int] = []
    with ExitStack() as held:
        for _ in range(_TRIES_MAX):
            try:
                # At random, and held until all are found: others look for theirs at the same time.
                listener = socket.create_server((LOOPBACK, random.randrange(PORTS_FROM, below)))
            except OSError:
                continue
            held.enter_context(listener)
            found.append(listener.getsockname()[1])
            if len(found) == count:
                return found
    raise ServerError(f"no {count} free ports on {LOOPBACK} from {PORTS_FROM} to {below}")
