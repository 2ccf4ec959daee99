"""Looking after the bus's replicas from a service: counts often, contents seldom, as metrics.

A replica that is damaged goes on answering readers and may lead; what says so is what each server
counts, and where that says nothing, reading it. Reading goes slowly: it is nobody's hurry.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import UNBROKEN, BusError, Stream
from tabard.bus.replicas import BEHIND_MAX
from tabard.ledger.audit import faults
from tabard.ledger.replicas import Survey, read_all, survey

log = structlog.get_logger(__name__)

COUNT_INTERVAL_S = 15.0
AGAIN_S = 60.0
"""When replicas are read again that were damaged, or could not be read (someone may have repaired
them, or a server be up by then), and when looking begins anew that came to an end."""
PAUSE_S = 0.1
"""After each thousand messages read: the event loop is somebody else's."""

Holes = dict[tuple[str, Stream], int]


class ReplicaWatch:
    """Asks the servers at `monitoring` for counts; reads all replicas each `read_s` (0: never).

    Does nothing if `monitoring` is empty.
    """

    def __init__(self, monitoring: Sequence[str], read_s: float) -> None:
        self._monitoring = tuple(monitoring)
        self._read_s = read_s
        self._counted: Survey | None = None
        self._found: Holes = {}
        self._due = asyncio.Event()
        """Set when replicas are to be read at once."""
        self._started: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._told: dict[str, frozenset[tuple[str, Stream]]] = {}

    @asynccontextmanager
    async def looking(self, bus: JetStreamBus) -> AsyncIterator[None]:
        """Look while the block runs. What goes wrong in it is logged, and ends nothing else."""
        task = asyncio.create_task(self._look(bus), name="bus.replicas")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self, bus: JetStreamBus) -> None:
        while self._monitoring:
            try:
                await self._run(bus)
            except Exception:
                # Who decides must not end because of who looks; nor must looking.
                log.exception("bus.replicas_unwatched")
                self._counted = None
            await asyncio.sleep(AGAIN_S)

    async def _run(self, bus: JetStreamBus) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._count(), name="bus.replicas.count")
            if self._read_s:
                tasks.create_task(self._read(bus), name="bus.replicas.read")

    async def _count(self) -> None:
        while True:
            self._counted = found = await survey(self._monitoring)
            self._names |= {each.url: each.name for each in found.servers if each.name}
            self._tell("counted", found)
            if self._started_again(found):
                self._due.set()  # what is damaged on a disk shows from then on
            await asyncio.sleep(COUNT_INTERVAL_S)

    async def _read(self, bus: JetStreamBus) -> None:
        await self._due.wait()
        while True:
            self._due.clear()
            settled = await self._read_replicas(bus, await survey(self._monitoring))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._read_s if settled else min(AGAIN_S, self._read_s)):
                    await self._due.wait()

    def _started_again(self, found: Survey) -> bool:
        before = dict(self._started)
        self._started |= {each.name: each.started for each in found.servers if each.name}
        return self._started != before

    async def _read_replicas(self, bus: JetStreamBus, found: Survey) -> bool:
        """Whether all replicas of servers that answer could be read, and none was damaged."""
        settled = True
        for stream in UNBROKEN:
            if len(found.of(stream)) < 2:
                continue  # what a stream's only replica lacks, every reader finds
            try:
                audits = await read_all(bus, found, stream, pause_s=PAUSE_S)
            except BusError as error:
                log.info("bus.replicas_unread", stream=stream.value, reason=str(error))
                settled = False
                continue
            wrong = faults(audits)
            # Of what nobody could read stands what was found before. One that is behind is coming
            # up: what it has not yet is no hole, and counts tell of it.
            self._found |= {
                (each.server, stream): max(audits[each.server].missing, bool(wrong[each.server]))
                for each in found.of(stream)
                if each.server in audits and each.behind <= BEHIND_MAX
            }
            found = found.read(stream, audits)
            if any(each.reachable and not each.good for each in found.of(stream)):
                settled = False
        self._tell("read", found)
        return settled

    def _tell(self, how: str, found: Survey) -> None:
        """Log what is wrong with a replica when it is first found, not as its numbers grow."""
        wrong = {(each.server, each.stream): each for each in found.standings if each.faults}
        for server, stream in wrong.keys() - self._told.get(how, frozenset()):
            standing = wrong[server, stream]
            # Of one whose server is down nothing is known but that.
            tell, event = (
                (log.error, "bus.replica_damaged")
                if standing.reachable
                else (log.warning, "bus.replica_unknown")
            )
            tell(
                event,
                server=server,
                stream=stream.value,
                fault="; ".join(standing.faults),
                next="tabard bus check" if standing.reachable else "tabard bus status",
            )
        self._told[how] = frozenset(wrong)

    def families(self) -> list[Metric]:
        """Of each replica its holes and how far it is behind, of each server whether it answers."""
        holes = GaugeMetricFamily(
            "tabard_bus_replica_holes",
            "Messages that a replica must have and has not, by its counts or when last read.",
            labels=["server", "stream"],
        )
        behind = GaugeMetricFamily(
            "tabard_bus_replica_behind",
            "By how many messages a replica ends before the furthest one.",
            labels=["server", "stream"],
        )
        reachable = GaugeMetricFamily(
            "tabard_bus_replica_reachable",
            "1 if the server says what it counts.",
            labels=["server"],
        )
        if self._counted is None:  # not asked yet, or nobody to ask
            return []
        for each in self._counted.standings:
            place = [each.server, each.stream.value]
            holes.add_metric(place, max(each.holes, self._found.get((each.server, each.stream), 0)))
            behind.add_metric(place, each.behind)
        for server in self._counted.servers:
            name = self._names.get(server.url, server.url)
            reachable.add_metric([name], not server.failure)
        return [holes, behind, reachable]
