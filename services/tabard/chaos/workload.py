"""The workload: publishes what happens as a source would, and keeps what was acknowledged."""

import asyncio
import time
from collections.abc import Iterable
from hashlib import blake2b
from random import Random

from tabard.bus.port import BusError, Outgoing, Stream
from tabard.chaos.fault import Rig
from tabard.chaos.happenings import Happening, Happenings, Relabel
from tabard.chaos.record import Acknowledged, Record
from tabard.cluster.publish import key_of
from tabard.events.codec import type_name
from tabard.events.observed import NamespaceLabelsSet, ObservedEvent, PodLabelsChanged
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.reader import Stopped
from tabard.ledger.state import EndpointState, State

RATE_PER_S = 2.0
"""Happenings a second. More of them, and almost everything is allowed by one of the states that
may be in force at a moment, so that nothing is proved."""
RETRY_S = 0.1


class Workload:
    """`begin` what there is all the time; then it goes on while `run` runs and is not `paused`."""

    def __init__(
        self, rig: Rig, record: Record, chance: Random, rate_per_s: float = RATE_PER_S
    ) -> None:
        nodes = [node.name for node in rig.cluster.nodes]
        self._bus = rig.bus
        self._record = record
        self._happenings = Happenings(chance, nodes)
        self._pace_s = 1 / rate_per_s
        self._state = State()
        self._go = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def begin(self) -> None:
        """Publish what there is in the beginning; returns once all of it is acknowledged."""
        for happening in self._happenings.base():
            await self._carry_out(happening)

    async def run(self) -> None:
        """For ever; begins paused. What it waits for when it is cancelled counts as unanswered."""
        while True:
            await self._go.wait()
            self._idle.clear()
            try:
                await self._carry_out(self._happenings.next())
            finally:
                self._idle.set()
            await asyncio.sleep(self._pace_s)

    def resume(self) -> None:
        self._go.set()

    async def pause(self) -> None:
        """Returns once nothing is on its way; while the bus is away it waits."""
        self._go.clear()
        await self._idle.wait()

    async def mark(self) -> int:
        """Publish an event that changes no identity in use; its sequence on OBSERVED."""
        labels = (("seen", str(time.time_ns())),)
        return await self._publish(NamespaceLabelsSet("chaos", labels))

    async def _carry_out(self, happening: Happening) -> None:
        if isinstance(happening, Relabel):
            pod = await self._running(happening)
            if pod is None:
                return  # it is not bound, or no more
            await self._publish(PodLabelsChanged(pod.uid, happening.labels))
        else:
            await self._publish(happening)

    async def _running(self, wanted: Relabel) -> EndpointState | None:
        while True:
            try:
                await catch_up(self._bus, self._state)
                break
            except (BusError, Stopped):  # for good? then the watch tells, who reads it too
                await asyncio.sleep(RETRY_S)
        return pod_named(self._state.endpoints.values(), wanted.namespace, wanted.name)

    async def _publish(self, event: ObservedEvent) -> int:
        """Until it is acknowledged, with one id, so that it is stored once; its sequence."""
        message = observed(event, first_cause(key_of(event), time.time_ns()))
        self._record.unanswered += 1
        while True:
            try:
                sequences = await self._bus.publish(Stream.OBSERVED, [message])
                break
            except BusError:  # away, or it refuses for now: its disk is full, or it is flooded
                await asyncio.sleep(RETRY_S)
        self._record.unanswered -= 1
        self._record.acknowledged.append(acknowledged(message, sequences[0], type_name(event)))
        return sequences[0]


def acknowledged(message: Outgoing, sequence: int, kind: str) -> Acknowledged:
    """The bus's word, just now, that it holds `message` at OBSERVED/`sequence`."""
    digest = blake2b(message.payload, digest_size=16).hexdigest()
    return Acknowledged(sequence, message.id, digest, kind, time.time_ns())


def pod_named(pods: Iterable[EndpointState], namespace: str, name: str) -> EndpointState | None:
    return next((pod for pod in pods if (pod.namespace, pod.name) == (namespace, name)), None)
