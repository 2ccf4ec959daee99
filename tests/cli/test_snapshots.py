"""Snapshots and trimming by command, and every reading command on a ledger that was trimmed."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from command import Tabard
from ledgers import Answering, append, bound, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Bus, BusError, BusUnavailable, Outgoing, Stream
from tabard.cli import reach
from tabard.cli.archived import ArchivedBus, paths_of
from tabard.cli.documents import COMMANDS
from tabard.events import ledger as events
from tabard.events.codec import decode
from tabard.events.observed import TrimRequested
from tabard.ledger import archive
from tabard.ledger.archive import listed


class Trimming(Answering):
    """Records a trim as an allocator does."""

    async def publish(self, stream: Stream, messages: list[Outgoing]) -> list[int]:  # type: ignore[override]
        for message in messages:
            event = decode(message.payload, stream, 1).event
            if isinstance(event, TrimRequested):
                said = dataclasses.astuple(event)
                self.answers.append(events.LedgerTrimmed(*said))
        return await super().publish(stream, messages)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What stands on the bus that the commands reach; archives are read as they are."""
    store, real = MemoryStore(), reach.connected

    @asynccontextmanager
    async def connected(chosen: reach.Target, timeout_s: float = 10) -> AsyncIterator[Bus]:
        if paths_of(chosen.nats):
            async with real(chosen) as bus:
                yield bus
        else:
            yield Trimming(store)

    monkeypatch.setattr(reach, "connected", connected)
    return store


def add(store: MemoryStore, *more: events.LedgerEvent) -> int:
    return asyncio.run(append(MemoryBus(store), *more))


def pod(number: int) -> events.EndpointBound:
    return bound(f"web-{number}", address=f"10.244.1.{number + 2}")


@pytest.fixture
def ledger(store: MemoryStore, tabard: Tabard) -> MemoryStore:
    """Snapshots at 8, 9 and 10 of a ledger of 11 events; nodes that enforce all of it."""
    add(store, *small())
    for number in (1, 2, 3):
        assert tabard("snapshots", "take").exit_code == 0
        add(store, pod(number))
    for node in ("n1", "n2"):
        asyncio.run(say(MemoryBus(store), node, 11))
    return store


def first(store: MemoryStore) -> int:
    return asyncio.run(MemoryBus(store).first_sequence(Stream.LEDGER))


def test_snapshots_are_listed_newest_first(tabard: Tabard, ledger: MemoryStore) -> None:
    found = json.loads(tabard("snapshots", "list", "-o", "json").stdout)
    assert [each["sequence"] for each in found["snapshots"]] == [10, 9, 8]
    assert (found["first"], found["head"]) == (1, 11)
    result = tabard("snapshots", "list")
    assert result.stdout.splitlines()[1].split()[0] == "10"
    assert "LEDGER holds 1 to 11" in result.stderr
    assert tabard("snapshots", "list", "-o", "name").stdout.split() == ["10", "9", "8"]


def test_a_fourth_snapshot_makes_the_oldest_go(tabard: Tabard, ledger: MemoryStore) -> None:
    result = tabard("snapshots", "take", "-o", "json")
    assert json.loads(result.stdout)["sequence"] == 11
    assert "removed snapshot 8" in result.stderr
    assert [entry.sequence for entry in asyncio.run(listed(MemoryBus(ledger)))] == [11, 10, 9]


def test_snapshots_are_held_against_the_ledger(tabard: Tabard, ledger: MemoryStore) -> None:
    result = tabard("snapshots", "verify", "-o", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)["snapshots"]
    assert [(each["sequence"], each["good"], each["proven_from"]) for each in found] == [
        (8, True, 0),
        (9, True, 0),
        (10, True, 0),
    ]
    info, content = ledger.objects["9"]
    ledger.objects["9"] = info, content[:-1]
    result = tabard("snapshots", "verify")
    assert result.exit_code == 1
    assert "snapshot 9 is refused" in result.stdout


def test_a_trim_removes_what_stands_before_and_is_on_the_record(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path
) -> None:
    words = ("ledger", "trim", "--before", "9", "--archive", str(tmp_path), "-o", "json")
    result = tabard(*words)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["first"], found["removed"]) == (9, 8)
    assert list(found) == [field.name for field in COMMANDS["ledger trim"]]
    assert first(ledger) == 9
    assert Path(found["archive"]).name == "LEDGER-1-8.jsonl.gz"
    said = asyncio.run(
        MemoryBus(ledger).last_on_subject(Stream.LEDGER, "tabard.ledger.ledger.trimmed")
    )
    assert said is not None
    event = decode(said.payload, Stream.LEDGER, said.sequence).event
    assert (event.before, event.archive_sha256.hex()) == (9, found["sha256"])
    shown = tabard("events", "tail", "--no-follow", "-o", "wide").stdout
    assert f"archive=LEDGER-1-8.jsonl.gz archive_sha256={found['sha256']}" in shown
    kept = {entry.sequence: entry.kept for entry in asyncio.run(listed(MemoryBus(ledger)))}
    assert kept == {10: "", 9: "trim"}, "8, whose event is gone, went with it"
    # Again, further on: the mark goes to where the ledger begins now.
    for number in (4, 5):
        add(ledger, pod(number))
        tabard("snapshots", "take")
    for node in ("n1", "n2"):
        asyncio.run(say(MemoryBus(ledger), node, 13))
    result = tabard("ledger", "trim", "--before", "11", "--archive", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert first(ledger) == 11
    kept = {entry.sequence: entry.kept for entry in asyncio.run(listed(MemoryBus(ledger)))}
    assert kept[11] == "trim", "where there was no snapshot, it made one"
    assert min(kept) == 11
    assert tabard("snapshots", "verify").exit_code == 0
    archives = ",".join(f"file:{path}" for path in sorted(tmp_path.iterdir()))
    result = tabard("events", "verify", "--nats", archives)
    assert "LEDGER is whole: 10 events" in result.stderr


def test_nothing_is_trimmed_ahead_of_snapshots_or_of_a_live_node(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path
) -> None:
    words = ("ledger", "trim", "--archive", str(tmp_path), "--before")
    asyncio.run(say(MemoryBus(ledger), "n2", 8))
    result = tabard(*words, "9")
    assert result.exit_code == 0, result.stderr
    assert "node n2 stands at 8: no further" in result.stderr
    assert first(ledger) == 8
    asyncio.run(say(MemoryBus(ledger), "n2", 11))
    for before, told in (
        ("10", "no good snapshot stands behind 10; nothing goes ahead of one"),
        ("11", "no good snapshot stands behind 11"),
        ("99", "before 99"),
    ):
        result = tabard(*words, before)
        assert result.exit_code == 1
        assert told in result.stderr
    assert first(ledger) == 8


def test_a_trim_that_was_broken_off_is_finished_by_the_next(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: MemoryBus, before: int) -> int:
        await MemoryBus.trim(self, 5)
        raise BusUnavailable("the server died in the middle")

    words = ("ledger", "trim", "--archive", str(tmp_path), "--before", "9")
    with monkeypatch.context() as patch:
        patch.setattr(Trimming, "trim", broken)
        result = tabard(*words)
    assert result.exit_code == 1
    assert "died in the middle" in result.stderr
    assert first(ledger) == 5
    assert tabard("events", "verify").exit_code == 0
    assert len(tabard("get", "pods", "-o", "name").stdout.split()) == 4
    result = tabard(*words)
    assert "finished a trim that was broken off: LEDGER begins at 9" in result.stderr
    assert "nothing to remove: all that LEDGER holds, from 9 on" in result.stderr
    assert first(ledger) == 9


def test_a_trim_with_nothing_to_remove_is_no_failure(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path
) -> None:
    for wanted in (("--keep-days", "90"), ("--before", "9"), ("--before", "9")):
        result = tabard("ledger", "trim", "--archive", str(tmp_path), *wanted, "-o", "json")
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        if wanted == ("--keep-days", "90"):
            assert found == {"first": 1, "removed": 0, "archive": None, "sha256": None}
            assert "nothing to remove: all that LEDGER holds, from 1 on" in result.stderr
    assert (found["first"], found["removed"]) == (9, 0)


def test_what_is_not_seen_for_long_holds_nothing_back(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path
) -> None:
    clock = ledger.clock
    asyncio.run(say(MemoryBus(ledger), "n2", 3))
    ledger.clock = lambda: clock() + 60 * 10**9
    result = tabard("ledger", "trim", "--keep-days", "0", "--archive", str(tmp_path))
    assert "no good snapshot stands behind" in result.stderr
    result = tabard("ledger", "trim", "--before", "9", "--archive", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert first(ledger) == 9


def test_without_a_good_snapshot_behind_it_nothing_is_trimmed(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path
) -> None:
    words = ("ledger", "trim", "--archive", str(tmp_path / "in"), "--before", "9")
    info, content = ledger.objects["10"]
    ledger.objects["10"] = info, content[:-1]
    result = tabard(*words)
    assert result.exit_code == 1
    assert "no good snapshot stands behind 9 (snapshot 10 is refused" in result.stderr
    ledger.objects.clear()
    result = tabard(*words)
    assert result.exit_code == 1
    assert "no good snapshot stands behind 9;" in result.stderr
    assert first(ledger) == 1
    assert not (tmp_path / "in").exists()


def test_a_snapshot_that_the_ledger_does_not_come_to_stops_a_trim(
    tabard: Tabard, ledger: MemoryStore, tmp_path: Path
) -> None:
    # Its bytes are whole and it is of this ledger, but somebody made it of another state.
    async def forge() -> None:
        bus = MemoryBus(ledger)
        entry = (await listed(bus))[0]
        state = await archive.load(bus, entry)
        state.retired[999] = 3
        await archive.store(bus, archive.Frozen.of(state), "forger")

    asyncio.run(forge())
    result = tabard("ledger", "trim", "--archive", str(tmp_path), "--before", "9")
    assert result.exit_code == 1
    assert "snapshot 10 is not what the ledger comes to" in result.stderr
    assert first(ledger) == 1
    assert list(tmp_path.iterdir()) == []
    result = tabard("snapshots", "verify")
    assert result.exit_code == 1
    assert "comes to another digest" in result.stdout


def test_without_an_allocators_word_nothing_is_trimmed(
    tabard: Tabard,
    ledger: MemoryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def publish(self: MemoryBus, stream: Stream, messages: list[Outgoing]) -> list[int]:
        return await MemoryBus.publish(self, stream, messages)

    monkeypatch.setattr(Trimming, "publish", publish)
    words = ("ledger", "trim", "--archive", str(tmp_path), "--before", "9", "--timeout", "0.1")
    result = tabard(*words)
    assert result.exit_code == 3
    assert "no allocator recorded the trim" in result.stderr
    assert first(ledger) == 1


@pytest.fixture
def trimmed(tabard: Tabard, ledger: MemoryStore, tmp_path: Path) -> MemoryStore:
    """The same ledger from 9 on; the file of the rest is in `tmp_path`."""
    result = tabard("ledger", "trim", "--before", "9", "--archive", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert first(ledger) == 9
    return ledger


def test_reads_of_a_trimmed_ledger_know_all_that_is_there(
    tabard: Tabard, trimmed: MemoryStore
) -> None:
    pods = ["pod/shop/web-0", "pod/shop/web-1", "pod/shop/web-2", "pod/shop/web-3"]
    assert len(tabard("get", "pods", "-o", "name").stdout.split()) == 4, pods
    assert len(tabard("get", "pods", "--at", "10", "-o", "name").stdout.split()) == 3
    assert len(tabard("get", "pods", "--at", "9", "-o", "name").stdout.split()) == 2
    result = tabard("events", "verify", "-o", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["first"], found["bad"]) == (9, None)
    assert found["verified"] == found["head"]
    assert "LEDGER is whole from 9 on" in result.stderr
    assert tabard("events", "show", "9").exit_code == 0
    assert tabard("events", "tail", "--no-follow", "-o", "name").stdout.startswith("LEDGER/9\n")
    result = tabard("events", "tail", "--no-follow", "-o", "name", "--from", "2")
    assert result.stdout.startswith("LEDGER/9\n")
    assert "LEDGER begins at 9" in result.stderr
    # A node that was away since before the trim is told as such.
    clock = trimmed.clock
    asyncio.run(say(MemoryBus(trimmed), "n2", 3))
    trimmed.clock = lambda: clock() + 60 * 10**9
    found = json.loads(tabard("status", "-o", "json").stdout)
    lags = {node["name"]: (node["lag"], node["lag_ms"] > 0) for node in found["nodes"]}
    assert lags["n2"] == (found["ledger"]["head"] - 3, True)
    assert "n2" in tabard("get", "nodes").stdout


def test_what_was_trimmed_away_is_told_and_read_from_its_archive(
    tabard: Tabard, trimmed: MemoryStore, tmp_path: Path
) -> None:
    for words in (("get", "pods", "--at", "8"), ("events", "show", "8"), ("status", "--at", "3")):
        result = tabard(*words)
        assert result.exit_code == 1
        assert "LEDGER begins at 9" in result.stderr
        assert "trimmed away" in result.stderr
    (archive,) = tmp_path.iterdir()
    there = ("--nats", f"file:{archive}")
    assert len(tabard("get", "pods", "--at", "8", "-o", "name", *there).stdout.split()) == 1
    assert json.loads(tabard("events", "show", "7", *there).stdout)["type"] == "endpoint.bound"
    assert "LEDGER is whole: 8 events" in tabard("events", "verify", *there).stderr
    archive.write_bytes(archive.read_bytes()[:-20])
    result = tabard("events", "verify", *there)
    assert result.exit_code == 1
    assert "not a file of exported events" in result.stderr
    result = tabard("events", "verify", "--nats", f"file:{archive},{archive}")
    assert "each with file: before its path" in result.stderr
    archive.unlink()
    assert f"there is no file {archive}" in tabard("events", "verify", *there).stderr


def test_provenance_begins_where_the_ledger_does(tabard: Tabard, trimmed: MemoryStore) -> None:
    result = tabard("describe", "pod", "shop/web-0", "-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["history"] == []
    assert "what led to LEDGER/9 was trimmed away" in result.stderr
    result = tabard("policy", "check", "--from", "shop/web-0", "--to", "shop/web-3", "--port", "80")
    assert "what led to LEDGER/9 was trimmed away" in result.stderr


def test_a_beginning_that_no_trim_removed_is_a_fault(tabard: Tabard, trimmed: MemoryStore) -> None:
    asyncio.run(MemoryBus(trimmed).trim(10))
    result = tabard("events", "verify")
    assert result.exit_code == 1
    assert "LEDGER/10 is the first bad event" in result.stderr
    assert "was trimmed before 9 only: 9 to 9 are lost" in result.stderr


def test_an_archive_is_not_written(tabard: Tabard, trimmed: MemoryStore, tmp_path: Path) -> None:
    (archive,) = tmp_path.iterdir()

    with pytest.raises(BusError, match="an archive is read"):
        asyncio.run(append(ArchivedBus([archive]), pod(9)))
