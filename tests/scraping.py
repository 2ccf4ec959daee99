"""Real services and what they say over HTTP, read with Prometheus's own parser."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

WAIT_S = 30.0

Scrape = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""(name, labels sorted by name) → value."""


LABELS = {
    "attempt",
    "code",
    "direction",
    "event",
    "kind",
    "le",
    "map",
    "outcome",
    "part",
    "reason",
    "role",
    "state",
    "type",
}
"""All labels that there are. Each takes a few fixed values: none is a pod's, an address's, …"""
VALUES_MAX = 32
"""Most values of one label of one metric (event types are the most)."""


def read(text: str) -> Scrape:
    """The samples of an exposition, each of which occurs once and under a bounded label."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        for label in {label for sample in family.samples for label in sample.labels}:
            assert label in LABELS, label
            assert len({sample.labels.get(label) for sample in family.samples}) <= VALUES_MAX
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def shown(families: Iterable[Metric]) -> Scrape:
    """The samples that a scraper of `families` reads."""

    class Given(Collector):
        def collect(self) -> Iterable[Metric]:
            return families

    registry = CollectorRegistry()
    registry.register(Given())
    return read(generate_latest(registry).decode())


async def get(url: str) -> tuple[int, str]:
    """Status and body."""

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


@dataclass
class Service:
    """A running service and where it is served."""

    process: asyncio.subprocess.Process
    url: str
    log: Path

    async def ready(self) -> tuple[int, str]:
        return await get(f"{self.url}/readyz")

    async def scrape(self) -> Scrape:
        status, body = await get(f"{self.url}/metrics")
        assert status == 200, body
        return read(body)

    async def value(self, name: str, **labels: str) -> float:
        return (await self.scrape())[name, tuple(sorted(labels.items()))]

    async def becomes(self, status: int) -> str:
        """The reason that /readyz gives, once it has this status."""
        said = [(0, "")]

        async def has() -> bool:
            said[0] = await self.ready()
            return said[0][0] == status

        await until(has, self.process)
        return said[0][1]

    async def shows(self, value: float, name: str, **labels: str) -> None:
        """Return once the metric has this value."""
        key = name, tuple(sorted(labels.items()))

        async def has() -> bool:
            return (await self.scrape()).get(key) == value

        await until(has, self.process)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            return await self.process.wait()


async def until(
    holds: Callable[[], Awaitable[bool]], process: asyncio.subprocess.Process | None = None
) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await holds():
            assert process is None or process.returncode is None, "the service ended"
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def service(module: str, directory: Path, **settings: str) -> AsyncIterator[Service]:
    """`python -m <module>` with TABARD_… settings, on a listening socket that it is given."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TABARD_")}
    log = directory / f"{module}.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("ab") as output:
        host, port = listener.getsockname()
        own = {"HTTP": f"fd:{listener.fileno()}", "DATA": str(directory / module), **settings}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            env=inherited | {f"TABARD_{key}": value for key, value in own.items()},
            stdout=output,
            stderr=output,
            pass_fds=(listener.fileno(),),
        )
    try:
        yield Service(process, f"http://{host}:{port}", log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
