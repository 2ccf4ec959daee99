"""The probers of one run: started, told of pods as they come and go, and asked for their stamps."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from random import Random

from tabard.bus.port import Bus, Stored, Stream
from tabard.chaos.fault import Rig
from tabard.chaos.probers.stamps import read
from tabard.chaos.probers.telling import Come, Gone, line
from tabard.chaos.record import Packet
from tabard.cluster.errors import ClusterError
from tabard.events.errors import EventError
from tabard.events.observed import PodStarted, PodStopped
from tabard.ledger.messages import recorded
from tabard.netns.names import pod_namespace
from tabard.process.failures import tasks_as_one

FILE = "packets.msgpack"
LOG = "probers.log"
END_S = 10.0
"""Longest wait for the process to end once its input has."""


class ProbersFailed(ClusterError):
    """The probers ended by themselves, or did not end: the run proves nothing."""


class Probers:
    """They go on until `stop`."""

    def __init__(self, process: asyncio.subprocess.Process, data: Path) -> None:
        self._process = process
        self._data = data
        self.stopping = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self) -> list[Packet]:
        """End them; every stamped packet, in the order in which they ended.

        ProbersFailed if they failed, or do not end.
        """
        await self.end()
        return await asyncio.to_thread(lambda: list(read(self._data / FILE)))

    async def end(self) -> None:
        """End them, wherever they are. Repeatable."""
        self.stopping = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise ProbersFailed(f"the probers did not end within {END_S:g} s") from None
        self._check()

    async def watch(self) -> None:
        """Until they have ended; ProbersFailed if nobody asked them to."""
        await self._process.wait()
        if not self.stopping:
            self._check()
            raise ProbersFailed("the probers ended before they were asked to")

    async def feed(self, bus: Bus, run: str) -> None:
        """Tell them of each pod of the run that is observed, for ever."""
        assert self._process.stdin is not None
        async with aclosing(bus.tail(Stream.OBSERVED, 1)) as batches:
            async for messages in batches:
                for message in messages:
                    if (told := _told(message, run)) is not None:
                        self._process.stdin.write(line(told))
                try:
                    await self._process.stdin.drain()
                except ConnectionError:
                    return  # they have ended, which `watch` tells

    def _check(self) -> None:
        if self._process.returncode != 0:
            said = (self._data / LOG).read_text(errors="replace").strip()
            raise ProbersFailed(f"the probers ended with {self._process.returncode}: {said}")


@asynccontextmanager
async def probing(rig: Rig, chance: Random) -> AsyncIterator[Probers]:
    """Probers of all pods of the cluster, those that come later too, while the block lasts; inside
    it `stop` gives their packets. They end with this process, whatever becomes of it.

    ProbersFailed out of the block if they fail.
    """
    (rig.data / FILE).write_bytes(b"")
    with (rig.data / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tabard.chaos.probers",
            str(rig.data / FILE),
            str(chance.getrandbits(64)),
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; they end with their input
        )
    probers = Probers(process, rig.data)
    async with tasks_as_one() as tasks:
        feed = tasks.create_task(probers.feed(rig.bus, rig.run), name="probers.feed")
        tasks.create_task(probers.watch(), name="probers.watch")
        try:
            yield probers
        finally:
            feed.cancel()
            await probers.end()


def _told(message: Stored, run: str) -> Come | Gone | None:
    try:
        event = recorded(Stream.OBSERVED, message).event
    except EventError:
        return None  # what nobody can read starts no pod
    match event:
        case PodStarted() if not event.host_network and event.addresses:
            namespace = pod_namespace(run, event.uid)
            return Come(event.uid, namespace, event.addresses, event.ports)
        case PodStopped():
            return Gone(event.uid)
        case _:
            return None
