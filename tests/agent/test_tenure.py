"""Two agents for one node that share no lock: on one bus, in memory and as processes."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from agent.rig import NODE, Ledger, Recorder, holder, running, settings, statuses, until
from agent.test_process import Process, agent
from tabard.agent.errors import AlreadyRunning
from tabard.agent.report import Report
from tabard.agent.service import Agent
from tabard.agent.tenure import LISTENED_BEATS, Tenure
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Bus, Stream
from tabard.events.status import Holder, NodeStatus
from tabard.ledger.messages import first_cause, recorded, status, status_subject

BEAT_S = 0.03


async def say(
    bus: Bus, who: Holder | None, *, stopped: bool = False, beat_s: float = BEAT_S
) -> None:
    word = NodeStatus(NODE, 1, "memory", 0, (), holder=who, heartbeat_ms=int(beat_s * 1000))
    message = status(replace(word, stopped=stopped), first_cause(NODE, 0))
    await bus.publish(Stream.STATUS, [message])


def tenure(me: Holder) -> Tenure:
    return Tenure(me, Report(NODE, "memory"), BEAT_S)


async def test_a_node_of_which_nobody_spoke_is_claimed_at_once() -> None:
    one = tenure(holder("a"))
    await one.claim(MemoryBus())
    assert one.claimed


@pytest.mark.parametrize(
    ("who", "stopped"),
    [(holder("b"), True), (None, False), (holder("a", 9), False)],
    ids=["stopped", "of an older release", "dead: its lock is ours"],
)
async def test_a_holder_that_is_gone_is_not_waited_for(who: Holder | None, stopped: bool) -> None:
    bus = MemoryBus()
    other = None if who is None else who._replace(token=b"other")
    await say(bus, other, stopped=stopped, beat_s=60)
    one = tenure(holder("a"))
    async with asyncio.timeout(10):
        await one.claim(bus)
    assert one.claimed


async def test_a_holder_that_falls_silent_is_waited_for_once() -> None:
    bus, one = MemoryBus(), tenure(holder("a"))
    await say(bus, holder("b"))
    begun = asyncio.get_running_loop().time()
    await one.claim(bus)
    assert one.claimed
    assert asyncio.get_running_loop().time() - begun > BEAT_S


async def test_a_holder_that_stops_meanwhile_makes_room() -> None:
    bus, one = MemoryBus(), tenure(holder("a"))
    await say(bus, holder("b"))
    claiming = asyncio.ensure_future(one.claim(bus))
    await asyncio.sleep(0)
    await say(bus, holder("b"), stopped=True)
    await claiming
    assert one.claimed


async def test_a_holder_that_goes_on_speaking_is_named() -> None:
    bus, one = MemoryBus(), tenure(holder("a"))
    await say(bus, holder("b", since=1_700_000_000 * 10**9))
    claiming = asyncio.ensure_future(one.claim(bus))
    await asyncio.sleep(0)
    await say(bus, holder("b", since=1_700_000_000 * 10**9))
    with pytest.raises(AlreadyRunning) as caught:
        await claiming
    assert str(caught.value) == (
        "another agent speaks for node n1: process 7 on b, since 2023-11-14 22:13:20 UTC, with "
        "the data directory /b; stop that one, or give this one a node of its own (TABARD_NODE)"
    )
    assert not one.claimed


async def test_of_two_that_began_at_once_the_younger_stands_down_and_the_elder_says_so() -> None:
    bus = MemoryBus()
    elder, younger = tenure(holder("a", since=1)), tenure(holder("b", since=2))
    await elder.claim(bus)
    await younger.claim(bus)
    await say(bus, elder.me)
    with pytest.raises(AlreadyRunning, match=r"process 7 on a.*started before this one"):
        await younger.look(bus)
    await say(bus, younger.me)
    await elder.look(bus)
    trouble = elder._report.troubles["holder"]
    assert "process 7 on b" in trouble
    await say(bus, elder.me)

    async def alone() -> None:
        while elder._report.troubles:
            await elder.look(bus)
            await asyncio.sleep(BEAT_S / 3)

    async with asyncio.timeout(10):
        await alone()


async def test_two_of_the_same_moment_do_not_both_stay_or_both_go() -> None:
    bus = MemoryBus()
    one, two = tenure(holder("a", since=1)), tenure(holder("b", since=1))
    await one.claim(bus)
    await two.claim(bus)
    left = []
    for own, other in ((one, two), (two, one)):
        await say(bus, other.me)
        try:
            await own.look(bus)
            left.append(own)
        except AlreadyRunning:
            pass
    assert len(left) == 1


async def test_a_refused_agent_wrote_neither_to_the_bus_nor_to_the_dataplane(
    tmp_path: Path,
) -> None:
    ledger, bus, dataplane = Ledger(), MemoryBus(), Recorder()
    await ledger.write(bus)
    opened = []
    dataplane.open = lambda: opened.append(1)  # type: ignore[method-assign]

    async def connect() -> Bus:
        return MemoryBus(bus.store)

    async with running(tmp_path / "first", bus, status_heartbeat_ms=100) as first:
        await first.enforces(ledger.written)
        await until(lambda: bus.store.logs[Stream.STATUS].messages)
        second = Agent(settings(tmp_path / "second"), dataplane, connect)
        with pytest.raises(AlreadyRunning, match=str(tmp_path / "first")):
            await second.run()
        assert not opened
        assert {word.holder for word in statuses(bus.store)} == {first.agent.report.holder}
    assert statuses(bus.store)[0].stopped


async def test_a_stop_is_said_so_that_another_machine_need_not_wait(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path / "first", bus) as first:
        await first.enforces(end)
        await until(lambda: bus.store.logs[Stream.STATUS].messages)
    [word] = statuses(bus.store)
    assert (word.stopped, word.sequence, word.error) == (True, end, "")
    async with asyncio.timeout(LISTENED_BEATS * 3):
        async with running(tmp_path / "second", bus) as second:
            await second.enforces(end)
            await until(lambda: not statuses(bus.store)[0].stopped)


@pytest.mark.nats
async def test_a_second_process_of_a_node_says_who_holds_it(
    tmp_path: Path, nats_url: str, nats_bus: JetStreamBus
) -> None:
    """On this machine by its lock, which dies with the first; on another, which shares no lock, by
    what the first says on the bus."""
    ledger = Ledger()
    end = await ledger.write(nats_bus)
    beats = {"TABARD_STATUS_HEARTBEAT_MS": "400"}
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, run: str, output: int | None = None) -> Process:
            settings = beats | {"TABARD_RUN_DIR": run}
            return await stack.enter_async_context(
                agent(tmp_path / name, nats_url, output, **settings)
            )

        first = await start("first", here)
        await first.enforces(end)
        await until_said(nats_bus, first.process.pid)
        fact = f"process {first.process.pid} on "
        for run in (here, there):
            with (tmp_path / "log").open("w") as log:
                second = await start("second", run, log.fileno())
                assert await second.process.wait() == 1
            said = (tmp_path / "log").read_text()
            assert fact in said
            assert str(tmp_path / "first") in said
        assert first.process.returncode is None
        await first.kill()
        begun = asyncio.get_running_loop().time()
        again = await start("second", here)
        await again.enforces(end)
        print(f"control back in {asyncio.get_running_loop().time() - begun:.2f} s")
        await until_said(nats_bus, again.process.pid)
        await again.stop()
        await until_said(nats_bus, again.process.pid, stopped=True)


async def until_said(bus: JetStreamBus, pid: int, *, stopped: bool = False) -> None:
    async with asyncio.timeout(20):
        while True:
            found = await bus.last_on_subject(Stream.STATUS, status_subject(NODE))
            word = None if found is None else recorded(Stream.STATUS, found).event
            if word is not None and (word.holder.pid, word.stopped) == (pid, stopped):
                return
            await asyncio.sleep(0.02)
