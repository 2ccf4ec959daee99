"""The replicas of a bus: what their servers count, and what each of them really gives."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.monitoring import ask
from tabard.bus.port import UNBROKEN, Stream
from tabard.bus.replicas import BEHIND_MAX, Server, Standing, judge
from tabard.ledger.audit import Audit, Audited, faults

PROGRESS_MESSAGES = 100_000


@dataclass(frozen=True, slots=True)
class Survey:
    """What all monitoring endpoints said at about one moment, and what reading added to it."""

    servers: tuple[Server, ...]
    standings: tuple[Standing, ...]

    def of(self, stream: Stream) -> tuple[Standing, ...]:
        return tuple(each for each in self.standings if each.stream is stream)

    def server(self, name: str) -> Server | None:
        return next((each for each in self.servers if each.name == name), None)

    def leader(self, stream: Stream) -> str:
        """The server whose replica leads, by its own word; empty if none does."""
        led = (each.server for each in self.of(stream) if each.replica and each.replica.leads)
        return next(led, "")

    def read(self, stream: Stream, audits: Mapping[str, Audited]) -> "Survey":
        """With what reading brought to light beside what counts had told."""
        wrong = faults(audits)
        return Survey(
            self.servers,
            tuple(
                _with(each, audits[each.server], wrong[each.server])
                if each.stream is stream and each.server in audits
                else each
                for each in self.standings
            ),
        )


def _with(standing: Standing, audited: Audited, wrong: tuple[str, ...]) -> Standing:
    # Reading names the gaps that counts only number.
    counted = () if audited.missing else standing.faults
    return replace(standing, holes=max(standing.holes, audited.missing), faults=(*counted, *wrong))


async def survey(monitoring: Sequence[str]) -> Survey:
    """Ask all servers for their counts."""
    servers = await ask(monitoring)
    return Survey(servers, judge(servers))


async def read_all(
    bus: JetStreamBus,
    found: Survey,
    stream: Stream,
    told: Callable[[str], None] = lambda line: None,
    pause_s: float = 0.0,
) -> Mapping[str, Audited]:
    """Read every replica of `stream` that is there, all at one pace; what each one gave.

    Through the last message that all have but those that are far behind. `pause_s` after each
    thousand messages leaves the event loop to others.
    """
    there = {each.server: each.replica for each in found.of(stream) if each.replica is not None}
    head = max((each.last for each in there.values()), default=0)
    near = [each for each in there.values() if head - each.last <= BEHIND_MAX]
    if not head:
        return {}
    through = min(each.last for each in near)
    firsts = [each.first for each in near]
    # What expires is not gone everywhere at once.
    start = min(firsts) if stream is Stream.LEDGER else max(firsts)
    audits = {server: Audit(stream, start, through) for server in there}
    async with bus.replicas(stream, there.keys(), start) as readers:
        reading, at = dict(readers), PROGRESS_MESSAGES
        while reading:
            for server, read in tuple(reading.items()):
                batch = await read()
                audits[server].take(each for each in batch if each.sequence <= through)
                if not batch or batch[-1].sequence >= through:
                    del reading[server]
                await asyncio.sleep(pause_s)
            slowest = min((audits[server].reached for server in reading), default=through)
            if slowest >= start + at:
                at += PROGRESS_MESSAGES
                told(f"{stream} read through {slowest} of {through} at {len(audits)} servers")
    return {server: audit.result() for server, audit in audits.items()}


async def examine(
    bus: JetStreamBus,
    monitoring: Sequence[str],
    streams: Sequence[Stream] = UNBROKEN,
    told: Callable[[str], None] = lambda line: None,
    pause_s: float = 0.0,
) -> Survey:
    """Counts of all servers, and every replica of `streams` read."""
    found = await survey(monitoring)
    for stream in streams:
        found = found.read(stream, await read_all(bus, found, stream, told, pause_s))
    return found
