"""The cluster's own bus: one nats-server, or several that each hold a replica of all streams."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tabard.bus.config import Address
from tabard.bus.members import free_seats, members, seats_apart, seats_on, server_name
from tabard.bus.port import Bus, BusUnavailable
from tabard.bus.server import LOOPBACK, EmbeddedServer, Guard
from tabard.cluster.errors import ClusterError, NotReached
from tabard.cluster.settings import BUS_PORT, bus_hosts
from tabard.netns.names import service_namespace

NATS = "nats"
"""The process of the only server; of several they are `nats.1` and so on."""
POLL_S = 0.05


def is_server(process: str) -> bool:
    """Whether the process of this name is a server of the bus."""
    return process.partition(".")[0] == NATS


def names(count: int) -> tuple[str, ...]:
    """The process names of the bus's servers."""
    return (NATS,) if count == 1 else tuple(map(server_name, range(1, count + 1)))


def hosts(
    count: int, netns: str, apart: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Process name → the address at which clients reach that server; `apart` has those that are in
    namespaces of their own, and not in `netns`."""
    found = bus_hosts(count) if netns else [LOOPBACK] * count
    together = dict(zip(names(count), found, strict=True))
    return {name: apart.get(name, host) for name, host in together.items()}


def servers(
    count: int,
    cluster: str,
    data: Path,
    netns: str,
    guards: Mapping[str, Guard],
    apart: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, EmbeddedServer]:
    """Process name → server, none of them started; `netns` is empty for this one. Blocks.

    `apart` as of `hosts`: all servers or none. `guards` are by name too; a server without one lets
    everybody do everything. ClusterError if `data` holds a bus of another number of servers: each
    has its own part of what the streams hold.
    """
    _keep(count, data)
    store = data / "bus"
    at = hosts(count, netns, apart)
    own = {name: service_namespace(cluster, name) for name in at.keys() & apart.keys()}
    if count == 1:
        inside = own.get(NATS, netns) or None
        monitoring = Address(at[NATS] if own else LOOPBACK, 0)
        port = BUS_PORT if netns else 0
        guard = guards.get(NATS)
        only = EmbeddedServer(
            store, at[NATS], port, netns=inside, monitoring=monitoring, guard=guard
        )
        return {NATS: only}
    if own:
        seats = seats_apart((host, own[name]) for name, host in at.items())
    else:
        seats = seats_on(at.values(), netns) if netns else free_seats(count)
    return members(cluster, store, seats, guards)


def _keep(count: int, data: Path) -> None:
    note = data / "bus-servers"
    if note.exists():
        kept = int(note.read_text())
    else:
        # A single server's store, of before there could be several.
        kept = 1 if (data / "bus" / "jetstream").exists() else count
    if kept != count:
        raise ClusterError(
            f"{data} holds a bus of {_counted(kept)}, not of {count}: streams do not move from the "
            "one to the other",
            f"tabard up --data {data} --bus-servers {kept}",
        )
    note.write_text(f"{count}\n")


def _counted(count: int) -> str:
    return "1 server" if count == 1 else f"{count} servers"


async def led(
    bus: Bus,
    servers: Collection[EmbeddedServer],
    replicas: int,
    timeout_s: float,
    check: Callable[[], None],
) -> None:
    """Wait until JetStream and each stream have a leader; streams that are absent are made.

    `servers` are the bus's own; `check` raises if waiting has become pointless. NotReached after
    `timeout_s`.
    """
    reason = "most servers of the bus are not in step"
    try:
        async with asyncio.timeout(timeout_s):
            while servers and not await _most_are_in_step(tuple(servers)):
                check()
                await asyncio.sleep(POLL_S)
            reason = "JetStream does not answer"
            while True:
                check()
                try:
                    await bus.ensure_streams(replicas)
                    return
                except BusUnavailable as error:
                    reason = str(error)
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise NotReached(
            f"the bus had no leader within {timeout_s:g} s: {reason}",
            "tabard up --data DIR, then read DIR/bus",
        ) from error


async def _most_are_in_step(servers: Sequence[EmbeddedServer]) -> bool:
    answers = await asyncio.gather(*(server.in_step() for server in servers))
    return 2 * sum(answers) > len(servers)
