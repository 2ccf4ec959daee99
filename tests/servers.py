"""Three real nats-servers that hold streams together, and what can be done to them."""

import asyncio
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.read import stream_info
from tabard.bus.members import free_seats, members
from tabard.bus.port import BusUnavailable, Stream
from tabard.bus.server import EmbeddedServer

WAIT_S = 60


class Servers:
    """Servers by name, each with its store in a directory of that name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.by_name: dict[str, EmbeddedServer] = members("test", directory, free_seats(3))

    async def start(self) -> None:
        await asyncio.gather(*(each.start() for each in self.by_name.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(each.stop() for each in self.by_name.values()))

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.by_name.values()]

    def others(self, *names: str) -> list[str]:
        return [name for name in self.by_name if name not in names]

    async def kill(self, *names: str) -> None:
        """SIGKILL, and wait until they are gone."""
        for name in names:
            os.kill(self.by_name[name].pid, signal.SIGKILL)
        for name in names:
            await self.by_name[name].wait()

    async def start_again(self, *names: str) -> None:
        await asyncio.gather(*(self.by_name[name].start() for name in names))

    def copy(self, name: str, to: Path) -> None:
        """Keep the store of a server that is down as it is now."""
        shutil.copytree(self._directory / name, to)

    def empty(self, name: str) -> None:
        """Lose the store of a server that is down."""
        shutil.rmtree(self._directory / name)

    def put_back(self, name: str, copy: Path) -> None:
        """Give a server that is down the store that it once had."""
        self.empty(name)
        shutil.copytree(copy, self._directory / name)

    async def stand(self, names: list[str], last: int) -> None:
        """Wait until each of `names` holds LEDGER from 1 to `last` without a hole."""
        async with asyncio.timeout(WAIT_S):
            for name in names:
                while await asyncio.to_thread(self.held, name) != (1, last, last):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    def held(self, name: str) -> tuple[int, int, int] | None:
        """First and last sequence and count of messages of a server's replica of LEDGER."""
        url = f"{self.by_name[name].monitoring_url}/jsz?accounts=true&streams=true"
        with urllib.request.urlopen(url, timeout=5) as answer:
            told = json.load(answer)
        for account in told["account_details"]:
            for stream in account.get("stream_detail", ()):
                if stream["name"] == Stream.LEDGER:
                    state = stream["state"]
                    return state["first_seq"], state["last_seq"], state["messages"]
        return None


async def leader_of(bus: JetStreamBus, stream: Stream = Stream.LEDGER) -> str:
    """The name of the server that leads the stream, once there is one."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                info = await stream_info(bus._connection, stream)
                return str(info["cluster"]["leader"])
            except BusUnavailable:
                await asyncio.sleep(0.05)


async def made(bus: JetStreamBus) -> None:
    """Wait until the streams are there, three times each."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await bus.ensure_streams(3)
                return
            except BusUnavailable:
                await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition of the world outside, which tells nobody when it changes."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
