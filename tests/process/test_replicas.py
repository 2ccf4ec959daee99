"""What a service says of the bus's replicas while one of them is coming up."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Stored, Stream
from tabard.bus.replicas import BEHIND_MAX, NANOSECONDS, Replica, Server, judge
from tabard.ledger.audit import Audit, Audited
from tabard.ledger.replicas import Survey
from tabard.process import replicas
from tabard.process.replicas import ReplicaWatch

LAST = 3 * BEHIND_MAX
WHOLE = Replica(
    server="a",
    account="$G",
    stream=Stream.OBSERVED,
    leads=True,
    first=1,
    last=LAST,
    messages=LAST,
    deleted=0,
    bytes=10 * LAST,
    first_at=NANOSECONDS,
    age_s_max=0.0,
    group="S-R3F-x",
    peers=frozenset({"a", "b"}),
    wanted=2,
)


def audited(sequences: Iterable[int]) -> Audited:
    audit = Audit(Stream.OBSERVED, 1, LAST)
    audit.take(Stored(sequence, "tabard.observed.x", b"", 0) for sequence in sequences)
    return audit.result()


@pytest.mark.parametrize(
    ("last", "given", "holes"),
    [
        (LAST - BEHIND_MAX - 1, range(1, LAST + 1), 0),  # it came up while it was read
        (LAST - BEHIND_MAX - 1, range(1, LAST - BEHIND_MAX), 0),  # or had not yet
        (LAST, range(2, LAST + 1), 1),
    ],
)
async def test_what_a_replica_that_is_coming_up_has_not_yet_is_no_hole(
    monkeypatch: pytest.MonkeyPatch, last: int, given: range, holes: int
) -> None:
    one = replace(WHOLE, server="b", leads=False, last=last, messages=last, bytes=10 * last)
    servers = [
        Server(each.server, each.server, "/s", (each,), "t", NANOSECONDS) for each in (WHOLE, one)
    ]
    has_read = asyncio.Event()

    async def survey(monitoring: Any) -> Survey:
        return Survey(tuple(servers), judge(servers))

    async def read_all(*_: Any, **__: Any) -> dict[str, Audited]:
        has_read.set()
        return {"a": audited(range(1, LAST + 1)), "b": audited(given)}

    monkeypatch.setattr(replicas, "survey", survey)
    monkeypatch.setattr(replicas, "read_all", read_all)
    monkeypatch.setattr(replicas, "UNBROKEN", (Stream.OBSERVED,))
    watch = ReplicaWatch(("http://a", "http://b"), read_s=3600)
    async with watch.looking(cast(JetStreamBus, None)):
        await asyncio.wait_for(has_read.wait(), 10)
        while not (families := watch.families()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        families = watch.families()
    counts, behind, _ = (
        {each.labels["server"]: each.value for each in family.samples} for family in families[:3]
    )
    assert counts == {"a": 0, "b": holes}
    assert behind["b"] == LAST - last


async def test_a_replica_whose_server_is_down_is_not_logged_as_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = [
        Server("http://a", "a", "/s", (WHOLE,), "t", NANOSECONDS),
        Server("http://b", failure="http://b: refused"),
    ]

    async def survey(monitoring: Any) -> Survey:
        return Survey(tuple(servers), judge(servers))

    monkeypatch.setattr(replicas, "survey", survey)
    watch = ReplicaWatch(("http://a", "http://b"), read_s=0)
    with structlog.testing.capture_logs() as logs:
        async with watch.looking(cast(JetStreamBus, None)):
            while not watch.families():  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert [(each["event"], each["server"], each["log_level"]) for each in logs] == [
        ("bus.replica_unknown", "b", "warning")
    ]


async def test_a_watch_that_met_a_fault_of_its_own_says_so_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Server("a", "a", "/s", (WHOLE,), "t", NANOSECONDS)
    asked = 0

    async def survey(monitoring: Any) -> Survey:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("ours")
        return Survey((one,), judge((one,)))

    monkeypatch.setattr(replicas, "survey", survey)
    monkeypatch.setattr(replicas, "AGAIN_S", 0.001)
    watch = ReplicaWatch(("http://a",), read_s=0)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(10), watch.looking(cast(JetStreamBus, None)):
            while not watch.families():  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert [log["event"] for log in logs][:1] == ["bus.replicas_unwatched"]
    assert asked == 2
