"""What a node's kernel holds, as its agent reads it back, and what the ledger compiles to there."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tabard.cluster.gate import ask
from tabard.dataplane.maps import Maps, Mode
from tabard.dataplane.plain import maps_of
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler

TIMEOUT_S = 30.0
"""Longest wait for one agent's answer."""
_NO_MAC = bytes(6)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A node's maps, and the pods that are attached there by UID, while its agent was to enforce
    the ledger through `sequence`."""

    sequence: int
    maps: Maps
    attached: Mapping[str, Attachment]


async def read(gate: Path) -> Kernel:
    """What the agent of this gate finds; ClusterError if it cannot be asked."""
    answer = await ask(gate, "contents", TIMEOUT_S)
    attached = {
        uid: Attachment(uid, ifindex, bytes.fromhex(mac), bytes.fromhex(host_mac))
        for uid, ifindex, mac, host_mac in answer["attached"]
    }
    return Kernel(answer["sequence"], maps_of(answer["maps"]), attached)


def wanted(state: State, node: str, mode: Mode, kernel: Kernel, gone: Collection[str] = ()) -> Maps:
    """What `state` compiles to on a node as it is attached now; a pod of it that is among `gone` is
    wanted at interface 0: where it was is not kept."""
    attached = dict(kernel.attached) | {
        uid: Attachment(uid, 0, _NO_MAC, _NO_MAC)
        for uid in state.by_node.get(node, {})
        if uid in gone
    }
    return Compiler().compile(state, node, mode, attached)
