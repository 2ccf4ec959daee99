"""Trial 4: SIGKILL every agent and the allocator under traffic. The kernel goes on enforcing."""

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tabard.cluster.programs import ALLOCATOR, agent_name
from tabard.cluster.supervisor import Cluster
from tabard.demo.hammer import Hammer
from tabard.demo.probe import Target
from tabard.demo.session import Session, TrialError
from tabard.demo.stream import UdpStream
from tabard.demo.timeline import Timeline
from tabard.ledger.state import EndpointState
from tabard.netns.names import pod_namespace

SETTLE_S = 1.0
"""Traffic before the kill and after the takeover."""
DOWN_S = 3.0
ROUND_S = 0.2


@dataclass(slots=True)
class Outage:
    killed: int
    flows: int
    sent: int
    lost: int
    """Datagrams of established, allowed flows that were not answered."""
    new_connections: int
    """Connections of allowed pairs that were opened while nobody controlled the kernel."""
    denied_probes: int
    leaked: int
    takeover_ms: float
    """From starting the processes again until every node enforces the ledger's head."""


async def run(
    session: Session,
    cluster: Cluster,
    flows: Sequence[tuple[EndpointState, Target]],
    denied: Sequence[tuple[EndpointState, Sequence[Target]]],
    allowed: tuple[EndpointState, Target],
) -> Outage:
    """`flows` are allowed UDP pairs, `denied` pairs that are not, `allowed` a TCP pair that is."""
    await session.settle()
    timeline = Timeline(session.expectation(), time.time_ns())
    streams = [UdpStream(pod_namespace(session.run, pod.uid), target) for pod, target in flows]
    hammers = {pod.uid: Hammer(session.reach, pod, targets, ROUND_S) for pod, targets in denied}
    opener = Hammer(session.reach, allowed[0], [allowed[1]], ROUND_S)
    names = [ALLOCATOR, *(agent_name(node) for node in sorted(session.state.nodes))]
    try:
        await asyncio.sleep(SETTLE_S)
        for name in names:
            cluster.kill(name, signal.SIGKILL, hold=True)
        down_from = time.time_ns()
        await asyncio.sleep(DOWN_S)
        down_until = time.time_ns()
        begun = time.monotonic()
        async with asyncio.TaskGroup() as restarts:
            for name in names:
                restarts.create_task(cluster.restart(name), name=f"restart.{name}")
        # Watermarks of before the kill are on the bus still: only a new event tells old from new.
        await session.prove_control()
        takeover_ms = (time.monotonic() - begun) * 1000
        await asyncio.sleep(SETTLE_S)
    finally:
        answers = {uid: await asyncio.to_thread(hammer.stop) for uid, hammer in hammers.items()}
        opened = await asyncio.to_thread(opener.stop)
        await asyncio.gather(*(asyncio.to_thread(stream.stop) for stream in streams))
    while_down = [answer for answer in opened if down_from <= answer.began <= down_until]
    if not while_down or not all(stream.answered for stream in streams):
        raise TrialError("no allowed traffic flowed, so the trial proves nothing")
    return Outage(
        killed=len(names),
        flows=len(streams),
        sent=sum(stream.sent for stream in streams),
        lost=sum(stream.lost for stream in streams) + sum(not a.passed for a in while_down),
        new_connections=sum(answer.passed for answer in while_down),
        denied_probes=sum(map(len, answers.values())),
        leaked=sum(len(timeline.leaks(uid, group)) for uid, group in answers.items()),
        takeover_ms=takeover_ms,
    )
