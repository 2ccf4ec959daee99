"""`python -m tabard.source`: the manifest source, told by TABARD_… variables (`settings`).

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 failed, 2 wrong settings.
"""

import asyncio
import signal
import sys

import structlog
import uvloop

from tabard.bus.port import BusError
from tabard.ledger.reader import Stopped
from tabard.process.environment import settings_or_exit
from tabard.process.failures import leaves
from tabard.process.http import ListenError, serving
from tabard.process.logs import log_to_stderr
from tabard.process.memory import collect_seldom
from tabard.source.page import SourcePage
from tabard.source.pods.gate import Gate
from tabard.source.pods.keeper import Keeper
from tabard.source.pods.kernel import KernelRuntime
from tabard.source.pods.measurements import Measurements
from tabard.source.pods.runtime import MemoryRuntime, PodRuntime
from tabard.source.service import Source
from tabard.source.settings import Settings

log = structlog.get_logger("tabard.source")


def main() -> int:
    settings = settings_or_exit(Settings)
    log_to_stderr(settings.log_level, settings.log_format)
    collect_seldom()
    failed = False
    try:
        uvloop.run(_run(settings))
    except* (BusError, Stopped, ListenError, OSError) as group:
        for leaf in leaves(group):
            log.error("source.failed", reason=str(leaf))
        failed = True
    return 1 if failed else 0


async def _run(settings: Settings) -> None:
    settings.data.mkdir(parents=True, exist_ok=True)
    page = SourcePage()
    async with serving(settings.http, page):
        await _keep_pods(settings, page)


async def _keep_pods(settings: Settings, page: SourcePage) -> None:
    bus = await settings.connect(f"tabard-source-{settings.cluster}")
    page.bus, page.source = bus, Source(bus, _keeper(settings))
    try:
        work = asyncio.ensure_future(page.source.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            log.info("source.stopped_by_signal")
    finally:
        await bus.close()


def _keeper(settings: Settings) -> Keeper | None:
    if settings.pods == "none":
        return None
    gate = Gate(settings.nodes_dir)
    runtime: PodRuntime = (
        KernelRuntime(settings.cluster, gate) if settings.pods == "netns" else MemoryRuntime(gate)
    )
    return Keeper(runtime, Measurements(settings.data), keep_at_end=settings.keep_pods)


if __name__ == "__main__":
    sys.exit(main())
