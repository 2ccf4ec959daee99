"""One agent from its settings to its end."""

import asyncio
import os
import signal
from typing import Any

import structlog
import uvloop

from tabard.agent.errors import AgentError
from tabard.agent.page import AgentPage
from tabard.agent.server import Judge
from tabard.agent.service import Agent
from tabard.agent.settings import Settings
from tabard.bus.port import Bus
from tabard.dataplane.maps import Mode, address
from tabard.dataplane.port import Dataplane, DataplaneError, NodeConfig
from tabard.ledger.checkpoint import CheckpointError
from tabard.netns.enter import NamespaceError
from tabard.process.environment import settings_or_exit
from tabard.process.failures import leaves
from tabard.process.http import ListenError, serving
from tabard.process.logs import log_to_stderr
from tabard.process.memory import collect_seldom, give_back_early

log = structlog.get_logger("tabard.agent")


def main() -> int:
    settings = settings_or_exit(Settings)
    log_to_stderr(settings.log_level, settings.log_format)
    collect_seldom()
    give_back_early()
    os.umask(0o077)  # checkpoint and socket are nobody else's
    try:
        return uvloop.run(_run(settings))
    except* (
        AgentError,
        DataplaneError,
        CheckpointError,
        NamespaceError,
        ListenError,
        OSError,
    ) as failures:
        for failure in leaves(failures):
            log.error("agent.failed", error=str(failure))
    return 1


async def _run(settings: Settings) -> int:
    async def connect() -> Bus:
        return await settings.connect(f"agent-{settings.node}")

    dataplane, judge = _dataplane(settings)
    agent = Agent(settings, dataplane, connect, judge)
    async with serving(settings.http, AgentPage(agent, settings.map_sizes())):
        work = asyncio.ensure_future(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            log.info("agent.stopped_by_signal", sequence=agent.report.sequence)
    return 0


def _dataplane(settings: Settings) -> tuple[Dataplane, Judge | None]:
    config = NodeConfig(
        name=settings.node,
        mode=Mode[settings.mode.upper()],
        underlay=tuple(address(text) for text in settings.underlay),
        underlay_device=settings.underlay_device,
        stale_after_s=settings.stale_after_s if settings.denies_when_stale else 0,
    )
    if settings.dataplane == "memory":
        from tabard.agent.packets import judge
        from tabard.dataplane.memory import MemoryDataplane

        log.warning(
            "agent.memory_dataplane",
            warning="NOTHING IS ENFORCED: this agent judges only packets that it is told of",
        )
        memory = MemoryDataplane(config, sizes=settings.map_sizes())

        async def judged(fields: dict[str, Any]) -> dict[str, Any]:
            return judge(memory, fields)

        return memory, judged
    from tabard.agent.ebpf.dataplane import EbpfDataplane

    dataplane = EbpfDataplane(
        config,
        cluster=settings.cluster,
        sizes=settings.map_sizes(),
        expedites=settings.rcu_expedited,
    )
    return dataplane, None
