"""A flood of events: thousands in one burst, such as have an effect and such as are refused."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from random import Random

from tabard.bus.port import BusError, Outgoing, Stream
from tabard.chaos.fault import Rig
from tabard.chaos.faults.targets import Whom, process_of
from tabard.chaos.workload import RETRY_S, acknowledged
from tabard.cluster.publish import key_of
from tabard.events.codec import type_name
from tabard.events.observed import (
    NamespaceLabelsSet,
    NamespaceRemoved,
    NodeJoined,
    ObservedEvent,
    PodLabelsChanged,
    PodStopped,
    PolicyRemoved,
    PolicySet,
)
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import first_cause, observed, observed_subject
from tabard.ledger.state import EndpointState, State

PIPELINED = 500
"""Messages that are published together."""
SUBJECTS = 10
"""Namespaces and policies that the flood is about; it has nothing else of its own."""
PODS_MAX = 6
VALUES = 8
"""Different labels that one pod or namespace gets: identities are not to run out."""
NODE_WORDS = 200
"""What one node says that cannot be read: a refusal counts as 100 of the 4,096 events that it may
cause at once, so most are passed over."""
KIND = "NetworkPolicy"

Told = tuple[Outgoing, str]
"""A message, and what kind of event it holds."""


class Flood:
    """Labels of running pods and of namespaces, that end as they began; policies that nobody could
    enforce; words of pods that nobody knows; and junk from one node. All are acknowledged when
    `inject` returns."""

    def __init__(self, events: int = 3_000) -> None:
        self.name = f"a flood of {events} events"
        self._events = events
        self._begun = False

    async def inject(self, rig: Rig, chance: Random) -> str:
        node = (await process_of(Whom.AGENT, rig, chance)).partition(".")[2]
        state = await catch_up(rig.bus, State())
        known = sorted(state.endpoints.values(), key=lambda pod: pod.uid)
        pods = chance.sample(known, min(PODS_MAX, len(known)))
        self._begun = True
        flood = [_told(_drawn(pods, chance)) for _ in range(self._events - NODE_WORDS)]
        flood += [_junk(node, chance) for _ in range(NODE_WORDS)]
        chance.shuffle(flood)
        flood += [_told(PodLabelsChanged(pod.uid, pod.labels)) for pod in pods]
        await _publish(rig, flood)
        return f"{len(flood)} events, {NODE_WORDS} of them by node {node}"

    async def heal(self, rig: Rig) -> None:
        if self._begun:
            await _publish(rig, map(_told, _ends()))
            self._begun = False


def _drawn(pods: list[EndpointState], chance: Random) -> ObservedEvent:
    value, number = str(chance.randrange(VALUES)), chance.randrange(SUBJECTS)
    draw = chance.random()
    if draw < 0.3 and pods:
        pod = chance.choice(pods)
        return PodLabelsChanged(
            pod.uid, tuple(sorted({**dict(pod.labels), "flood": value}.items()))
        )
    if draw < 0.6:
        return NamespaceLabelsSet(_named(number), (("flood", value),))
    if draw < 0.7:
        metadata = {"name": _named(number), "namespace": _named(number)}
        return PolicySet({"kind": KIND, "metadata": metadata, "spec": {"flood": value}}, "flood")
    uid = chance.randbytes(8).hex()
    return PodStopped(uid) if draw < 0.85 else PodLabelsChanged(uid, (("flood", value),))


def _ends() -> Iterator[ObservedEvent]:
    for number in range(SUBJECTS):
        yield PolicyRemoved(KIND, _named(number), _named(number))
        yield NamespaceRemoved(_named(number))


def _named(number: int) -> str:
    return f"flood-{number}"


def _told(event: ObservedEvent) -> Told:
    return observed(event, first_cause(key_of(event), time.time_ns())), type_name(event)


def _junk(node: str, chance: Random) -> Told:
    """On a node's own subject, which holds nobody up."""
    subject = observed_subject(NodeJoined(node, (), ()))
    return Outgoing(subject, chance.randbytes(64), chance.randbytes(16).hex()), "junk"


async def _publish(rig: Rig, flood: Iterable[Told]) -> None:
    """All of it in its order, each with one id however often it is sent."""
    waiting = list(flood)
    while batch := waiting[:PIPELINED]:
        messages = [message for message, _ in batch]
        try:
            sequences = await rig.bus.publish(Stream.OBSERVED, messages)
        except BusError:  # away, or it refuses for now
            await asyncio.sleep(RETRY_S)
            continue
        rig.acknowledged.extend(
            acknowledged(message, sequence, kind)
            for (message, kind), sequence in zip(batch, sequences, strict=True)
        )
        del waiting[:PIPELINED]
