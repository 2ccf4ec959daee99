import asyncio
import io
import itertools
import json
import sys

import pytest

from command import Tabard
from ledgers import append, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli.progress import showing
from tabard.cli.wait import Settled, settled
from tabard.cluster.publish import publish
from tabard.cluster.watermarks import Watermark
from tabard.events import ledger as events
from tabard.events.observed import PodStopped
from tabard.events.status import NodeStatus


def test_wait_ends_when_all_nodes_enforce(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await say(bus, "n1", 8)
        await say(bus, "n2", 5)

    asyncio.run(build())
    result = tabard("wait", "--sequence", "5")
    assert (result.exit_code, result.stderr) == (0, "2 nodes enforce LEDGER/5\n")
    result = tabard("wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "node n2 is at 5" in result.stderr
    assert "n1" not in result.stderr


def test_what_was_observed_and_not_taken_is_waited_for(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await publish(bus, [PodStopped("x")])

    asyncio.run(build())
    result = tabard("wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "the allocator has taken OBSERVED/0, not OBSERVED/1" in result.stderr


def test_without_time_what_the_nodes_said_last_is_enough(
    tabard: Tabard, store: MemoryStore
) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await say(bus, "n1", 8)
        await say(bus, "n2", 8)

    asyncio.run(build())
    result = tabard("wait", "--timeout", "0")
    assert (result.exit_code, result.stderr) == (0, "2 nodes enforce LEDGER/8\n")
    result = tabard("wait", "--sequence", "9", "--timeout", "0.2")
    assert result.exit_code == 3
    assert "not enforced through LEDGER/9 within 0.2 s: node n1 is at 8" in result.stderr


def test_a_ledger_without_nodes_is_no_success(tabard: Tabard, store: MemoryStore) -> None:
    assert tabard("wait").exit_code == 1


MINUTE = 60_000_000_000


def spoken(store: MemoryStore, **ages_s: float) -> int:
    """The small ledger, whose nodes spoke so long ago: n1 enforces all of it, the others 5 events.

    The present, by the bus's clock.
    """
    bus, now = MemoryBus(store), 60 * MINUTE

    async def build() -> None:
        store.clock = lambda: now - MINUTE
        await append(bus, *small(), events.NodeAdded("n3", (), ()))
        for name, age_s in sorted(ages_s.items(), key=lambda each: -each[1]):
            store.clock = itertools.repeat(now - int(age_s * 1e9)).__next__
            await say(bus, name, 9 if name == "n1" else 5)
        store.clock = lambda: now

    asyncio.run(build())
    return now


def test_a_silent_node_is_named_and_not_waited_for(tabard: Tabard, store: MemoryStore) -> None:
    spoken(store, n1=1, n2=20, n3=30)
    result = tabard("wait", "--timeout", "0")
    assert result.exit_code == 0
    first, *notes = result.stderr.splitlines()
    assert first == "1 node enforces LEDGER/9"
    assert [note.split(" is silent")[0] for note in notes] == ["note: node n2", "note: node n3"]


def test_of_all_nodes_the_silent_ones_are_waited_for_and_named(
    tabard: Tabard, store: MemoryStore
) -> None:
    spoken(store, n1=1, n2=1, n3=30)
    result = tabard("wait", "--all-nodes", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "node n2 is at 5 with 0 pods; node n3 is at 5 with 0 pods, silent for 30 s" in (
        result.stderr
    )
    assert "n1" not in result.stderr


def test_a_lost_node_is_named_and_not_waited_for_even_if_it_speaks(
    tabard: Tabard, store: MemoryStore
) -> None:
    spoken(store, n1=1, n2=1, n3=1)
    lost = [events.NodeLost(name, 5) for name in ("n2", "n3")]
    asyncio.run(append(MemoryBus(store), *lost))
    result = tabard("wait", "--sequence", "9", "--timeout", "0")
    assert result.exit_code == 0
    first, *notes = result.stderr.splitlines()
    assert first == "1 node enforces LEDGER/9"
    assert [note.split(" is ")[0] for note in notes] == ["note: node n2", "note: node n3"]


def test_a_node_that_said_that_it_stops_is_not_live(tabard: Tabard, store: MemoryStore) -> None:
    spoken(store, n1=1, n2=1, n3=1)
    asyncio.run(say(MemoryBus(store), "n2", 9, stopped=True))
    result = tabard("wait", "--sequence", "5", "-o", "json")
    nodes = {each["name"]: each["live"] for each in json.loads(result.stdout)["nodes"]}
    assert nodes == {"n1": True, "n2": False, "n3": True}


def test_what_is_planned_for_running_pods_is_waited_for(tabard: Tabard, store: MemoryStore) -> None:
    spoken(store, n1=1, n2=1, n3=1)
    asyncio.run(append(MemoryBus(store), events.RelabelPlanned("uid-web-0", 256, ())))
    assert tabard("wait", "--timeout", "0.05").exit_code == 3


def test_a_live_node_that_is_behind_is_waited_for(tabard: Tabard, store: MemoryStore) -> None:
    spoken(store, n1=1, n2=14, n3=30)
    result = tabard("wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "node n2 is at 5 with 0 pods" in result.stderr


def test_a_silent_node_that_enforces_it_already_counts(tabard: Tabard, store: MemoryStore) -> None:
    spoken(store, n1=30, n2=30, n3=1)
    assert tabard("wait", "--sequence", "5", "--timeout", "0").stderr == (
        "3 nodes enforce LEDGER/5\n"
    )


def test_where_no_node_is_live_all_are_waited_for(tabard: Tabard, store: MemoryStore) -> None:
    spoken(store, n1=30, n2=30, n3=30)
    result = tabard("wait", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "silent for 30 s" in result.stderr


async def test_a_node_that_falls_silent_under_the_wait_is_left_behind() -> None:
    store = MemoryStore(clock=lambda: now)
    now, bus = MINUTE, MemoryBus(store)
    await append(bus, *small())
    await say(bus, "n1", 5)
    await say(bus, "n2", 5)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(settled(bus, 8, 10))
        for step in (10, 10):
            for _ in range(20):
                await asyncio.sleep(0)
            assert not waiting.done()
            now += step * 1_000_000_000
            await say(bus, "n1", 8)
    assert waiting.result() == Settled(
        8,
        (
            {"name": "n1", "watermark": 8, "live": True},
            {"name": "n2", "watermark": 5, "live": False},
        ),
        ("n2",),
    )


def test_progress_is_a_line_for_each_node_that_came(
    tabard: Tabard, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        name: Watermark(NodeStatus(name, sequence, "memory", 0, ()), 1)
        for name, sequence in (("n1", 8), ("n2", 5), ("n3", 7))
    }
    with showing(["n1", "n2", "n3", "n4"], 8) as heard:
        heard(words)
        heard(words)
        heard(words | {"n2": words["n1"]})
        heard(dict.fromkeys(("n1", "n2", "n3", "n4"), words["n1"]))
    assert capsys.readouterr().err.splitlines() == [
        "1 of 4 nodes enforce LEDGER/8; n4 lags by 8 events",
        "2 of 4 nodes enforce LEDGER/8; n4 lags by 8 events",
    ]


def test_at_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    word = Watermark(NodeStatus("n1", 8, "memory", 0, ()), 1)
    with showing(["n1", "n2"], 8) as heard:
        heard({"n1": word})
    assert "1/2" in terminal.getvalue()
    assert "n2 lags by 8 events" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    with showing(["n1", "n2"], 8) as heard:
        heard({"n1": word})
    assert terminal.getvalue().strip("\0") == "1 of 2 nodes enforce LEDGER/8; n2 lags by 8 events\n"
