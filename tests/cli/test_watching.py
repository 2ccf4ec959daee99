"""`-w`: what changes, as it changes, on a bus that is asked only when it has news."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
import yaml

from command import Tabard
from ledgers import append, append_raw, bound, replica, say, small, speak
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import status, watching
from tabard.cli.get import known, named, read
from tabard.cli.printing import Output
from tabard.cli.tables import VIEWS
from tabard.cli.views import Reading, nodes
from tabard.cli.watching import Changes, differences, watch
from tabard.cluster.allocators import Allocators
from tabard.events import ledger as events
from tabard.ledger.follow import catch_up
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State


@pytest.fixture(autouse=True)
def _no_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SPACING_S", 0.0)


class Watched:
    """A watch under way on a memory bus that holds the small ledger."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.state = State()
        self.seen = asyncio.Event()

    async def run(
        self,
        show: Callable[[Reading], None],
        *steps: Callable[[], Awaitable[object]],
        until: Callable[[Reading], bool],
    ) -> None:
        """Show the beginning, then take the steps; ends when `until` holds of a reading."""
        show(await read(self.bus, self.state))

        def look(reading: Reading) -> None:
            show(reading)
            if until(reading):
                self.seen.set()

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            watching_ = tasks.create_task(watch(self.bus, self.state, known, look))
            for step in steps:
                for _ in range(20):  # let the watch see each step for itself
                    await asyncio.sleep(0)
                await step()
            await self.seen.wait()
            watching_.cancel()


def changes(kind: str, output: Output) -> Callable[[Reading], None]:
    view = VIEWS[kind]
    shown = Changes(view.columns, view.identity, partial(named, kind), output, view.volatile)
    return lambda reading: shown.show(reading.state.sequence, view.rows(reading))


async def test_rows_come_as_they_are_added_changed_and_deleted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watched = Watched()
    bus = watched.bus
    await append(bus, *small())
    await watched.run(
        changes("pods", Output.TABLE),
        lambda: append(bus, bound("web-1", address="10.244.1.3")),
        lambda: say(bus, "n1", 9, endpoints=2),
        lambda: append(bus, events.EndpointUnbound("uid-web-0")),
        until=lambda reading: len(reading.state.endpoints) == 1 and bool(reading.words),
    )
    head, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head[:4] == ["EVENT", "NAMESPACE", "NAME", "STATUS"]
    assert [(line[0], line[2], line[3]) for line in lines] == [
        ("ADDED", "web-0", "Bound"),
        ("ADDED", "web-1", "Bound"),
        ("MODIFIED", "web-0", "Enforced"),
        ("MODIFIED", "web-1", "Enforced"),
        ("DELETED", "web-0", "Enforced"),
    ]


async def test_documents_are_json_a_line_or_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for output in (Output.JSON, Output.YAML, Output.NAME):
        watched = Watched()
        bus = watched.bus
        await append(bus, *small())
        await watched.run(
            changes("workloads", output),
            lambda bus=bus: append(bus, events.WorkloadForgotten("Deployment", "shop", "web")),
            until=lambda reading: not reading.state.workloads,
        )
        found[output] = capsys.readouterr().out
    documents = [json.loads(line) for line in found[Output.JSON].splitlines()]
    assert [(each["sequence"], each["event"], each["item"]["name"]) for each in documents] == [
        (8, "ADDED", "web"),
        (9, "DELETED", "web"),
    ]
    assert list(yaml.safe_load_all(found[Output.YAML])) == documents
    assert found[Output.NAME] == "workload/shop/web\n" * 2


async def test_a_heartbeat_alone_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched()
    bus = watched.bus
    await append(bus, *small())
    await say(bus, "n1", 8)
    await watched.run(
        changes("nodes", Output.NAME),
        lambda: say(bus, "n1", 8),
        lambda: say(bus, "n1", 8),
        lambda: say(bus, "n2", 8),
        until=lambda reading: len(reading.words) == 2,
    )
    assert capsys.readouterr().out.split() == ["node/n1", "node/n2", "node/n2"]


async def test_a_bus_without_news_is_not_asked() -> None:
    asked = 0

    class Counting(MemoryBus):
        async def _turn(self) -> None:
            nonlocal asked
            asked += 1
            await super()._turn()

    bus, state = Counting(), State()
    await append(bus, *small())
    await read(bus, state)
    watching_ = asyncio.create_task(watch(bus, state, known, lambda reading: None))
    for _ in range(100):
        await asyncio.sleep(0)
    before = asked
    for _ in range(1000):
        await asyncio.sleep(0)
    assert asked == before
    watching_.cancel()
    with suppress(asyncio.CancelledError):
        await watching_


async def test_a_watch_ends_before_an_event_that_cannot_be_taken() -> None:
    bus, state = MemoryBus(), State()
    await append(bus, *small())
    await read(bus, state)
    await append_raw(bus, b"\xc1")
    with pytest.raises(ExceptionGroup) as raised:
        await watch(bus, state, known, lambda reading: None, 10)
    assert isinstance(raised.value.exceptions[0], Stopped)


async def test_a_status_goes_on_with_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched()
    bus = watched.bus
    await append(bus, *small())
    with status._showing(Output.TABLE) as show:
        await watched.run(
            lambda reading: show(
                status.status(reading, nodes(reading)) | {"cluster": None, "bus": None, "error": ""}
            ),
            lambda: say(bus, "n2", 8),
            until=lambda reading: bool(reading.words),
        )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[8:]] == [
        ["n1", "Unknown", "-"],
        ["n2", "Unknown", "-"],
        ["n2", "Current", "8"],
    ]


async def test_a_status_in_json_is_printed_whole_at_each_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watched = Watched()
    bus = watched.bus
    await append(bus, *small())
    with status._showing(Output.JSON) as show:
        await watched.run(
            lambda reading: show(
                status.status(reading, nodes(reading)) | {"cluster": None, "bus": None, "error": ""}
            ),
            lambda: say(bus, "n1", 8),
            lambda: say(bus, "n2", 8),
            lambda: say(bus, "n2", 8),
            until=lambda reading: len(reading.words) == 2,
        )
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["enforced"] for each in found] == [None, None, 8]


async def test_a_status_tells_an_allocators_turns_and_not_its_heartbeats(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bus = MemoryBus()
    await append(bus, *small())
    state, roll = State(), Allocators()
    await catch_up(bus, state)
    with status._showing(Output.TABLE) as show:
        for word in (
            replica("h-1", "leading"),
            replica("h-2"),
            replica("h-2"),
            replica("h-1", "stopped"),
        ):
            await speak(bus, word)
            reading = replace(await known(bus, state, {}), allocators=await roll.heard(bus))
            rest = {"cluster": None, "bus": None, "error": ""}
            show(status.status(reading, nodes(reading)) | rest)
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "h-" in line]
    assert lines[1:] == [["h-1", "Leading"], ["h-2", "Following"], ["h-1", "Stopped"]]


@pytest.mark.parametrize("words", [("get", "pods"), ("get", "nodes"), ("status",)], ids=" ".join)
def test_a_watch_ends_after_its_time(
    tabard: Tabard, store: MemoryStore, words: tuple[str, ...]
) -> None:
    asyncio.run(append(MemoryBus(store), *small()))
    result = tabard(*words, "-w", "--timeout", "0.05")
    assert result.exit_code == 0, result.stderr
    assert "n1" in result.stdout


def test_a_watch_that_cannot_go_on_fails_in_three_parts(tabard: Tabard, store: MemoryStore) -> None:
    async def build() -> None:
        await append(MemoryBus(store), *small())
        await append_raw(MemoryBus(store), b"\xc1")

    asyncio.run(build())
    result = tabard("get", "pods", "-w", "--timeout", "5")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "tabard: cannot get pods"
    assert result.stderr.splitlines()[-1] == "  next: tabard events show 9"


def test_what_is_gone_comes_first_and_volatile_keys_are_no_change() -> None:
    before = {1: {"a": 1, "said_at": 1}, 2: {"a": 2, "said_at": 1}}
    after = {2: {"a": 2, "said_at": 9}, 3: {"a": 3, "said_at": 1}}
    found = list(differences(before, after, frozenset({"said_at"})))
    assert found == [("DELETED", before[1]), ("ADDED", after[3])]
    found = list(differences(before, {2: {"a": 5, "said_at": 1}}, frozenset()))
    assert [event for event, _ in found] == ["DELETED", "MODIFIED"]
