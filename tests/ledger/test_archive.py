"""Snapshots in the bucket: what is stored comes back; what is not as it was is refused by name."""

import dataclasses
import io
import zlib

import msgpack
import pytest
import structlog

from ledgers import append, bound, small
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.ledger import archive, snapshot
from tabard.ledger.archive import Frozen
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up, follow
from tabard.ledger.snapshot import SnapshotError
from tabard.ledger.start import TrimmedAway, begin
from tabard.ledger.state import State


async def a_ledger() -> MemoryBus:
    bus = MemoryBus()
    await append(bus, *small())
    return bus


async def take(bus: MemoryBus) -> archive.Entry:
    """A snapshot of the ledger's present end, by way of the log."""
    state = State()
    async for _ in _through(bus, state):
        pass
    return await archive.store(bus, Frozen.of(state), "allocator-2/1")


async def _through(bus: MemoryBus, state: State):  # type: ignore[no-untyped-def]
    end = await bus.last_sequence(Stream.LEDGER)
    batches = follow(bus, state, 1)
    while state.sequence < end:
        yield await anext(batches)
    await batches.aclose()


def damaged(bus: MemoryBus, name: str, content: bytes) -> None:
    """As if these bytes had been put: the bucket's own hash is right."""
    info = bus.store.objects[name][0]
    bus.store.objects[name] = dataclasses.replace(info, size=len(content)), content


async def test_a_snapshot_is_the_state_and_says_what_it_is_of() -> None:
    bus = await a_ledger()
    entry = await take(bus)
    state = await archive.load(bus, entry)
    assert state == await catch_up(bus, State())
    assert (entry.sequence, entry.by, entry.kept) == (8, "allocator-2/1", "")
    assert (entry.chain, entry.digest) == (state.chain.hex(), digest(state).hex())
    assert entry.schema == str(snapshot.SCHEMA)
    assert await archive.listed(bus) == [entry]


async def test_the_newest_by_then_is_begun_with_and_the_rest_is_read() -> None:
    bus = await a_ledger()
    await take(bus)
    await append(bus, bound("web-1", address="10.244.1.3"))
    await take(bus)
    await append(bus, bound("web-2", address="10.244.1.4"))
    whole = State()
    async for _ in _through(bus, whole):
        pass
    for through, begun in ((None, 9), (10, 9), (9, 9), (8, 8), (7, None)):
        state = State()
        entry = await begin(bus, state, through)
        assert (entry and entry.sequence) == begun
        assert state.sequence == (begun or 0)
    assert await catch_up(bus, State()) == whole


async def test_who_wants_to_see_every_event_reads_the_log() -> None:
    bus = await a_ledger()
    await take(bus)
    seen: list[int] = []
    await catch_up(bus, State(), observe=lambda record: seen.append(record.sequence))
    assert seen == list(range(1, 9))


def repacked(content: bytes, **changes: object) -> bytes:
    """A snapshot with another manifest, rightly packed."""
    line, _, rest = content.partition(b"\n")
    parts = list(msgpack.Unpacker(io.BytesIO(zlib.decompress(rest)), use_list=False))
    names = ("sequence", "chain", "digest", "release", "by")
    parts[0] = tuple({**dict(zip(names, parts[0], strict=True)), **changes}.values())
    return line + b"\n" + zlib.compress(b"".join(map(msgpack.packb, parts)))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[:-1] + bytes((content[-1] ^ 1,)), "not what was put"),
        (lambda content: content[:100], "not what was put"),
    ],
    ids=["changed", "cut"],
)
async def test_what_the_bucket_finds_damaged_is_refused(damage, told: str) -> None:  # type: ignore[no-untyped-def]
    bus = await a_ledger()
    entry = await take(bus)
    info, content = bus.store.objects["8"]
    bus.store.objects["8"] = info, damage(content)
    with pytest.raises(SnapshotError, match=rf"snapshot 8 is refused.*{told}"):
        await archive.load(bus, entry)


REFUSED = {
    "empty": (lambda content: b"", "reads b'tabard snapshot 1'"),
    "another form": (
        lambda content: content.replace(b"snapshot 1", b"snapshot 2"),
        "begins with b'tabard snapshot 2'",
    ),
    "cut": (lambda content: content[:-9], "ends in the middle"),
    "goes on": (lambda content: content + b"more", "goes on behind its end"),
    "no zlib": (lambda content: content[:18] + b"junk", "cannot be read"),
    "another sequence": (lambda content: repacked(content, sequence=7), "not what it is named"),
    "another digest": (lambda content: repacked(content, digest=b"0" * 16), "digest"),
    "another chain": (lambda content: repacked(content, chain=b"0" * 16), "not what it is named"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_rightly_hashed_and_no_snapshot_is_refused(kind: str) -> None:
    damage, told = REFUSED[kind]
    bus = await a_ledger()
    await take(bus)
    put = damage(bus.store.objects["8"][1])
    await bus.objects.put("8", put, {})
    (entry,) = await archive.listed(bus)
    with pytest.raises(SnapshotError, match=f"snapshot 8 is refused.*{told}"):
        await archive.load(bus, entry)


async def test_a_newer_schema_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = await a_ledger()
    monkeypatch.setattr(snapshot, "SCHEMA", snapshot.SCHEMA + 1)
    entry = await take(bus)
    monkeypatch.undo()
    with pytest.raises(SnapshotError, match=f"schema {snapshot.SCHEMA + 1}.*{snapshot.SCHEMA}"):
        await archive.load(bus, entry)


async def test_a_snapshot_of_another_ledger_is_refused() -> None:
    bus, other = await a_ledger(), await a_ledger()
    await take(other)
    await bus.objects.put("8", other.store.objects["8"][1], {})
    (entry,) = await archive.listed(bus)
    with pytest.raises(SnapshotError, match="LEDGER/8 has another chain hash"):
        await archive.load(bus, entry)


async def test_a_state_that_its_own_events_do_not_make_is_never_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = await a_ledger()
    state = await catch_up(bus, State())
    frozen = Frozen.of(state)
    with pytest.raises(SnapshotError):
        await archive.store(bus, dataclasses.replace(frozen, chunks=frozen.chunks[:-1]), "me")
    assert await bus.objects.listed() == []


async def test_past_a_refused_snapshot_an_older_one_is_taken_and_past_all_the_log() -> None:
    bus = await a_ledger()
    await take(bus)
    await append(bus, bound("web-1", address="10.244.1.3"))
    await take(bus)
    wanted = await catch_up(bus, State())
    info, content = bus.store.objects["9"]
    bus.store.objects["9"] = info, content[:-1]
    state = State()
    with structlog.testing.capture_logs() as logs:
        entry = await begin(bus, state)
    assert entry is not None
    assert entry.sequence == 8
    assert [each["event"] for each in logs] == ["snapshot.refused", "snapshot.taken"]
    assert await catch_up(bus, State()) == wanted
    info, content = bus.store.objects["8"]
    bus.store.objects["8"] = info, b""
    assert await begin(bus, State()) is None
    assert await catch_up(bus, State()) == wanted


async def test_objects_that_are_no_snapshots_are_left_alone() -> None:
    bus = await a_ledger()
    for name in ("readme", "0", "08", "٣", "-1"):
        if name.isascii():
            await bus.objects.put(name, b"x", {})
    assert await archive.listed(bus) == []
    assert await archive.prune(bus, 0) == []
    assert len(await bus.objects.listed()) == 4


async def test_the_newest_and_those_marked_are_kept() -> None:
    bus = await a_ledger()
    first = await take(bus)
    await archive.keep(bus, first, "trim")
    for number in range(1, 6):
        await append(bus, bound(f"web-{number}", address=f"10.244.1.{number + 2}"))
        await take(bus)
    removed = await archive.prune(bus)
    assert [entry.sequence for entry in removed] == [10, 9]
    left = await archive.listed(bus)
    assert [(entry.sequence, entry.kept) for entry in left] == [
        (13, ""),
        (12, ""),
        (11, ""),
        (8, "trim"),
    ]
    again = await archive.store(bus, Frozen.of(await archive.load(bus, left[-1])), "me")
    assert again.kept == "trim"
    await archive.keep(bus, again, "")
    assert [entry.sequence for entry in await archive.prune(bus)] == [8]


async def trimmed() -> MemoryBus:
    """A ledger of 10 that begins at 9, where a snapshot is; there was one at 8."""
    bus = await a_ledger()
    await take(bus)
    await append(bus, bound("web-1", address="10.244.1.3"))
    await take(bus)
    await append(bus, bound("web-2", address="10.244.1.4"))
    await bus.trim(9)
    return bus


async def test_a_trimmed_ledger_is_read_from_its_snapshot_on() -> None:
    bus = await trimmed()
    state = await catch_up(bus, State())
    assert (state.sequence, set(state.endpoints)) == (10, {"uid-web-0", "uid-web-1", "uid-web-2"})
    assert (await catch_up(bus, State(), 9)).sequence == 9
    seen: list[int] = []
    await catch_up(bus, State(), observe=lambda record: seen.append(record.sequence))
    assert seen == [10]


async def test_what_was_trimmed_away_is_said_to_be() -> None:
    bus = await trimmed()
    for through in (8, 5, 1):
        with pytest.raises(TrimmedAway, match=rf"at 9: {through} was trimmed.*file:ARCHIVE"):
            await catch_up(bus, State(), through)
    assert (await catch_up(bus, State(), 0)).sequence == 0
    old = State(sequence=7)
    with pytest.raises(TrimmedAway, match="begins at 9: 8 was trimmed away"):
        await catch_up(bus, old)
    with pytest.raises(TrimmedAway, match="begins at 9"):
        await anext(follow(bus, old))
    info, content = bus.store.objects["9"]
    bus.store.objects["9"] = info, content[:-1]
    with pytest.raises(TrimmedAway, match=r"no snapshot leads on.*\(snapshot 9 is refused"):
        await catch_up(bus, State())


async def test_a_snapshot_whose_event_was_trimmed_away_is_not_used() -> None:
    # Nothing would vouch for it.
    bus = await trimmed()
    await bus.trim(10)
    with pytest.raises(TrimmedAway, match="begins at 10"):
        await catch_up(bus, State())
