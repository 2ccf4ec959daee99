"""The workload: publishes what happens as a source would, and keeps what was acknowledged."""

import asyncio
import time
from collections.abc import Sequence
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
from tabard.ledger.state import State

RATE_PER_S = 6.0
"""Happenings a second: enough that a fault finds decisions under way, and few enough that most of
what may pass at a moment does so by one state, not by another that may be in force as well."""
BACKLOG_MAX = 256
"""Most happenings of a time without a bus that are told once it is back; the others never were."""
RETRY_S = 0.1


class Workload:
    """`begin` what there is all the time; then it goes on while `run` runs, between `resume` and
    `pause`. What happens while the bus is away is published when it is back, all at once."""

    def __init__(self, rig: Rig, record: Record, chance: Random) -> None:
        nodes = [node.name for node in rig.cluster.nodes]
        self._bus = rig.bus
        self._record = record
        self._happenings = Happenings(chance, nodes)
        self._state = State()
        self._told_at = 0.0
        """Through when what happens was told, by the loop's clock."""
        self._go = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def begin(self) -> None:
        """Publish what there is in the beginning; returns once all of it is acknowledged."""
        await self._tell(self._happenings.base())

    async def run(self) -> None:
        """For ever; begins paused. What it waits for when it is cancelled counts as unanswered."""
        while True:
            await self._go.wait()
            self._idle.clear()
            try:
                await self._tell_through(asyncio.get_running_loop().time())
            finally:
                self._idle.set()
            await asyncio.sleep(1 / self._record.rate_per_s)

    def resume(self) -> None:
        self._told_at = asyncio.get_running_loop().time()
        self._go.set()

    async def pause(self) -> None:
        """Nothing more happens from now on. Returns once all that happened is acknowledged; while
        the bus is away it waits."""
        went_on, now = self._go.is_set(), asyncio.get_running_loop().time()
        self._go.clear()
        await self._idle.wait()
        if went_on:
            await self._tell_through(now)

    async def mark(self) -> int:
        """Publish an event that changes no identity in use; its sequence on OBSERVED."""
        labels = (("seen", str(time.time_ns())),)
        return (await self._publish([NamespaceLabelsSet("chaos", labels)]))[0]

    async def _tell_through(self, now: float) -> None:
        rate = self._record.rate_per_s
        if due := int((now - self._told_at) * rate):
            self._told_at += due / rate
            await self._tell([self._happenings.next() for _ in range(min(due, BACKLOG_MAX))])

    async def _tell(self, happenings: Sequence[Happening]) -> None:
        if any(isinstance(happening, Relabel) for happening in happenings):
            await self._catch_up()
        events = [event for each in happenings if (event := self._event(each)) is not None]
        if events:
            await self._publish(events)

    def _event(self, happening: Happening) -> ObservedEvent | None:
        """None for a pod that is not bound, or no more."""
        if not isinstance(happening, Relabel):
            return happening
        name = (happening.namespace, happening.name)
        for pod in self._state.endpoints.values():
            if (pod.namespace, pod.name) == name:
                return PodLabelsChanged(pod.uid, happening.labels)
        return None

    async def _catch_up(self) -> None:
        while True:
            try:
                await catch_up(self._bus, self._state)
                return
            except (BusError, Stopped):  # for good? then the watch tells, who reads it too
                await asyncio.sleep(RETRY_S)

    async def _publish(self, events: Sequence[ObservedEvent]) -> list[int]:
        """Until all are acknowledged, each with one id, so that it is stored once; their
        sequences."""
        now = time.time_ns()
        messages = [observed(event, first_cause(key_of(event), now)) for event in events]
        self._record.unanswered += len(messages)
        while True:
            try:
                sequences = await self._bus.publish(Stream.OBSERVED, messages)
                break
            except BusError:  # away, or it refuses for now: its disk is full, or it is flooded
                await asyncio.sleep(RETRY_S)
        self._record.unanswered -= len(messages)
        self._record.acknowledged += map(acknowledged, messages, sequences, map(type_name, events))
        return sequences


def acknowledged(message: Outgoing, sequence: int, kind: str) -> Acknowledged:
    """The bus's word, just now, that it holds `message` at OBSERVED/`sequence`."""
    digest = blake2b(message.payload, digest_size=16).hexdigest()
    return Acknowledged(sequence, message.id, digest, kind, time.time_ns())
