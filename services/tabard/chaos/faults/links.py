"""Bad links: packets of a node or a server of the bus that are lost, late or out of order.

Lateness needs a relay, since this is not in every kernel (netem). It stands between the hub's
bridge and the port, which is moved to a bridge of its own meanwhile:

    br0 ── TAP ── relay ── TAP ── late… ── port ── the namespace's eth0
"""

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.faults import relay
from tabard.chaos.faults.ports import (
    BOTH,
    Port,
    Way,
    drop,
    ip_batch,
    pass_all,
    port_of,
    table_name,
)
from tabard.chaos.faults.relay import Lateness
from tabard.chaos.faults.targets import Whom, process_of
from tabard.cluster import pids
from tabard.cluster.errors import ClusterError
from tabard.cluster.network import BRIDGE
from tabard.cluster.processes import Launched, Program
from tabard.cluster.sweep import notes
from tabard.cluster.tasks import wholly
from tabard.netns import enter
from tabard.process.privileges import for_files

STOP_TIMEOUT_S = 5.0

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TAP, _NO_PACKET_INFORMATION = 0x0002, 0x1000


class Loss:
    """Loses packets at random, each with probability `share`, ways independently.

    Which ones is up to the kernel: the seed does not say it.
    """

    def __init__(self, whom: Whom, share: float, ways: Sequence[Way] = BOTH) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"a share of {share} cannot be lost; use more than 0 and 1 at most")
        self.name = f"{share:.0%} of the packets of {whom} lost"
        self._whom = whom
        rule = f"numgen random mod 1000000 < {round(share * 1_000_000)}"
        self._rules = dict.fromkeys(ways, rule)
        self._lossy: tuple[Port, str] | None = None

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(self._whom, rig, chance)
        port = await wholly(port_of, rig, process)
        self._lossy = port, table_name(rig, "loss", port, chance)
        await wholly(drop, *self._lossy, self._rules)
        return process

    async def heal(self, rig: Rig) -> None:
        if self._lossy is not None:
            await wholly(pass_all, *self._lossy)
            self._lossy = None


class Delay:
    """Holds every packet, both ways, for as long as `lateness` says. What is held when it is healed
    is lost.

    All that it makes is named `late<digits>`. The relay is in the run's notes, so that a sweep of
    the run ends it, and the devices are gone with the relay.
    """

    def __init__(self, whom: Whom, lateness: Lateness) -> None:
        self.name = f"{_told(lateness)} to and from {whom}"
        self._whom = whom
        self._lateness = lateness
        self._undo = AsyncExitStack()
        self._relay: Launched | None = None

    async def inject(self, rig: Rig, chance: Random) -> str:
        process = await process_of(self._whom, rig, chance)
        port = await wholly(port_of, rig, process)
        name = f"late{chance.getrandbits(32):08x}"
        self._undo.push_async_callback(wholly, _remove_bridge, port.hub, name)
        ends: list[int] = []
        self._undo.callback(_close, ends)
        await wholly(_lay, port.hub, name, ends)
        await self._start(rig, name, ends, chance.getrandbits(32))
        # From now on the relay alone has the devices; frames wait in them until it reads.
        _close(ends)
        back = f"link set {port.name} master {BRIDGE}"
        self._undo.push_async_callback(wholly, ip_batch, port.hub, back)
        await wholly(ip_batch, port.hub, f"link set {port.name} master {name}")
        return process

    async def _start(self, rig: Rig, name: str, ends: Sequence[int], seed: int) -> None:
        note, log = notes(rig.data) / f"chaos.{name}", rig.data / "logs" / f"chaos.{name}.log"
        program = Program(
            (sys.executable, "-m", relay.__name__, *map(str, ends), *_words(self._lateness, seed)),
            {**os.environ, "TABARD_CLUSTER": rig.run},
            descriptors=tuple(ends),
            capabilities=for_files(Path(sys.prefix), Path(__file__)),
        )
        self._relay = Launched(program, log, STOP_TIMEOUT_S)
        for file in (note, log):
            self._undo.callback(file.unlink, missing_ok=True)
        self._undo.push_async_callback(self._relay.stop)
        await self._relay.start()
        pids.record(note, self._relay.pid)

    async def heal(self, rig: Rig) -> None:
        """ClusterError if the relay had ended: then nothing passed it, and this was a partition."""
        ended = self._relay is not None and not self._relay.pid
        self._relay = None
        await self._undo.aclose()
        if ended:
            raise ClusterError(f"the relay of `{self.name}` ended before it was healed")


def _told(lateness: Lateness) -> str:
    told = f"{lateness.delay_ms:g} ms"
    if lateness.jitter_ms:
        told += f" to {lateness.delay_ms + lateness.jitter_ms:g} ms"
    shuffled = f", but for {lateness.shuffled:.0%}," if lateness.shuffled else ""
    return f"{told} of delay{shuffled}"


def _words(lateness: Lateness, seed: int) -> tuple[str, ...]:
    values = (lateness.delay_ms, lateness.jitter_ms, lateness.shuffled, seed)
    return tuple(map(str, values))


def _lay(hub: str, name: str, ends: list[int]) -> None:
    """The port's new bridge, and a TAP device in it and one in the hub's; `ends` takes these."""
    # The hub must not answer on the new bridge for the addresses that it has on its own.
    bridge = f"link set {name} arp off addrgenmode none up"
    ip_batch(hub, f"link add {name} type bridge mcast_snooping 0", bridge)
    for suffix, master in (("a", name), ("b", BRIDGE)):
        device = f"{name}{suffix}"
        ends.append(enter.call(hub, partial(_tap, device)))
        ip_batch(hub, f"link set {device} addrgenmode none master {master} up")


def _remove_bridge(hub: str, name: str) -> None:
    """If it is there."""
    if name in (found for _, found in enter.call(hub, socket.if_nameindex)):
        ip_batch(hub, f"link delete {name}")


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _tap(name: str) -> int:
    """A new TAP device in the calling thread's namespace; it is gone when it is closed."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("=16sH22x", name.encode(), _TAP | _NO_PACKET_INFORMATION)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
