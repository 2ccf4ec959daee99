"""Checks of a cluster, on a memory bus and on a real nats-server."""

import time
from dataclasses import replace
from typing import Any

import pytest

from ledgers import append, append_raw, replica, say, small, speak
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Bus, Outgoing, Stream
from tabard.cluster import health
from tabard.cluster.allocators import AllocatorWord
from tabard.cluster.checkup import Check, Outcome
from tabard.cluster.health import allocator, examine, node, skew
from tabard.cluster.watermarks import Watermark
from tabard.events.ledger import NodeLost, NodeRefused, NumbersExhausted
from tabard.events.observed import QuarantineRequested
from tabard.events.status import NodeStatus
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State

SECOND = 1_000_000_000


async def checked(bus: Bus, **values: Any) -> dict[str, Check]:
    return {check.name: check async for check in examine(bus, **values)}


def faults(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.outcome is Outcome.FAULT]


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(MemoryStore(time.time_ns))


async def test_a_whole_cluster_has_no_fault(bus: MemoryBus) -> None:
    head = await append(bus, *small())
    for name in ("n1", "n2"):
        await say(bus, name, head)
    checks = await checked(bus)
    assert faults(checks) == []
    assert list(checks) == [
        "bus",
        "clock-skew",
        *(f"stream {stream.value}" for stream in Stream),
        "ledger",
        "snapshots",
        "allocator",
        "node n1",
        "node n2",
    ]
    assert checks["ledger"].fact == f"LEDGER/1-{head} without a hole"
    assert checks["allocator"].fact == "h-1, epoch 1, 0 events behind"
    assert checks["node n1"].fact.startswith(f"enforces LEDGER/{head}, 0 events behind, spoke 0.0")


async def test_lost_and_refused_nodes_and_exhausted_numbers_are_faults(bus: MemoryBus) -> None:
    exhausted = NumbersExhausted(2, (("k8s:job", 2), ("k8s:app", 1)))
    refused = NodeRefused("n3", (), ("10.244.1.0/25",), (), "10.244.1.0/25 is node n1's")
    head = await append(bus, *small(), NodeLost("n2", 5), refused, exhausted)
    await say(bus, "n1", head)
    await say(bus, "n2", 5)
    checks = await checked(bus)
    assert faults(checks) == ["node n2", "node n3, refused", "numbers"]
    assert checks["node n2"].fact == "lost at LEDGER/9, where it was at 5: nothing waits for it"
    assert checks["node n3, refused"].fact == refused.reason
    assert "k8s:job (2 values), k8s:app (1 values)" in checks["numbers"].fact


async def test_a_hole_in_the_ledger_and_what_stands_before_it_are_told(bus: MemoryBus) -> None:
    head = await append(bus, *small())
    await say(bus, "n1", head)
    bus.store.forget(Stream.LEDGER, 4)
    checks = await checked(bus)
    assert faults(checks)[:2] == ["ledger", "state"]
    assert checks["ledger"].fact == f"1 of LEDGER/1-{head} are missing"
    assert checks["ledger"].next == checks["state"].next == "tabard bus check"
    bus.store.forget(Stream.LEDGER, 1, 2, 3)
    assert "begins at 5" in (await checked(bus))["ledger"].fact


async def test_an_unreadable_event_is_named_and_nodes_are_held_against_what_precedes_it(
    bus: MemoryBus,
) -> None:
    head = await append(bus, *small())
    await append_raw(bus, b"no event")
    await say(bus, "n1", head)
    checks = await checked(bus)
    assert faults(checks) == ["state", "node n2"]
    assert checks["state"].next == f"tabard events show {head + 1}"
    assert checks["node n1"].outcome is Outcome.OK


async def test_a_ledger_without_an_allocator_or_a_node_is_told(bus: MemoryBus) -> None:
    checks = await checked(bus)
    assert faults(checks) == ["allocator"]
    assert "none ever led" in checks["allocator"].fact
    assert checks["nodes"].outcome is Outcome.WARN


async def test_an_allocator_that_does_not_keep_up_is_told(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LAG_EVENTS_MAX", 2)
    await append(bus, *small())
    for expected in ([], ["allocator"]):
        word = QuarantineRequested("OBSERVED", 99, "a test")
        readable = replace(observed(word, first_cause("", 9)), id="")
        await bus.publish(Stream.OBSERVED, [readable] * 2)
        found = faults(await checked(bus))
        assert [name for name in found if name == "allocator"] == expected


async def test_what_the_allocator_stands_before_is_told_with_what_shows_it(bus: MemoryBus) -> None:
    await append(bus, *small())
    await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"\xc1")])
    allocator = (await checked(bus))["allocator"]
    assert allocator.outcome is Outcome.FAULT
    assert "1 events behind: stands before OBSERVED/1: not msgpack" in allocator.fact
    assert allocator.next == "tabard events show 1 --stream OBSERVED"


async def test_each_allocator_is_told_and_a_silent_leader_is_a_fault(bus: MemoryBus) -> None:
    await append(bus, *small())
    await speak(bus, replica("h-1", "leading"))
    await speak(bus, replica("h-2", sequence=3))
    found = {name: check for name, check in (await checked(bus)).items() if "allocator " in name}
    assert {check.outcome for check in found.values()} == {Outcome.OK}
    assert found["allocator h-2"].fact.startswith("following, 5 events behind the ledger, spoke 0.")
    state, now = State(epoch=1, holder="h-1", sequence=8), 100 * SECOND
    for word, age_s, outcome, fact in (
        (replica("h-1", "leading"), 6, "fault", "down or cut off"),
        (replica("h-2"), 6, "warn", "down or cut off"),
        (replica("h-2", error="LEDGER/3 (not msgpack)"), 1, "fault", "stands before LEDGER/3"),
        (replica("h-2", "stopped"), 60, "warn", "stopped"),
    ):
        check = allocator(word.name, AllocatorWord(word, now - age_s * SECOND), state, now)
        assert check.outcome.value == outcome
        assert fact in check.fact


def test_a_nodes_trouble_is_told_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LAG_EVENTS_MAX", 5)
    good = Watermark(NodeStatus("n1", 7, "ebpf", 1, ()), 100 * SECOND)
    now = 101 * SECOND
    assert node("n1", good, 7, now).outcome is Outcome.OK
    assert node("n1", good, 12, now).outcome is Outcome.OK
    assert node("n1", good, 13, now).outcome is Outcome.FAULT
    for changed, after, outcome, fact, next in (
        ({"error": 'map "hosts" is full'}, 1, "fault", 'map "hosts" is full', "metrics agent.n1"),
        ({}, 16, "fault", "down or cut off", "metrics agent.n1"),
        ({"error": "x"}, 16, "fault", "down or cut off, and said last: x", "metrics agent.n1"),
        ({"stopped": True}, 1, "fault", "its agent was stopped", "metrics agent.n1"),
        ({"drift": 3}, 1, "fault", "3 entries had drifted", "tabard drift"),
        ({"full": (("hosts", 2),)}, 1, "warn", "maps were full: hosts", "--set HOSTS_MAX=N"),
    ):
        word = Watermark(replace(good.status, **changed), good.stored_at)  # type: ignore[arg-type]
        check = node("n1", word, 7, good.stored_at + after * SECOND)
        assert check.outcome.value == outcome
        assert fact in check.fact
        assert next in check.next
    assert "never said anything" in node("n1", None, 7, now).fact


def test_clocks_apart_are_told_unless_the_answer_took_as_long() -> None:
    assert skew(5 * SECOND, 3 * SECOND, 1.0).outcome is Outcome.WARN
    assert skew(3 * SECOND, 5 * SECOND, 1.0).outcome is Outcome.WARN
    assert skew(5 * SECOND, 3 * SECOND, 1_500.0).outcome is Outcome.OK
    assert "+2000.0 ms (±1.0)" in skew(5 * SECOND, 3 * SECOND, 1.0).fact


@pytest.mark.nats
async def test_real_streams_are_held_against_their_settings(
    nats_bus: JetStreamBus, nats_url: str
) -> None:
    head = await append(nats_bus, *small())
    for name in ("n1", "n2"):
        await say(nats_bus, name, head)
    checks = await checked(nats_bus)
    assert faults(checks) == []
    assert checks["stream LEDGER"].fact.startswith(f"{head} events, ")
    assert checks["stream LEDGER"].fact.endswith("file, one replica")
    # The clock of a machine an hour ahead.
    ahead = await checked(nats_bus, clock=lambda: time.time_ns() + 3600 * SECOND)
    assert ahead["clock-skew"].outcome is Outcome.WARN
    # A reader that wants another size of the ledger.
    other = await JetStreamBus.connect(
        nats_url, name="other", options=Options(ledger_bytes_max=1 << 30)
    )
    try:
        found = await checked(other)
        assert faults(found) == ["stream LEDGER"]
        assert "max_bytes: want 1073741824" in found["stream LEDGER"].fact
    finally:
        await other.close()


@pytest.mark.nats
async def test_absent_streams_are_a_fault_of_the_bus(nats_url: str) -> None:
    bus = await JetStreamBus.connect(nats_url, name="test")
    try:
        (check,) = (await checked(bus)).values()
        assert (check.name, check.outcome) == ("bus", Outcome.FAULT)
        assert "LEDGER does not exist" in check.fact
    finally:
        await bus.close()
