"""What every trial works with: a running cluster, its bus, and its ledger folded here too."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabard.cluster.publish import Refused, outcome, publish
from tabard.cluster.supervisor import Cluster
from tabard.cluster.watermarks import enforced
from tabard.dataplane.maps import Mode
from tabard.demo.expectation import Expectation
from tabard.demo.probe import Answer, Target
from tabard.demo.reach import Reach, RealPackets, ToldPackets
from tabard.events.observed import NamespaceLabelsSet, ObservedEvent
from tabard.ledger.follow import catch_up
from tabard.ledger.state import EndpointState, State
from tabard.manifests.workloads import read_workload
from tabard.netns.enter import on_own_thread

CHANGE_TIMEOUT_S = 30.0
"""Longest wait for a change to be decided, and again for it to be enforced everywhere."""


class TrialError(Exception):
    """A trial could not be carried out, so it proved nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """When a change was sent and when the last node said that it enforces it (Unix ns)."""

    sent: int
    enforced: int


class Session:
    """The demo's view of one cluster; `state` is as of the last `refresh` or `change`."""

    def __init__(self, cluster: Cluster) -> None:
        self.bus = cluster.bus
        self.run = cluster.name
        self.mode = Mode[cluster.profile.mode.upper()]
        self.real = cluster.profile.pods == "netns"
        """Whether pods have namespaces and packets are real."""
        self.state = State()
        self.reach: Reach = (
            RealPackets(self.run) if self.real else ToldPackets(self.state, cluster.socket)
        )
        self._starts_log = cluster.data / "source" / "starts.jsonl"

    async def refresh(self) -> State:
        return await catch_up(self.bus, self.state)

    async def change(self, events: Sequence[ObservedEvent]) -> Change:
        """Publish events; returns when every node enforces what came of them."""
        sent = time.time_ns()
        decided = await outcome(self.bus, await publish(self.bus, events), CHANGE_TIMEOUT_S)
        if decided.refused:
            raise TrialError(f"the allocator refused {_named(decided.refused[0])}")
        await self.settle(decided.ledger)
        return Change(sent, time.time_ns())

    async def settle(self, sequence: int = 0) -> None:
        """Every node enforces the ledger through `sequence` and through what is there now.

        `state` is then what they enforce, and not ahead of it.
        """
        await self.refresh()
        through = max(sequence, self.state.sequence)
        await enforced(self.bus, through, list(self.state.nodes), CHANGE_TIMEOUT_S)

    async def starts(self) -> dict[str, dict[str, Any]]:
        """The source's measurements of each pod that is up, by UID."""
        return await asyncio.to_thread(_lines, self._starts_log)

    async def pods_up(
        self, timeout_s: float, tell: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Wait until every pod that the workloads ask for is bound, enforced and up."""
        deadline = time.monotonic() + timeout_s
        while True:
            await self.settle()
            wanted = sum(
                len(self.state.nodes) if workload.replicas is None else workload.replicas
                for workload in (read_workload(w.document) for w in self.state.workloads.values())
            )
            up = len(self.state.endpoints.keys() & (await self.starts()).keys())
            tell(up, wanted)
            if up == wanted == len(self.state.endpoints):
                return
            if time.monotonic() > deadline:
                raise TrialError(f"{up} of {wanted} pods came up within {timeout_s:g} s")
            await asyncio.sleep(0.05)

    async def prove_control(self) -> None:
        """Have an event decided and enforced by everyone, which takes everyone alive.

        It makes a namespace with new labels, which changes no identity that is in use.
        """
        await self.change([NamespaceLabelsSet("tabard-demo", (("seen", str(time.time_ns())),))])

    def expectation(self) -> Expectation:
        return Expectation(self.state, self.mode)

    async def probe(
        self, pod: EndpointState, targets: Sequence[Target], deadline_s: float
    ) -> list[Answer]:
        """Probe each target once as `pod`."""
        return await asyncio.to_thread(
            on_own_thread, lambda: self.reach.become(pod)(targets, deadline_s)
        )

    def pods(self, namespace: str = "", workload: str = "") -> list[EndpointState]:
        """Pods with addresses of their own, by name; of one workload if it is named."""
        return sorted(
            (
                pod
                for pod in self.state.endpoints.values()
                if pod.addresses
                and not pod.host_network
                and (not namespace or pod.namespace == namespace)
                and (not workload or pod.owner.rpartition("/")[2] == workload)
            ),
            key=lambda pod: (pod.namespace, pod.name),
        )

    def targets(self, pod: EndpointState) -> Iterator[Target]:
        """Where the pod listens: each of its addresses on each TCP and UDP containerPort."""
        kind, namespace, name = pod.owner.split("/")
        template = read_workload(self.state.workloads[kind, namespace, name].document).template
        for _, number, protocol in template.ports:
            if protocol in ("TCP", "UDP"):
                for address in pod.addresses:
                    yield Target(address, number, protocol)


def _lines(log: Path) -> dict[str, dict[str, Any]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return {line["uid"]: line for line in map(json.loads, lines)}


def _named(refused: Refused) -> str:
    return f"{refused.namespace}/{refused.name}: {refused.reason}"


def workload_of(pod: EndpointState) -> str:
    """`namespace/workload` of a pod, for tables."""
    _, namespace, name = pod.owner.split("/")
    return f"{namespace}/{name}"
