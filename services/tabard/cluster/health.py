"""What a running cluster is asked about: its bus, its streams, its allocator and its nodes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from tabard.bus.port import Bus, BusError, BusUnavailable, SequenceGap, Stream, StreamInfo
from tabard.cluster.allocators import Allocators, AllocatorWord
from tabard.cluster.checkup import Check, fault, ok, warn
from tabard.cluster.watermarks import Watermark, speaks, watermarks
from tabard.events.errors import EventError
from tabard.ledger import archive
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import holds_up, recorded
from tabard.ledger.reader import Stopped
from tabard.ledger.start import TrimmedAway
from tabard.ledger.state import State
from tabard.ledger.trimming import lost_beginning

SKEW_MS_MAX = 1_000.0
"""Events are told by several machines' clocks: more apart, their order in time is no order."""
READ_S_MAX = 30.0
"""Longest that reading the ledger may take; nodes and allocator are held against it."""
SNAPSHOT_LAG_EVENTS_MAX = 300_000
"""Three times what allocators let pass between two snapshots."""
LAG_EVENTS_MAX = 1_000
"""A busy cluster is behind by some events at any moment; by more it does not keep up."""


async def examine(bus: Bus, clock: Callable[[], int] = time.time_ns) -> AsyncIterator[Check]:
    """All checks of the cluster on `bus`, one after the other; `clock` gives ns since the epoch."""
    before = clock()
    try:
        info = await bus.info(Stream.LEDGER)
    except BusError as error:
        yield fault("bus", str(error), _after(error))
        return
    after = clock()
    yield ok("bus", f"answers in {(after - before) / 1e6:.1f} ms")
    yield skew((before + after) // 2, info.now, (after - before) / 2e6)
    for stream in Stream:
        yield await _stream(bus, stream)
    yield holes(info, await lost_beginning(bus, info.first))
    yield await snapshots(bus, info)
    async for check in _told_by_the_ledger(bus, info):
        yield check


def skew(here: int, there: int, uncertain_ms: float) -> Check:
    """Two clocks' readings of one moment, in ns since the Unix epoch."""
    apart_ms = (here - there) / 1e6
    fact = f"this machine's clock is {apart_ms:+.1f} ms (±{uncertain_ms:.1f}) from the bus's"
    if abs(apart_ms) - uncertain_ms > SKEW_MS_MAX:
        return warn("clock-skew", fact, "timedatectl status")
    return ok("clock-skew", fact)


async def _stream(bus: Bus, stream: Stream) -> Check:
    name = f"stream {stream.value}"
    try:
        wrong, info = await bus.faults(stream), await bus.info(stream)
    except BusError as error:
        return fault(name, str(error), _after(error))
    if wrong:
        command = "tabard bus status" if info.replicas > 1 else f"nats stream info {stream.value}"
        return fault(name, "; ".join(wrong), command)
    kept = f"{info.messages} events, {info.bytes >> 10} KiB"
    return ok(name, f"{kept}, {info.storage}, {_replicas(info.replicas)}")


def _after(error: BusError) -> str:
    if isinstance(error, BusUnavailable):
        return "tabard bus status"
    return "tabard up --nats URL, which makes the streams"


def _replicas(number: int) -> str:
    return "one replica" if number == 1 else f"{number} replicas, all current"


def holes(info: StreamInfo, lost: str = "") -> Check:
    """LEDGER loses no event but by a trim, and `lost` says what it lost otherwise; its chain is
    another question (`tabard events verify`)."""
    if lost:
        return fault("ledger", lost, "restore the bus from a copy")
    if info.holes:
        fact = f"{info.holes} of LEDGER/{info.first}-{info.last} are missing"
        return fault("ledger", fact, "tabard bus check")
    return ok("ledger", f"LEDGER/{info.first}-{info.last} without a hole")


async def snapshots(bus: Bus, info: StreamInfo) -> Check:
    """Whether who starts from nothing finds a snapshot that is not too old."""
    entries = await archive.listed(bus)
    newest = entries[0].sequence if entries else 0
    behind = info.last - newest
    fact = f"newest of {len(entries)} is of LEDGER/{newest}" if entries else "there is none"
    if behind >= SNAPSHOT_LAG_EVENTS_MAX:
        said = f"{fact}, {behind} events ago: starting from nothing takes long"
        return warn("snapshots", said, "tabard snapshots take, and the allocators' logs")
    return ok("snapshots", f"{fact}, {behind} events ago" if entries else fact)


async def _told_by_the_ledger(bus: Bus, info: StreamInfo) -> AsyncIterator[Check]:
    state = State()
    try:
        async with asyncio.timeout(READ_S_MAX):
            await catch_up(bus, state)
    except TimeoutError:
        fact = f"not read to its end within {READ_S_MAX:g} s; allocator and nodes were not examined"
        yield warn("state", fact, "tabard status")
        return
    except Stopped as error:
        yield fault("state", str(error), f"tabard events show {error.sequence}")
    except TrimmedAway as error:
        yield fault("state", str(error), "tabard snapshots verify")
        return
    except SequenceGap as error:
        yield fault("state", str(error), "tabard bus check")
    yield await _allocator(bus, state)
    for name, said in sorted((await Allocators().heard(bus)).items()):
        if not said.gone(info.now):
            yield allocator(name, said, state, info.now)
    words = await watermarks(bus, state.nodes)
    if not state.nodes:
        yield warn("nodes", "none joined", "tabard up")
    for name in sorted(state.nodes):
        if (lost := state.lost.get(name)) is not None:
            fact = f"lost at LEDGER/{lost.lost_at}, where it was at {lost.watermark}"
            next = f"tabard metrics agent.{name}; if it is gone for good: tabard delete node {name}"
            yield fault(f"node {name}", f"{fact}: nothing waits for it", next)
        else:
            yield node(name, words.get(name), state.sequence, info.now)
    for name, refused in sorted(state.refused_nodes.items()):
        yield fault(f"node {name}, refused", refused.reason, f"tabard describe node {name}")
    if (exhausted := state.exhausted) is not None:
        most = ", ".join(f"{key} ({values} values)" for key, values in exhausted.heaviest)
        fact = (
            f"no identity number is free, {len(state.waiting)} pods wait; most are made by {most}"
        )
        yield fault("numbers", fact, "tabard get identities")


async def _allocator(bus: Bus, state: State) -> Check:
    """Whether what is published has its effect."""
    cursor = state.cursors.get(Stream.OBSERVED, 0)
    lag = await bus.last_sequence(Stream.OBSERVED) - cursor
    if not state.epoch:
        return fault("allocator", "none ever led: nothing is decided", "tabard up")
    fact = f"{state.holder}, epoch {state.epoch}, {lag} events behind"
    for message in await bus.read(Stream.OBSERVED, cursor + 1, 1):
        try:
            recorded(Stream.OBSERVED, message)
        except EventError as error:
            if not holds_up(message, error):
                break
            shown = f"tabard events show {message.sequence} --stream {Stream.OBSERVED}"
            return fault("allocator", f"{fact}: stands before {error}", shown)
    if lag > LAG_EVENTS_MAX:
        return fault("allocator", fact, "tabard status, then the allocator's log")
    return ok("allocator", fact)


def allocator(name: str, word: AllocatorWord, state: State, now: int) -> Check:
    """One allocator, held against the ledger; `now` by the bus's clock."""
    row, said, age_s = f"allocator {name}", word.status, word.age_s(now)
    leads = said.holder == state.holder
    lag = max(0, state.sequence - said.sequence)
    fact = f"{said.role}, {lag} events behind the ledger, spoke {age_s:.1f} s ago"
    log = "tabard metrics, then the allocator's log"
    if word.silent(now):
        # Should it lead, another one will; if there is no other, nothing is decided.
        return (fault if leads else warn)(row, f"{fact}: it is down or cut off", log)
    if said.error:
        return fault(row, f"{fact}: stands before {said.error}", "tabard status")
    if said.role == "stopped":
        return warn(row, fact, log)
    if lag > LAG_EVENTS_MAX:
        return warn(row, f"{fact}: it cannot take the lead", log)
    return ok(row, fact)


def node(name: str, word: Watermark | None, head: int, now: int) -> Check:
    """One node, held against the ledger's `head`; `now` by the bus's clock."""
    row = f"node {name}"
    if word is None:
        return fault(row, "its agent never said anything", f"tabard metrics agent.{name}")
    status, age_s = word.status, max(0.0, (now - word.stored_at) / 1e9)
    lag = max(0, head - status.sequence)
    fact = f"enforces LEDGER/{status.sequence}, {lag} events behind, spoke {age_s:.1f} s ago"
    look = f"tabard metrics agent.{name}"
    if not speaks(word, now):
        away = "was stopped" if status.stopped else "is down or cut off"
        last = f", and said last: {status.error}" if status.error else ""
        return fault(row, f"{fact}: its agent {away}{last}", look)
    if status.error:
        return fault(row, f"{fact}: {status.error}", look)
    if lag > LAG_EVENTS_MAX:
        return fault(row, fact, "tabard status")
    if status.drift:
        return fault(row, f"{fact}; {status.drift} entries had drifted", "tabard drift")
    if status.full:
        maps = ", ".join(name for name, _ in status.full)
        larger = " ".join(f"--set {name.upper()}_MAX=N" for name, _ in status.full)
        return warn(row, f"{fact}; maps were full: {maps}", f"tabard up {larger}")
    return ok(row, fact)
