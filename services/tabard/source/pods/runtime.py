"""The PodRuntime port: bringing up and taking down one pod's network."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tabard.events.observed import PodStarted, Ports
from tabard.netns.names import host_interface, pod_mac
from tabard.source.errors import PodFailed
from tabard.source.pods.gate import Gate

GATE_TIMEOUT_MS = 5_000
"""Longest wait for a pod's identity and policy to stand."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What the agent said when the pod's policy stood; times in milliseconds."""

    identity: int
    sequence: int
    local: bool
    resolve_ms: float
    program_ms: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod, and every port that it listens on (PodStarted has those with a name only)."""

    pod: PodStarted
    ports: Ports


class PodRuntime(Protocol):
    """Calls for one pod never overlap."""

    async def start(self, wanted: Wanted) -> Attached | None:
        """Returns when the pod is guarded and answers; None if it was up all along (an earlier
        process brought it up) or has nothing to guard. PodFailed leaves nothing behind."""
        ...

    async def stop(self, pod: PodStarted) -> None:
        """Take the pod down, whether or not it was brought up. PodFailed: try again."""
        ...

    async def sweep(self, keep: Collection[str]) -> int:
        """Take down what an earlier process left of all pods but those UIDs; how many."""
        ...

    async def let_go(self) -> None:
        """Close what this process holds; pods' networks stay."""
        ...


class MemoryRuntime:
    """Asks the agents, and makes nothing: for dataplanes that judge packets in memory."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def start(self, wanted: Wanted) -> Attached | None:
        return None if wanted.pod.host_network else await attach(self._gate, wanted.pod)

    async def stop(self, pod: PodStarted) -> None:
        if not pod.host_network:
            await detach(self._gate, pod)

    async def sweep(self, keep: Collection[str]) -> int:
        return 0

    async def let_go(self) -> None:
        pass


async def attach(gate: Gate, pod: PodStarted) -> Attached:
    """Have the agent guard the pod. PodFailed if it does not say that the pod's policy stands."""
    answer = await gate.ask(
        pod.node,
        {
            "op": "attach",
            "pod": asdict(pod),
            "interface": host_interface(pod.uid),
            "mac": pod_mac(pod.uid),
            "timeout_ms": GATE_TIMEOUT_MS,
        },
        GATE_TIMEOUT_MS,
    )
    try:
        return _attached(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise PodFailed(f"the agent of {pod.node} gave an answer without {error}") from error


async def detach(gate: Gate, pod: PodStarted) -> None:
    await gate.ask(pod.node, {"op": "detach", "uid": pod.uid}, GATE_TIMEOUT_MS)


def _attached(answer: dict[str, Any]) -> Attached:
    return Attached(
        identity=int(answer["identity"]),
        sequence=int(answer["sequence"]),
        local=bool(answer["local"]),
        resolve_ms=float(answer["resolve_ms"]),
        program_ms=float(answer["program_ms"]),
    )
