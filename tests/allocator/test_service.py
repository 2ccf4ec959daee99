import asyncio
import dataclasses
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from hypothesis import given, settings

from deciding import (
    GRACE_MS,
    MS,
    SETTINGS,
    Desk,
    joined,
    namespace,
    relabelled,
    started,
    stopped,
)
from scenarios import well_formed
from serving import (
    FAST,
    MemoryCheckpoint,
    allocator,
    caught_up,
    cursor,
    effects,
    folded,
    ledger,
    publish,
    running,
    until,
)
from tabard.allocator import allowance, leading, patience
from tabard.allocator.allowance import REFUSAL_COST
from tabard.allocator.leadership import SettingsMismatch
from tabard.allocator.leading import OBSERVED_PER_BATCH_MAX
from tabard.allocator.pace import Pace
from tabard.allocator.writer import LostError
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import BATCH_MESSAGES_MAX, BusUnavailable, Outgoing, Stream, subject
from tabard.events.codec import encode
from tabard.events.envelope import Envelope
from tabard.events.ledger import (
    CursorAdvanced,
    EndpointsRebound,
    EpochClaimed,
    EventQuarantined,
    IdentityAllocated,
    NamespaceLabelled,
    SettingsAdopted,
)
from tabard.events.observed import NodeJoined, PodStopped, PolicySet, QuarantineRequested
from tabard.events.status import NodeStatus
from tabard.ledger.messages import observed, observed_subject, status, status_subject
from tabard.ledger.state import live_nodes

STORY = [
    joined("n1"),
    started("a", {"app": "web"}, "10.0.0.1"),
    started("b", {"app": "web"}, "10.0.0.2"),
    relabelled("a", app="api"),
    namespace("default", team="red"),
    started("c", {"app": "db"}, "10.0.0.1", "10.0.0.2", at=5),
    stopped("b"),
    stopped("b"),
]


async def told(story: list[Any], **more: Any) -> MemoryBus:
    """A bus on which an undisturbed allocator took `story`."""
    bus = MemoryBus()
    await publish(bus, *story)

    async def begun() -> bool:
        return await bus.last_sequence(Stream.LEDGER) > 0

    async with running(bus, **more) as task:
        await until(begun)
        await caught_up(bus, task)
    return bus


async def test_what_was_observed_has_its_effect_in_order() -> None:
    desk = Desk()
    expected = [event for event in STORY for event in desk.observe(event)]
    bus = await told(STORY)
    assert await effects(bus) == [SETTINGS, *expected]
    assert (await folded(bus)).bindings == {"10.0.0.1": "c", "10.0.0.2": "c"}


async def test_the_first_batch_claims_the_epoch_and_sets_the_settings() -> None:
    bus = await told([])
    assert await ledger(bus) == [EpochClaimed(1, "one"), SETTINGS, CursorAdvanced("OBSERVED", 0)]


async def test_events_without_effect_move_the_cursor_too() -> None:
    bus = await told([stopped("a"), stopped("a")])
    assert await cursor(bus) == 2


async def test_new_events_are_taken_as_they_come() -> None:
    bus = MemoryBus()
    async with running(bus) as task:
        for number in range(5):
            await publish(bus, started(f"p{number}"))
            await caught_up(bus, task)
    assert len((await folded(bus)).endpoints) == 5


async def test_what_is_there_already_is_taken_in_few_batches_within_the_bound() -> None:
    bus = await told([started(f"p{n}", {"job": str(n % 7)}) for n in range(2_500)])
    batch_ends = [
        at for at, event in enumerate(await ledger(bus)) if isinstance(event, CursorAdvanced)
    ]
    sizes = [after - before for before, after in itertools.pairwise([-1, *batch_ends])]
    assert max(sizes) <= BATCH_MESSAGES_MAX
    assert len(sizes) <= 2 + 2_500 * 2 // OBSERVED_PER_BATCH_MAX


class Killed(Exception):
    pass


class Mortal(MemoryBus):
    """Its `deadly`-th call ends the process that makes it, before or after it had its effect."""

    def __init__(self, store: MemoryStore, deadly: int, after: bool) -> None:
        super().__init__(store)
        self._left, self._after = deadly, after

    async def _fatal(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        result = await call(*args)
        if self._left == 0:
            raise Killed
        return result

    async def append(self, messages: Any, expected_last: int) -> int:
        result: int = await self._fatal(super().append, messages, expected_last)
        return result

    async def read(self, *args: Any) -> Any:
        return await self._fatal(super().read, *args)

    async def last_sequence(self, stream: Stream) -> Any:
        return await self._fatal(super().last_sequence, stream)

    async def last_on_subject(self, *args: Any) -> Any:
        return await self._fatal(super().last_on_subject, *args)

    async def tail(self, stream: Stream, start: int) -> Any:
        async for messages in super().tail(stream, start):
            await self._fatal(lambda: asyncio.sleep(0))
            yield messages


async def killed_at(deadly: int, after: bool, checkpoint: MemoryCheckpoint, bus: MemoryBus) -> bool:
    """Whether an allocator on a bus with that deadly call died of it before it was done."""
    mortal = Mortal(bus.store, deadly, after)
    one = allocator(mortal, checkpoint, holder=f"mortal-{deadly}-{after}")
    task = asyncio.create_task(one.run())
    try:
        await caught_up(bus, task)
    except Killed:
        return True
    one.stop()
    try:
        await task
    except Killed:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_death_at_any_call_loses_and_doubles_nothing(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "OBSERVED_PER_BATCH_MAX", 1)
    expected = await effects(await told(STORY))
    deaths = 0
    for deadly in range(1, 25):
        bus, checkpoint = MemoryBus(), MemoryCheckpoint()
        await publish(bus, *STORY)
        deaths += await killed_at(deadly, after, checkpoint, bus)
        await killed_at(deadly // 2 + 1, after, checkpoint, bus)
        async with running(bus, checkpoint) as task:
            await caught_up(bus, task)
        assert await effects(bus) == expected, deadly
        await folded(bus)
    assert deaths > 10, "it hardly ever lived long enough to be killed at work"


async def test_cancellation_at_any_turn_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leading, "OBSERVED_PER_BATCH_MAX", 1)
    expected = await effects(await told(STORY))
    for turns in range(60):
        bus, checkpoint = MemoryBus(), MemoryCheckpoint()
        await publish(bus, *STORY)
        for _ in range(2):
            task = asyncio.create_task(allocator(bus, checkpoint, holder=f"h{turns}").run())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
        async with running(bus, checkpoint) as task:
            await caught_up(bus, task)
        assert await effects(bus) == expected, turns


@given(story=well_formed.flatmap(lambda first: well_formed.map(lambda second: [first, second])))
@settings(deadline=None, max_examples=20)
def test_any_story_is_taken_the_same_with_and_without_death(story: list[Any]) -> None:
    async def at_rest(*deaths: int) -> list[Any]:
        bus, checkpoint = MemoryBus(), MemoryCheckpoint()
        await publish(bus, *STORY, *story)
        for deadly in deaths:
            await killed_at(deadly, True, checkpoint, bus)

        async def settled() -> bool:
            state = await folded(bus)  # a plan that waits for nobody is carried out by a tick
            return not state.relabels or bool(live_nodes(state))

        async with running(bus, checkpoint) as task:
            await caught_up(bus, task)
            await until(settled)
        return await effects(bus)

    assert asyncio.run(at_rest(3, 5, 7, 9)) == asyncio.run(at_rest())


class Unsteady(MemoryBus):
    """A third of all answers is lost, before or after the call had its effect."""

    def __init__(self, store: MemoryStore, seed: int) -> None:
        super().__init__(store)
        self._chance = random.Random(seed)

    async def _lossy(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        fate = self._chance.randrange(6)
        if fate == 0:
            raise BusUnavailable("lost before")
        result = await call(*args)
        if fate == 1:
            raise BusUnavailable("lost after")
        return result

    async def append(self, *args: Any) -> Any:
        return await self._lossy(super().append, *args)

    async def read(self, *args: Any) -> Any:
        return await self._lossy(super().read, *args)

    async def last_sequence(self, stream: Stream) -> Any:
        return await self._lossy(super().last_sequence, stream)

    async def last_on_subject(self, *args: Any) -> Any:
        return await self._lossy(super().last_on_subject, *args)


@pytest.mark.parametrize("seed", range(5))
async def test_lost_answers_lose_and_double_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RETRY_DELAY_S_MIN", 0.0)
    expected = await effects(await told(STORY))
    bus = MemoryBus()
    async with running(Unsteady(bus.store, seed)) as task:
        for event in STORY:
            await publish(bus, event)
            await caught_up(bus, task)
    assert await effects(bus) == expected


def poison(kind: str) -> bytes:
    pod = started("x")
    whole = encode(pod, Envelope(bytes(16), "x", 0))
    match kind:
        case "bytes":
            return b"\xc1 no event"
        case "type":
            return whole.replace(b"pod.started", b"pod.startet")
        case "deep":
            document = {"a": b"deep"}
            whole = encode(PolicySet(document), Envelope(bytes(16), "x", 0))
            return whole.replace(b"\xc4\x04deep", b"\x91" * 600 + b"\x90")
        case "version":
            return whole.replace(b"pod.started\x01", b"pod.started\x09")
    raise AssertionError(kind)


async def stopped_before(logs: list[Any], stream: str, sequence: int) -> None:
    wanted = ("allocator.stopped", stream, sequence)

    async def said() -> bool:
        keys = ("event", "stream", "sequence")
        return wanted in [tuple(log.get(key) for key in keys) for log in logs]

    await until(said)


@pytest.mark.parametrize("kind", ["bytes", "type", "version", "deep"])
async def test_an_unreadable_event_stops_it_until_an_operator_says_to_go_on(kind: str) -> None:
    bus = MemoryBus()
    bad = Outgoing(subject(Stream.OBSERVED, "pod.started"), poison(kind))
    with structlog.testing.capture_logs() as logs:
        async with running(bus) as task:
            await publish(bus, started("a"))
            await bus.publish(Stream.OBSERVED, [bad])
            await publish(bus, started("b"))
            await stopped_before(logs, "OBSERVED", 2)
            # What came before it has its effect; then nothing is written any more.
            assert await cursor(bus) == 1
            last = await bus.last_sequence(Stream.LEDGER)
            await asyncio.sleep(5 * FAST.tick_s)
            assert await bus.last_sequence(Stream.LEDGER) == last
            await publish(bus, QuarantineRequested("OBSERVED", 2, "a bad tool"))
            await caught_up(bus, task)
    state = await folded(bus)
    assert state.quarantined == {("OBSERVED", 2): "a bad tool"}
    assert set(state.endpoints) == {"a", "b"}
    assert [type(event).__name__ for event in await effects(bus)].count("EventQuarantined") == 1


async def test_what_a_node_may_write_stops_nothing_and_what_it_may_not_say_is_refused() -> None:
    bus = MemoryBus()
    stolen = observed(PodStopped("a"), Envelope(b"0" * 16, "a", 0)).payload
    other = observed(NodeJoined("n2", ("192.0.2.2",), ()), Envelope(b"1" * 16, "n2", 0)).payload
    joined = subject(Stream.OBSERVED, "node.joined", "n1")
    async with running(bus) as task:
        await publish(bus, started("a"))
        said = (stolen, other, b"\xc1")
        await bus.publish(Stream.OBSERVED, [Outgoing(joined, payload) for payload in said])
        await publish(bus, started("b"))
        await caught_up(bus, task)
    state = await folded(bus)
    assert (set(state.endpoints), set(state.nodes)) == ({"a", "b"}, set())
    reasons = [state.quarantined["OBSERVED", sequence] for sequence in (2, 3, 4)]
    assert "its own subject is tabard.observed.pod.stopped" in reasons[0]
    assert "its own subject is tabard.observed.node.joined.n2" in reasons[1]
    assert "not msgpack" in reasons[2]


async def test_a_node_fills_no_ledger_with_what_it_may_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allowance, "EVENTS_MAX", 7 * REFUSAL_COST)
    bus = MemoryBus()

    def message(node: str, payload: bytes = b"") -> Outgoing:
        joined = NodeJoined(node, ("192.0.2.1",), (), (("at", payload.decode()),))
        sealed = observed(joined, Envelope(b"0" * 16, node, 0)).payload
        return Outgoing(observed_subject(joined), sealed if payload else b"junk")

    ever_new = [message("n1", b"%d" % number) for number in range(100)]
    with structlog.testing.capture_logs() as logs:
        async with running(bus) as task:
            await publish(bus, started("a"))
            await bus.publish(Stream.OBSERVED, [*[message("n1")] * 100, *ever_new])
            await bus.publish(Stream.OBSERVED, [message("n2")])
            await publish(bus, started("b"))
            await caught_up(bus, task)
    state = await folded(bus)
    assert set(state.endpoints) == {"a", "b"}
    assert len(state.quarantined) == 7 + 1
    assert not state.nodes
    said = [log["event"] for log in logs]
    assert (said.count("allocator.node_unheeded"), said.count("allocator.refused")) == (1, 8)


async def test_a_node_does_not_speak_for_another_one() -> None:
    bus = MemoryBus()
    forged = status(NodeStatus("n1", 9, "memory", 0, ()), Envelope(bytes(16), "n1", 0)).payload
    await bus.publish(Stream.STATUS, [Outgoing(status_subject("n2"), forged)])
    with structlog.testing.capture_logs() as logs:
        async with running(bus) as task:
            await publish(bus, *STORY)
            await caught_up(bus, task)
    assert "its own subject is tabard.status.node.n1" in str(logs)


async def test_it_stops_before_an_unreadable_event_again_after_a_restart() -> None:
    bus, checkpoint = MemoryBus(), MemoryCheckpoint()
    bad = Outgoing(subject(Stream.OBSERVED, "pod.started"), poison("bytes"))
    await bus.publish(Stream.OBSERVED, [bad])
    for holder in ("one", "two"):
        with structlog.testing.capture_logs() as logs:
            async with running(bus, checkpoint, holder=holder):
                await stopped_before(logs, "OBSERVED", 1)
    assert await cursor(bus) == 0


async def test_a_fault_of_its_own_stops_it_and_does_not_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = leading.answer

    def faulty(state: Any, indexes: Any, record: Any, now: int) -> Any:
        if record.event == started("b"):
            raise ZeroDivisionError("a fault of ours")
        return real(state, indexes, record, now)

    monkeypatch.setattr(leading, "answer", faulty)
    bus = MemoryBus()
    with structlog.testing.capture_logs() as logs:
        async with running(bus) as task:
            await publish(bus, started("a"), started("b"), started("c"))
            await stopped_before(logs, "OBSERVED", 2)
            await publish(bus, QuarantineRequested("OBSERVED", 2, "known"))
            await caught_up(bus, task)
    assert set((await folded(bus)).endpoints) == {"a", "c"}


async def test_an_unreadable_ledger_event_is_recorded_as_quarantined_by_the_allocator() -> None:
    bus = await told(STORY[:3])
    last = await bus.last_sequence(Stream.LEDGER)
    await bus.append([Outgoing(subject(Stream.LEDGER, "pod.bound"), b"junk")], last)
    await publish(bus, *STORY[3:])
    with structlog.testing.capture_logs() as logs:
        async with running(bus, holder="two") as task:
            await stopped_before(logs, "LEDGER", last + 1)
            assert await bus.last_sequence(Stream.LEDGER) == last + 1
            await publish(bus, QuarantineRequested("LEDGER", last + 1, "bit rot"))
            through = await bus.last_sequence(Stream.OBSERVED)

            async def written() -> bool:
                return await bus.last_sequence(Stream.LEDGER) > last + 1

            await until(written)
            await caught_up(bus, task)
    # Any reader now goes past it by the ledger's own word.
    state = await folded(bus)
    assert state.quarantined == {("LEDGER", last + 1): "bit rot"}
    assert state.cursors == {"OBSERVED": through}
    assert state.bindings == {"10.0.0.1": "c", "10.0.0.2": "c"}
    async with running(bus, holder="three") as task:
        await publish(bus, started("z"))
        await caught_up(bus, task)


async def test_a_restart_reads_only_the_tail_behind_its_checkpoint() -> None:
    bus, checkpoint = MemoryBus(), MemoryCheckpoint()
    await publish(bus, *[started(f"p{number}") for number in range(100)])
    async with running(bus, checkpoint) as task:
        await caught_up(bus, task)
    end = await bus.last_sequence(Stream.LEDGER)
    assert checkpoint.saves > 0
    starts: list[int] = []

    class Watched(MemoryBus):
        async def read(self, stream: Stream, start: int, limit: int = 1_000) -> Any:
            if stream is Stream.LEDGER:
                starts.append(start)
            return await super().read(stream, start, limit)

    async with running(Watched(bus.store), checkpoint, holder="two") as task:
        await publish(bus, started("q"))
        await caught_up(bus, task)
    assert min(starts) == end
    assert len((await folded(bus)).endpoints) == 101


async def test_a_checkpoint_of_another_ledger_is_thrown_away_loudly() -> None:
    checkpoint = MemoryCheckpoint()
    await told([started("other"), *STORY], checkpoint=checkpoint)
    bus = MemoryBus()
    await publish(bus, *STORY)
    with structlog.testing.capture_logs() as logs:
        async with running(bus, checkpoint) as task:
            await caught_up(bus, task)
    assert "checkpoint.discarded" in [log["event"] for log in logs]
    assert await effects(bus) == await effects(await told(STORY))


async def test_a_ledger_that_ends_before_the_checkpoint_ends_it_before_it_claims_anything() -> None:
    checkpoint, bus = MemoryCheckpoint(), await told(STORY)
    shorter = await bus.last_sequence(Stream.LEDGER)
    await told([*STORY, started("later")], checkpoint=checkpoint)
    with pytest.raises(LostError, match=f"LEDGER ends at {shorter}, but memory was folded through"):
        await allocator(bus, checkpoint, holder="two").run()
    assert await bus.last_sequence(Stream.LEDGER) == shorter


async def test_other_settings_than_the_ledgers_end_it_before_it_claims_anything() -> None:
    bus = await told(STORY)
    last = await bus.last_sequence(Stream.LEDGER)
    other = dataclasses.replace(SETTINGS, cluster="other")
    with pytest.raises(SettingsMismatch, match="cluster is 'other'"):
        await allocator(bus, settings=other, holder="two").run()
    assert await bus.last_sequence(Stream.LEDGER) == last


async def test_another_enforcement_is_adopted_and_kept_until_yet_another_is_configured() -> None:
    bus = await told(STORY)
    always = dataclasses.replace(SETTINGS, enforcement="always")
    for holder, enforcement in (("two", "always"), ("three", None), ("four", "always")):
        async with running(bus, holder=holder, enforcement=enforcement) as task:
            await publish(bus, stopped(holder))
            await caught_up(bus, task)
        assert (await folded(bus)).settings == always
    adopted = [event for event in await ledger(bus) if isinstance(event, SettingsAdopted)]
    assert adopted == [SETTINGS, always]


async def test_a_replaced_input_stream_ends_it() -> None:
    bus = await told(STORY)
    bus.store.logs[Stream.OBSERVED] = type(bus.store.logs[Stream.OBSERVED])(Stream.OBSERVED)
    with pytest.raises(LostError, match="OBSERVED ends at 0, but the ledger has taken it"):
        await allocator(bus, holder="two").run()


async def test_expired_input_is_named_and_gone_past() -> None:
    bus = await told(STORY[:2])
    await publish(bus, *STORY[2:])
    bus.store.forget(Stream.OBSERVED, 3, 4)
    with structlog.testing.capture_logs() as logs:
        async with running(bus, holder="two") as task:
            await caught_up(bus, task)
    (missed,) = [log for log in logs if log["event"] == "allocator.missed"]
    assert (missed["first"], missed["through"]) == (3, 4)


async def test_numbers_come_back_when_every_node_says_that_it_is_past_the_retirement() -> None:
    bus = MemoryBus()
    now = 0
    async with running(bus, clock=lambda: now) as task:
        await publish(bus, joined("n1"), joined("n2"), started("a"))
        await caught_up(bus, task)
        await publish(bus, stopped("a"))
        await caught_up(bus, task)
        now = GRACE_MS * MS

        async def retired() -> bool:
            return 256 in (await folded(bus)).retired

        async def released() -> bool:
            return not await retired()

        await until(retired)
        end = await bus.last_sequence(Stream.LEDGER)
        for node in ("n1", "n2"):
            assert await retired()
            said = NodeStatus(node, end, "memory", 0, ())
            await bus.publish(Stream.STATUS, [status(said, Envelope(bytes(16), node, 0))])
            await asyncio.sleep(3 * FAST.tick_s)
        await until(released)


async def test_an_unreadable_status_holds_releases_back_and_stops_nothing() -> None:
    bus = MemoryBus()
    await bus.publish(Stream.STATUS, [Outgoing(subject(Stream.STATUS, "n1"), b"junk")])
    with structlog.testing.capture_logs() as logs:
        async with running(bus) as task:
            await publish(bus, *STORY)
            await caught_up(bus, task)
    assert "allocator.status_unreadable" in [log["event"] for log in logs]


@pytest.mark.parametrize("deadly", [0, 7, 8, 9, 10])
async def test_a_namespace_with_more_identities_than_a_batch_changes_at_once(deadly: int) -> None:
    bus, checkpoint = MemoryBus(), MemoryCheckpoint()
    pods = [started(f"p{number}", {"job": str(number)}) for number in range(1_500)]
    async with running(bus, checkpoint) as task:
        await publish(bus, *pods)
        await caught_up(bus, task)
        change = await bus.last_sequence(Stream.LEDGER)
    await publish(bus, namespace("default", team="red"))
    if deadly:
        await killed_at(deadly, True, checkpoint, bus)
    async with running(bus, checkpoint, holder="last") as task:
        await caught_up(bus, task)
    after = [event for event in (await ledger(bus))[change:] if not isinstance(event, EpochClaimed)]
    said = [event for event in after if not isinstance(event, CursorAdvanced)]
    assert all(isinstance(event, IdentityAllocated) for event in said[:1_500])
    assert isinstance(said[1_500], NamespaceLabelled)
    (rebound,) = said[1_501:]
    assert isinstance(rebound, EndpointsRebound)
    assert len(rebound.changes) == 1_500
    # The change itself is in one batch, with nothing but allocations before it.
    at = after.index(said[1_500])
    assert [type(event) for event in after[at : at + 3]] == [
        NamespaceLabelled,
        EndpointsRebound,
        CursorAdvanced,
    ]


async def test_it_stops_when_asked_while_the_bus_is_away() -> None:
    class Away(MemoryBus):
        async def append(self, *args: Any) -> int:
            raise BusUnavailable("away")

    one = allocator(Away())
    task = asyncio.create_task(one.run())
    for _ in range(20):
        await asyncio.sleep(0)
    one.stop()
    async with asyncio.timeout(5):
        await task


async def test_an_allocator_that_is_stopped_saves_a_checkpoint_of_the_ledgers_end() -> None:
    bus, checkpoint = MemoryBus(), MemoryCheckpoint()
    await publish(bus, *STORY)
    async with running(bus, checkpoint, pace=Pace(tick_s=0.01, checkpoint_s=3_600)) as task:
        await caught_up(bus, task)
    loaded = await checkpoint.load()
    assert loaded == await folded(bus)


async def test_an_operators_word_on_a_readable_event_is_only_recorded() -> None:
    bus = await told([started("a"), QuarantineRequested("OBSERVED", 1, "too late")])
    assert EventQuarantined("OBSERVED", 1, "too late") in await effects(bus)
    assert "a" in (await folded(bus)).endpoints
