"""Verdicts seen in the dataplane, published in batches. A flow record may be lost, and is counted;
nothing waits for one."""

import asyncio
import time
from collections import deque

import structlog

from tabard.bus.port import Bus, BusError, Stream
from tabard.dataplane.maps import address_text
from tabard.dataplane.port import Verdict
from tabard.events.status import FlowRow, FlowsSeen
from tabard.ledger.messages import first_cause, flows

log = structlog.get_logger(__name__)

FLOWS_WAITING_MAX = 8_192
"""Flow records that wait to be published; the oldest make room."""
FLOWS_BATCH_MAX = 1_000
"""Most flow records in one event."""


class Flows:
    """A bounded queue from the dataplane to the bus."""

    def __init__(self, node: str, spacing_s: float) -> None:
        self.lost = 0
        """Records that were dropped or not taken by the bus, since the agent's start."""
        self._node = node
        self._spacing_s = spacing_s
        self._waiting: deque[Verdict] = deque(maxlen=FLOWS_WAITING_MAX)

    def deliver(self, verdicts: list[Verdict]) -> None:
        """Take what the dataplane saw; never waits, and costs little under a flood."""
        self.lost += max(0, len(self._waiting) + len(verdicts) - FLOWS_WAITING_MAX)
        self._waiting.extend(verdicts)

    def batch(self) -> FlowsSeen | None:
        """The next event to publish, its records taken off the queue; None if there is none."""
        if not self._waiting:
            return None
        count = min(len(self._waiting), FLOWS_BATCH_MAX)
        rows = tuple(_row(self._waiting.popleft()) for _ in range(count))
        return FlowsSeen(self._node, self.lost, rows)

    async def run(self, bus: Bus) -> None:
        """Publish for ever, one event at a time."""
        while True:
            await asyncio.sleep(self._spacing_s)
            if (event := self.batch()) is None:
                continue
            message = flows(event, first_cause(self._node, time.time_ns()))
            try:
                await bus.publish(Stream.FLOWS, [message])
            except BusError as error:
                self.lost += len(event.flows)
                log.warning("agent.flows_lost", lost=self.lost, error=str(error))


def _row(verdict: Verdict) -> FlowRow:
    return (
        verdict.at,
        verdict.direction.name.lower(),
        "allowed" if verdict.reason.allowed else "denied",
        verdict.reason.name.lower(),
        address_text(verdict.source),
        address_text(verdict.destination),
        verdict.source_identity,
        verdict.destination_identity,
        verdict.protocol,
        verdict.source_port,
        verdict.destination_port,
    )
