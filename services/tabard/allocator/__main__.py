"""`python -m tabard.allocator`: one allocator, configured by environment variables.

Any number of them may run: one leads, the others follow and take the lead when it falls silent.
Exit codes: 0 stopped by SIGTERM or SIGINT, 1 failed, 2 wrong settings.
"""

import asyncio
import os
import secrets
import signal
import sys

import structlog
import uvloop

from tabard.allocator.leadership import SettingsMismatch
from tabard.allocator.pace import Pace
from tabard.allocator.page import AllocatorPage
from tabard.allocator.patience import Patience, StopRequested
from tabard.allocator.service import Allocator
from tabard.allocator.settings import Settings
from tabard.allocator.writer import LostError
from tabard.bus.jetstream import Options
from tabard.bus.port import BusError
from tabard.ledger.checkpoint import Checkpoint, CheckpointError
from tabard.ledger.reader import Stopped
from tabard.process.environment import settings_or_exit
from tabard.process.http import ListenError, serving
from tabard.process.logs import log_to_stderr
from tabard.process.memory import collect_seldom
from tabard.process.replicas import ReplicaWatch

_log = structlog.get_logger()

FAILED, USAGE = 1, 2
CONNECT_TIMEOUT_S = 2.0
CHECKPOINT_FILE = "allocator.db"


def main() -> int:
    settings = settings_or_exit(Settings)
    log_to_stderr(settings.log_level, settings.log_format)
    collect_seldom()
    try:
        uvloop.run(_run(settings))
    except SettingsMismatch as error:
        _log.error("allocator.settings_differ", reason=str(error))
        return USAGE
    except (BusError, LostError, Stopped, CheckpointError, ListenError) as error:
        _log.error("allocator.failed", reason=str(error))
        return FAILED
    return 0


async def _run(settings: Settings) -> None:
    patience = Patience()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, patience.end)
    page = AllocatorPage(patience)
    async with serving(settings.http, page):
        await _allocate(settings, patience, page)


async def _allocate(settings: Settings, patience: Patience, page: AllocatorPage) -> None:
    name = f"tabard-allocator-{settings.cluster}"
    # Tried for ever, so each try is short: a request to stop waits for no more than one.
    options = Options(connect_timeout_s=CONNECT_TIMEOUT_S)
    try:
        page.bus = bus = await patience.through(lambda: settings.connect(name, options))
    except StopRequested:
        return
    holder = f"{settings.holder}/{os.getpid()}-{secrets.token_hex(4)}"
    pace = Pace(
        tick_s=settings.tick_ms / 1000,
        checkpoint_s=settings.checkpoint_ms / 1000,
        silence_s=settings.silence_ms / 1000,
        limits=settings.limits(),
        node_ranges=settings.node_ranges,
        snapshot_events=settings.snapshot_events,
        snapshot_s=settings.snapshot_ms / 1000,
    )
    try:
        async with Checkpoint.open(settings.data / CHECKPOINT_FILE) as checkpoint:
            allocator = Allocator(
                bus,
                checkpoint,
                settings.adopted(),
                holder,
                enforcement=settings.enforcement,
                pace=pace,
                patience=patience,
            )
            page.allocator = allocator
            page.replicas = ReplicaWatch(settings.bus_monitoring, settings.bus_read_ms / 1000)
            async with page.replicas.looking(bus):
                await allocator.run()
    finally:
        await bus.close()


if __name__ == "__main__":
    sys.exit(main())
