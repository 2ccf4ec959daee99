"""Agents in this process, their maps in memory: for more nodes than the machine has room for."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lab import Lab
from tabard.agent.service import Agent, Connect
from tabard.agent.settings import Settings
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Bus, Stream
from tabard.cluster.gate import ask
from tabard.cluster.watermarks import enforced
from tabard.dataplane.memory import MemoryDataplane
from tabard.events.observed import NodeJoined, PodStarted
from tabard.process.memory import collect_seldom

READY_S = 120.0
REST_MS = 600_000
"""What each agent does by itself in the background (checkpoint, drift, digest) is left out: agents
share one core here."""


@asynccontextmanager
async def running(
    lab: Lab,
    url: str,
    bus: Bus,
    nodes: Mapping[str, tuple[NodeJoined, MemoryDataplane]],
    connect: Connect | None = None,
) -> AsyncIterator[dict[str, Agent]]:
    """An agent for each of `nodes` (by name), once all have joined and enforce.

    `connect` gives each its bus; by default a connection of its own.
    """
    collect_seldom()  # as an agent's process does
    agents = {name: _agent(lab, url, *node, connect) for name, node in nodes.items()}
    work = [asyncio.create_task(agent.run(), name=name) for name, agent in agents.items()]
    try:
        async with asyncio.timeout(READY_S):
            head = 0
            while head < len(nodes):  # each has its own place in the ledger
                for task in work:
                    if task.done():
                        await task
                await asyncio.sleep(0.1)
                head = await bus.last_sequence(Stream.LEDGER)
        await enforced(bus, head, nodes, READY_S)
        yield agents
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


def _agent(
    lab: Lab, url: str, joined: NodeJoined, dataplane: MemoryDataplane, connect: Connect | None
) -> Agent:
    settings = Settings(
        nats=(url,),
        cluster=lab.name,
        data=lab.directory / joined.name,
        run_dir=lab.directory / "run",
        node=joined.name,
        underlay=joined.addresses,
        pod_cidrs=joined.pod_cidrs,
        dataplane="memory",
        checkpoint_spacing_ms=REST_MS,
        drift_interval_ms=REST_MS,
        digest_after_ms=REST_MS,
    )

    async def own() -> Bus:
        return await JetStreamBus.connect(url, name=f"agent-{joined.name}")

    return Agent(settings, dataplane, connect or own)


async def attach(socket: Path, pod: PodStarted, timeout_s: float) -> dict[str, Any]:
    """Have the agent behind `socket` guard the pod, as a container engine would."""
    fields = {"pod": asdict(pod), "interface": f"b{pod.uid[-12:]}", "mac": "02:00:00:00:00:01"}
    return await ask(socket, "attach", timeout_s, **fields, timeout_ms=int(timeout_s * 1000))
