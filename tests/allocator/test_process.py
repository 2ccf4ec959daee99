"""The allocator as a process on a real nats-server, killed and stopped by real signals."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from allocators import Process, processes
from deciding import Desk, relabelled, started
from serving import caught_up, effects, folded, ledger, publish
from tabard.allocator.__main__ import CHECKPOINT_FILE, USAGE
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import BusUnavailable, Outgoing, Stream, subject
from tabard.bus.server import EmbeddedServer
from tabard.events.ledger import (
    EndpointBound,
    EventQuarantined,
    IdentityAllocated,
    SettingsAdopted,
)
from tabard.events.observed import QuarantineRequested
from tabard.ledger.messages import first_cause, observed, recorded

pytestmark = pytest.mark.nats


def burst(count: int) -> list[Any]:
    """Starts of pods with 100 label sets, and for every fourth another's change to the next."""
    events: list[Any] = []
    for number in range(count):
        address = f"10.1.{number >> 8}.{number & 255}"
        events.append(started(f"p{number}", {"app": f"app-{number % 100}"}, address))
        if number % 4 == 3:
            events.append(relabelled(f"p{number - 2}", app=f"app-{(number - 1) % 100}"))
    return events


async def published(bus: JetStreamBus, events: list[Any]) -> None:
    """Publish in pieces, each until the bus has acknowledged it."""
    for start in range(0, len(events), 100):
        messages = [observed(event, first_cause("", 0)) for event in events[start : start + 100]]
        while True:
            try:
                await bus.publish(Stream.OBSERVED, messages)
                break
            except BusUnavailable:
                continue


async def test_sigkill_in_a_burst_loses_and_doubles_nothing(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    process = Process(nats_url, tmp_path, CHECKPOINT_MS="10")
    kills = 0
    async with processes(process):
        await process.start()
        publishing = asyncio.create_task(published(nats_bus, burst(2_000)))
        while not publishing.done() or kills < 3:
            # Let it get into its work, but never to the end of it.
            await asyncio.wait([publishing], timeout=0.05 * (kills % 5 + 1))
            await process.kill()
            kills += 1
            await process.start()
        await publishing
        await caught_up(nats_bus)
        assert await process.signal(signal.SIGTERM) == 0
    desk, expected = Desk(checked=False), []
    while messages := await nats_bus.read(Stream.OBSERVED, desk.observed + 1):
        for message in messages:
            expected += desk.observe(recorded(Stream.OBSERVED, message).event)
    settings, *said = await effects(nats_bus)
    assert isinstance(settings, SettingsAdopted)
    assert [without_cluster(event) for event in said] == [
        without_cluster(event) for event in expected
    ]
    state = await folded(nats_bus)
    assert state.epoch == kills + 1
    assert len(state.endpoints) == 2_000
    assert len(state.identities) == 100


def without_cluster(event: Any) -> Any:
    """The cluster's name is in each label set; everything else must be equal."""
    if isinstance(event, IdentityAllocated):
        return (event.identity, [label for label in event.labels if "policy.cluster" not in label])
    return event


async def test_a_bus_that_dies_and_comes_back_costs_nothing(
    own_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    await bus.ensure_streams()
    process = Process(own_nats_server.url, tmp_path)
    async with processes(process):
        await process.start()
        for round_ in range(3):
            await publish(bus, *[started(f"p{round_}-{n}", {"n": str(n)}) for n in range(200)])
            os.kill(own_nats_server.pid, signal.SIGKILL)
            await own_nats_server.wait()
            await own_nats_server.start()
        await caught_up(bus)
        assert await process.signal(signal.SIGTERM) == 0
    bound = [event.uid for event in await ledger(bus) if isinstance(event, EndpointBound)]
    assert bound == [f"p{round_}-{n}" for round_ in range(3) for n in range(200)]
    await bus.close()


async def test_it_waits_for_a_bus_that_is_not_there_yet(
    own_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    await bus.ensure_streams()
    await publish(bus, started("a"))
    await own_nats_server.stop()
    process = Process(own_nats_server.url, tmp_path)
    async with processes(process):
        await process.start("allocator.bus_away")
        await own_nats_server.start()
        await process.says("allocator.leading")
        await caught_up(bus)
        assert await process.signal(signal.SIGTERM) == 0
        await own_nats_server.stop()
        await process.start("allocator.bus_away")
        assert await process.signal(signal.SIGTERM) == 0
    await bus.close()


async def test_sigterm_saves_a_checkpoint_and_a_lost_or_damaged_one_costs_only_time(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    process = Process(nats_url, tmp_path)
    file = process.data / CHECKPOINT_FILE
    async with processes(process):
        for round_, harm in enumerate(
            (None, None, file.unlink, lambda: file.write_bytes(b"x" * 9_000))
        ):
            if harm is not None:
                harm()
            await process.start()
            await publish(nats_bus, started(f"p{round_}"))
            await caught_up(nats_bus)
            assert await process.signal(signal.SIGTERM) == 0
            assert file.exists()
        assert "checkpoint.discarded" in process.log()
    expected = await folded(nats_bus)
    assert set(expected.endpoints) == {"p0", "p1", "p2", "p3"}


async def test_poison_stops_it_until_the_operators_word(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    process = Process(nats_url, tmp_path)
    async with processes(process):
        await process.start()
        await publish(nats_bus, started("a"))
        await nats_bus.publish(
            Stream.OBSERVED, [Outgoing(subject(Stream.OBSERVED, "pod.started"), b"\xc1")]
        )
        await publish(nats_bus, started("b"))
        said = await process.says("allocator.stopped")
        assert (said["stream"], said["sequence"]) == ("OBSERVED", 2)
        await publish(nats_bus, QuarantineRequested("OBSERVED", 2, "junk"))
        await caught_up(nats_bus)
        assert await process.signal(signal.SIGTERM) == 0
    assert EventQuarantined("OBSERVED", 2, "junk") in await effects(nats_bus)
    assert set((await folded(nats_bus)).endpoints) == {"a", "b"}


async def test_wrong_settings_are_said_and_end_it(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    good = Process(nats_url, tmp_path)
    other = Process(nats_url, tmp_path, RETIRE_GRACE_MS="1")
    none = Process(nats_url, tmp_path, NUMBERS_CLUSTER_BITS="12")
    async with processes(good, other, none):
        await good.start()
        await other.start("allocator.settings_differ")
        assert await other.ended() == USAGE
        assert "retire_grace_ms is 1" in other.log()
        with pytest.raises(AssertionError, match="TABARD"):
            await none.start()
        assert await none.ended() == USAGE
        assert await good.signal(signal.SIGTERM) == 0
