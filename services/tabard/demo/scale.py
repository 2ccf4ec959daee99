"""Trial 2: scale a frontend out under probes, and count what that cost everybody else."""

import asyncio
import copy
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from tabard.cluster.publish import publish
from tabard.cluster.watermarks import watermarks
from tabard.dataplane.maps import Mode
from tabard.demo.address_filter import AddressFilter, peer_sets
from tabard.demo.expectation import attachments
from tabard.demo.hammer import FirstPacket
from tabard.demo.probe import Answer, Target
from tabard.demo.session import CHANGE_TIMEOUT_S, Session, TrialError, workload_of
from tabard.demo.timeline import Timeline
from tabard.events.observed import WorkloadSet
from tabard.ledger.follow import follow
from tabard.ledger.state import EndpointState
from tabard.manifests.workloads import scaled
from tabard.netns.names import node_namespace
from tabard.policy.compile import Compiler

OWN_MAPS = frozenset(("endpoints", "policies"))
"""Maps that a node writes for pods of its own; an entry in any other is for somebody else's."""

Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Start:
    """One started pod; times in milliseconds, None where nobody measured."""

    pod: str
    node: str
    resolve_ms: float | None
    """From the gate's call until the pod's identity was known."""
    ready_ms: float | None
    """From the start until the pod was up: identity known, policy enforced, sockets open. Packets
    pass a little earlier, from the moment its policy stands."""
    first_packet_ms: float | None
    """From the start until a packet of a client's was first accepted."""
    known: bool
    """The label set was in the node's own cache: no trip to the bus."""
    map_writes: float = 0.0
    """Entries that the other nodes wrote for it: all started pods are alike, so each has an equal
    share of what a node wrote for those of others."""
    address_filter_writes: int = 0
    """Elements that an enforcer by address wrote on the other nodes, counted start by start."""


@dataclass(slots=True)
class NodeCost:
    """What the started pods of *other* nodes cost one node."""

    node: str
    remote_starts: int
    map_writes: int
    address_filter_writes: int = 0
    address_filter_ms: float = 0.0
    because: list[str] = field(default_factory=list)
    """The local egress rules that name the started pods."""

    @property
    def share(self) -> float:
        """Map writes for one of the pods that started elsewhere."""
        return _mean(self.map_writes, self.remote_starts)


@dataclass(slots=True)
class Scale:
    mode: str
    starts: list[Start]
    costs: list[NodeCost]
    leaked: int
    denied_probes: int

    @property
    def writes_per_start(self) -> float:
        return _mean(sum(cost.map_writes for cost in self.costs), len(self.starts))

    @property
    def writes_per_start_unasked(self) -> float:
        """On nodes where no local egress policy names the started pods."""
        return _mean(
            sum(cost.map_writes for cost in self.costs if not cost.because), len(self.starts)
        )

    @property
    def address_filter_per_start(self) -> float:
        return _mean(sum(cost.address_filter_writes for cost in self.costs), len(self.starts))


def _mean(total: float, count: int) -> float:
    return total / count if count else 0.0


async def run(
    session: Session,
    workload: tuple[str, str, str],
    replicas: int,
    client: EndpointState,
    outsider: EndpointState,
    target: tuple[int, str],
    tell: Tell,
) -> Scale:
    """Scale `workload` to `replicas`; `client` may reach `target` (port, protocol) on its pods,
    `outsider` may not."""
    await session.settle()
    accepted = session.state.workloads[workload]
    owner = "/".join(workload)
    before = {uid for uid, pod in session.state.endpoints.items() if pod.owner == owner}
    wanted = replicas - len(before)
    writes_before = await _map_writes(session)
    filters = await asyncio.to_thread(_filters, session)
    timeline = Timeline(session.expectation(), time.time_ns())
    first = FirstPacket(session.reach, client)
    never = FirstPacket(session.reach, outsider, round_s=0.1)
    started: dict[str, EndpointState] = {}
    sent = time.time_ns()
    try:
        event = WorkloadSet(scaled(accepted.document, replicas), accepted.origin)
        await publish(session.bus, [event])
        async with (
            asyncio.timeout(CHANGE_TIMEOUT_S + wanted),
            aclosing(follow(session.bus, session.state)) as records,
        ):
            async for _ in records:
                for uid, pod in list(session.state.endpoints.items()):
                    if pod.owner == owner and uid not in before and uid not in started:
                        started[uid] = pod
                        for address in pod.addresses:
                            first.watch(Target(address, *target))
                            never.watch(Target(address, *target))
                tell(len(started), wanted)
                if len(started) >= wanted:
                    break
        await session.pods_up(CHANGE_TIMEOUT_S)
        timeline.change(session.expectation(), sent, time.time_ns())
        await asyncio.sleep(0.5)
    except TimeoutError as error:
        raise TrialError(f"{len(started)} of {wanted} pods started in time") from error
    finally:
        passed = await asyncio.to_thread(first.stop)
        opened = await asyncio.to_thread(never.stop)
    measured = await session.starts()
    leaks = timeline.leaks(outsider.uid, opened.values())
    costs = _costs(session, started.values(), writes_before, await _map_writes(session))
    filtered = await asyncio.to_thread(_filter_costs, session, filters, costs, started.values())
    starts = [
        _start(
            pod,
            measured[uid],
            [answer for at, answer in passed.items() if at.address in pod.addresses],
            map_writes=sum(cost.share for cost in costs if cost.node != pod.node),
            address_filter_writes=filtered[uid],
        )
        for uid, pod in started.items()
    ]
    return Scale(session.mode.name.lower(), starts, costs, len(leaks), never.tries)


async def _map_writes(session: Session) -> dict[str, dict[str, int]]:
    words = await watermarks(session.bus, session.state.nodes)
    return {node: dict(word.status.map_writes) for node, word in words.items()}


def _start(pod: EndpointState, line: dict[str, Any], first: list[Answer], **written: Any) -> Start:
    def since_start(at: int) -> float:
        return (at - pod.started_at) / 1e6

    return Start(
        pod=f"{pod.namespace}/{pod.name}",
        node=pod.node,
        resolve_ms=line["resolve_ms"],
        ready_ms=since_start(line["ready_at"]),
        first_packet_ms=min((since_start(answer.ended) for answer in first), default=None),
        known=line["local"],
        **written,
    )


def _costs(
    session: Session,
    started: Iterable[EndpointState],
    before: dict[str, dict[str, int]],
    after: dict[str, dict[str, int]],
) -> list[NodeCost]:
    pods = list(started)
    compiler = Compiler()
    costs = []
    for node in sorted(session.state.nodes):
        written = {name: count - before[node].get(name, 0) for name, count in after[node].items()}
        own = any(pod.node == node for pod in pods)
        cost = NodeCost(
            node=node,
            remote_starts=sum(pod.node != node for pod in pods),
            map_writes=sum(
                count for name, count in written.items() if not (own and name in OWN_MAPS)
            ),
        )
        if session.mode is Mode.OVERLAY:
            remote = next((pod for pod in pods if pod.node != node), None)
            needs = (
                compiler.explain_span(
                    session.state, node, attachments(session.state, node), remote.addresses[0]
                )
                if remote is not None
                else []
            )
            rules = {
                f"{'/'.join(need.policy[1:])} {need.rule} of "
                f"{workload_of(session.state.endpoints[need.uid])}"
                for need in needs
            }
            cost.because = sorted(rules)
        costs.append(cost)
    return costs


def _filters(session: Session) -> dict[str, AddressFilter]:
    """The yardstick, brought to the state before the pods start; blocks."""
    found = {}
    for node in session.state.nodes:
        found[node] = AddressFilter(node_namespace(session.run, node) if session.real else "")
        found[node].bring_to(peer_sets(session.state, node))
    return found


def _filter_costs(
    session: Session,
    filters: dict[str, AddressFilter],
    costs: list[NodeCost],
    started: Iterable[EndpointState],
) -> dict[str, int]:
    """What the same starts cost an enforcer by address, pod by pod as they came; blocks.

    Adds to `costs`, and returns the elements written on other nodes for each pod's UID.
    """
    by_pod = {}
    state = copy.deepcopy(session.state)
    pods = sorted(started, key=lambda pod: pod.bound_at)
    arrived = {pod.uid: state.endpoints.pop(pod.uid) for pod in pods}
    for pod in pods:
        state.endpoints[pod.uid] = arrived[pod.uid]
        by_pod[pod.uid] = 0
        for cost in costs:
            written = filters[cost.node].bring_to(peer_sets(state, cost.node))
            if cost.node != pod.node:
                cost.address_filter_writes += written.elements
                cost.address_filter_ms += written.seconds * 1000
                by_pod[pod.uid] += written.elements
    return by_pod
