"""Spoofing: a stranger on the underlay, or a pod, forges packets for as long as it lasts.

In each round one allowed flow is picked, and what `forgeries` makes of it is sent by `volley`.
"""

import asyncio
import socket
from contextlib import AsyncExitStack
from enum import StrEnum
from ipaddress import ip_network
from random import Random

from tabard.bus.port import BusUnavailable
from tabard.chaos.fault import Rig
from tabard.chaos.faults.forgeries import Flow, Forger, Shot, allowed_flow, liars_about
from tabard.chaos.faults.ongoing import Ongoing
from tabard.chaos.faults.ports import ip_batch
from tabard.chaos.faults.volley import Volley, fire
from tabard.chaos.record import Packet
from tabard.cluster.errors import ClusterError
from tabard.cluster.network import BRIDGE, UNDERLAY_DEVICE
from tabard.cluster.settings import UNDERLAY
from tabard.cluster.tasks import wholly
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State
from tabard.netns import enter
from tabard.netns.names import hub_namespace, service_namespace
from tabard.policy.engine import Engine

STRANGER = "stranger"
"""Its port on the hub's bridge, and the end of its namespace's name."""
STRANGER_HOST = 250
"""Its host number on the underlay; no node and no process that is apart has it, nor the next."""
ELSEWHERE = "192.0.2.7"
"""An address of no network here (RFC 5737)."""
ROUND_S = 0.1
"""Between the rounds."""
PACKETS_MAX = 20_000
"""It ends its rounds with so many."""


class Who(StrEnum):
    STRANGER = "a stranger"
    POD = "a pod"


class Spoofing:
    """`packets` are what was sent, forged ones and controls; whole once it is healed."""

    def __init__(self, who: Who) -> None:
        self.name = f"packets forged by {who}"
        self.packets: list[Packet] = []
        self._who = who
        self._undo = AsyncExitStack()
        self._rounds = Ongoing()
        self._state = State()
        self._began = False

    async def inject(self, rig: Rig, chance: Random) -> str:
        if self._who is Who.STRANGER:
            self._undo.push_async_callback(wholly, _remove_stranger, rig.run)
            await wholly(_make_stranger, rig.run)
        self._undo.push_async_callback(self._rounds.end)
        self._rounds.begin(self._go_on(rig, Random(chance.getrandbits(64))), "chaos.spoofing")
        self._began = True
        return "pods of all nodes"

    async def heal(self, rig: Rig) -> None:
        """ClusterError if nothing that was sent proves anything."""
        began, self._began = self._began, False
        await self._undo.aclose()
        if began and all(packet.kind == "pod" for packet in self.packets):
            raise ClusterError(
                f"{self.name} prove nothing: not once did the allowed packets beside them arrive"
            )

    async def _go_on(self, rig: Rig, chance: Random) -> None:
        while len(self.packets) < PACKETS_MAX:
            self.packets += await self._round(rig, chance)
            await asyncio.sleep(ROUND_S)

    async def _round(self, rig: Rig, chance: Random) -> list[Packet]:
        """Forge packets about one flow; none where no flow is allowed or its controls are lost."""
        tunnels = rig.cluster.settings.mode == "overlay"
        try:
            await catch_up(rig.bus, self._state)
        except BusUnavailable:
            tunnels = False  # for the rest, what was known before will do
        flow = allowed_flow(self._state, Engine(self._state), chance)
        if flow is None:
            return []
        forger = Forger(rig.run, flow, chance)
        volley = Volley(
            rig.run,
            flow,
            tuple(forger.controls(tunnels)),
            tuple(self._forged(rig.run, forger, flow, chance)),
            tuple(forger.controls(tunnels)),
        )
        return await wholly(fire, volley)

    def _forged(self, run: str, forger: Forger, flow: Flow, chance: Random) -> list[Shot]:
        if self._who is Who.STRANGER:
            nobodys = (str(network[STRANGER_HOST + 1]) for network in UNDERLAY)
            return forger.strangers(service_namespace(run, STRANGER), (*nobodys, ELSEWHERE))
        state = self._state
        liars = liars_about(flow, state)
        if not liars:
            return []
        liar = chance.choice(liars)
        last = (str(ip_network(cidr)[-2]) for cidr in flow.source_node.pod_cidrs)
        unused = [address for address in last if address not in state.bindings]
        return forger.liars(liar, state.nodes[liar.node], unused)


def _make_stranger(run: str) -> None:
    """A namespace on the hub's bridge, with addresses on the underlay that no node has."""
    hub, namespace = hub_namespace(run), service_namespace(run, STRANGER)
    enter.create(namespace, lambda: None)
    joined = f"link add {STRANGER} type veth peer name {UNDERLAY_DEVICE} netns {namespace}"
    ip_batch(hub, joined, f"link set {STRANGER} master {BRIDGE} up")
    addresses = (f"{network[STRANGER_HOST]}/{network.prefixlen}" for network in UNDERLAY)
    ip_batch(
        namespace,
        f"link set {UNDERLAY_DEVICE} up",
        *(f"addr add {address} dev {UNDERLAY_DEVICE} nodad" for address in addresses),
    )


def _remove_stranger(run: str) -> None:
    """As far as it is there. The kernel frees a namespace some time after its name is gone."""
    hub = hub_namespace(run)
    if STRANGER in (name for _, name in enter.call(hub, socket.if_nameindex)):
        ip_batch(hub, f"link delete {STRANGER}")
    enter.delete(service_namespace(run, STRANGER))
