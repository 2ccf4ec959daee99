"""`python -m tabard.server.streams`: make the streams that are absent, once the servers can.

Run again it does nothing. Exit codes: 0 all streams are there, 1 failed, 2 wrong settings.
"""

import asyncio
import sys

import structlog

from tabard.bus.jetstream import Options
from tabard.bus.port import BusError, BusUnavailable
from tabard.process.environment import settings_or_exit
from tabard.process.logs import log_to_stderr
from tabard.server.settings import StreamSettings

log = structlog.get_logger("tabard.server")

CONNECT_TIMEOUT_S = 2.0
RETRY_S = 0.5


async def make(settings: StreamSettings) -> None:
    """Until each stream has a leader; BusError if one cannot be as it must, TimeoutError if the
    servers are not ready in time."""
    options = Options(connect_timeout_s=CONNECT_TIMEOUT_S)
    async with asyncio.timeout(settings.ready_timeout_s):
        while True:
            try:
                bus = await settings.connect("tabard-streams", options)
                try:
                    await bus.ensure_streams(settings.replicas)
                    return
                finally:
                    await bus.close()
            except BusUnavailable as error:
                log.info("server.waits_for_the_bus", reason=str(error))
            await asyncio.sleep(RETRY_S)


def main() -> int:
    settings = settings_or_exit(StreamSettings)
    log_to_stderr(settings.log_level, settings.log_format)
    try:
        asyncio.run(make(settings))
    except TimeoutError:
        log.error("server.not_ready", waited_s=settings.ready_timeout_s)
        return 1
    except BusError as error:
        log.error("server.streams_failed", reason=str(error))
        return 1
    log.info("server.streams_ready", replicas=settings.replicas)
    return 0


if __name__ == "__main__":
    sys.exit(main())
