"""Allocators as processes, for tests that signal, kill and pause them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any


class Process:
    """One `python -m tabard.allocator` and its log."""

    def __init__(self, url: str, directory: Path, **settings: str) -> None:
        own = {"NATS": url, "CLUSTER": "test", "DATA": str(directory / "allocator"), **settings}
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TABARD_")},
            **{f"TABARD_{key}": value for key, value in own.items()},
        }
        self._log = directory / f"log-{id(self)}"
        self.data = Path(own["DATA"])

    async def start(self, said: str = "allocator.leading") -> None:
        with self._log.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tabard.allocator", env=self._environment, stderr=out
            )
        await self.says(said)

    async def says(self, event: str) -> dict[str, Any]:
        """The first log line with this event; waits for it."""
        async with asyncio.timeout(30):
            while True:
                for line in self._log.read_text().splitlines():
                    if line.startswith("{") and (said := json.loads(line))["event"] == event:
                        return dict(said)
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.02)

    def log(self) -> str:
        return self._log.read_text()

    async def signal(self, number: int) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.send(number)
        return await self.ended()

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, AttributeError):
            self.send(signal.SIGKILL)
            await self.ended()


@contextlib.asynccontextmanager
async def processes(*every: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for process in every:
            await process.kill()
