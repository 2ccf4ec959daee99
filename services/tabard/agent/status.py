"""Telling the bus: that this node is there, and how far it is."""

import asyncio
import time
import uuid
from dataclasses import replace

import structlog

from tabard.agent.checkpoints import Checkpoints
from tabard.agent.reconciler import Reconciler, Standing
from tabard.agent.report import Report
from tabard.agent.tenure import Tenure
from tabard.bus.port import Bus, BusError, Stream
from tabard.events.observed import NodeJoined
from tabard.ledger.messages import first_cause, observed, status
from tabard.ledger.state import Node

log = structlog.get_logger(__name__)

RETRY_S = 1.0
"""Wait before the bus is told again what it did not take."""
FAREWELL_S = 2.0
"""Longest that an agent's end waits for its last word to be taken."""


async def join(bus: Bus, reconciler: Reconciler, node: Node, incarnation: bytes) -> None:
    """Publish the node's facts, unless the ledger has them.

    `incarnation` (16 bytes) is the event's id, the same for every attempt of one process, so that
    an attempt whose answer was lost is stored once.
    """
    await reconciler.in_sync.wait()
    joined = observed(
        NodeJoined(node.name, node.addresses, node.pod_cidrs, node.labels),
        first_cause(node.name, time.time_ns(), incarnation),
    )
    while reconciler.state.nodes.get(node.name) != node:
        try:
            [reconciler.joined_at] = await bus.publish(Stream.OBSERVED, [joined])
        except BusError as error:
            log.warning("agent.join_failed", error=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            log.info("agent.joined", node=node.name, addresses=node.addresses)
            return


async def publish_status(
    bus: Bus,
    reconciler: Reconciler,
    report: Report,
    checkpoints: Checkpoints,
    tenure: Tenure,
    *,
    spacing_s: float,
    heartbeat_s: float,
) -> None:
    """Publish NodeStatus for ever: when it changed, and as a heartbeat.

    Nothing is said before the agent is in sync, unless there is a trouble to tell: until then the
    last word of the process before it holds. AlreadyRunning if another agent speaks for the node
    and this one is to stand down.
    """
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                await report.changed.wait()
        except TimeoutError:
            pass
        report.changed.clear()
        if reconciler.standing is Standing.IN_SYNC or report.troubles:
            try:
                await tenure.look(bus)
                await _say(bus, report, checkpoints)
            except BusError as error:
                log.warning("agent.status_failed", error=str(error))
                report.changed.set()
                await asyncio.sleep(RETRY_S)
        await asyncio.sleep(spacing_s)


async def say_farewell(
    bus: Bus, reconciler: Reconciler, report: Report, checkpoints: Checkpoints, tenure: Tenure
) -> None:
    """The last word of a process that speaks for its node: another may, from now on."""
    if not tenure.claimed or reconciler.standing is not Standing.IN_SYNC:
        return
    try:
        async with asyncio.timeout(FAREWELL_S):
            await _say(bus, report, checkpoints, stopped=True)
    except (BusError, TimeoutError) as error:
        log.warning("agent.farewell_failed", error=str(error) or "no answer in time")


async def _say(
    bus: Bus, report: Report, checkpoints: Checkpoints, *, stopped: bool = False
) -> None:
    sequence = await checkpoints.acknowledged(report.sequence)
    word = replace(report.status(), sequence=sequence, stopped=stopped)
    envelope = first_cause(report.node, time.time_ns(), uuid.uuid4().bytes)
    await bus.publish(Stream.STATUS, [status(word, envelope)])
