from types import SimpleNamespace
from typing import Any

import pytest

from tabard.bus.jetstream import JetStreamBus, streams
from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.options import Options
from tabard.bus.jetstream.read import api
from tabard.bus.jetstream.streams import differences, faults, settings
from tabard.bus.port import BusError, Outgoing, Stream, StreamMismatch

LEDGER = settings(1, 1 << 30)[Stream.LEDGER]


def test_absent_null_and_false_are_the_same_setting() -> None:
    want = {"a": None, "b": False, "c": 0, "d": None, "e": "x"}
    assert differences(want, {"a": [], "b": None, "d": False, "e": "x", "more": 1}) == []


def test_each_differing_setting_is_named_with_both_values() -> None:
    wrong = differences(LEDGER, {**LEDGER, "deny_delete": False, "max_age": 5})
    assert wrong == [
        "max_age: want 0, have 5",
        "deny_delete: want True, have False",
    ]


async def request(url: str, verb: str, stream: Stream, body: object = None) -> dict[str, Any]:
    connection = Connection([url], "test", Options())
    try:
        return await api(connection, verb, stream, body)
    finally:
        await connection.close()


@pytest.mark.nats
async def test_the_server_has_every_setting_as_asked(nats_bus: JetStreamBus, nats_url: str) -> None:
    for stream, want in settings(1, Options().ledger_bytes_max).items():
        have = await request(nats_url, "STREAM.INFO", stream)
        assert differences(want, have["config"]) == []


@pytest.mark.nats
@pytest.mark.parametrize(
    ("stream", "change"),
    [
        (Stream.LEDGER, {"deny_delete": False}),
        (Stream.LEDGER, {"max_age": 3_600_000_000_000}),
        (Stream.LEDGER, {"discard": "old"}),
        (Stream.LEDGER, {"allow_atomic": False}),
        (Stream.LEDGER, {"republish": {"src": ">", "dest": "elsewhere.>"}}),
        (Stream.OBSERVED, {"duplicate_window": 1_000_000_000}),
        (Stream.OBSERVED, {"allow_direct": False}),
        (Stream.OBSERVED, {"allow_atomic": False}),
        (Stream.STATUS, {"max_msgs_per_subject": 2}),
        (Stream.FLOWS, {"storage": "file"}),
        (Stream.FLOWS, {"subjects": ["tabard.flows.x"]}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
async def test_a_stream_with_other_settings_is_named_and_left_as_it_is(
    nats_url: str, stream: Stream, change: dict[str, Any]
) -> None:
    want = settings(1, Options().ledger_bytes_max)[stream]
    config = {name: value for name, value in {**want, **change}.items() if value is not None}
    made = await request(nats_url, "STREAM.CREATE", stream, config)
    assert "error" not in made
    bus = await JetStreamBus.connect(nats_url, name="test")
    try:
        with pytest.raises(StreamMismatch) as caught:
            await bus.ensure_streams()
        (fault,) = await bus.faults(stream)
        assert fault.startswith(f"{next(iter(change))}: want")
    finally:
        await bus.close()
    assert f"stream {stream}" in str(caught.value)
    assert f"{next(iter(change))}: want" in str(caught.value)
    have = await request(nats_url, "STREAM.INFO", stream)
    assert have["config"] == made["config"]


@pytest.mark.nats
async def test_a_stream_that_an_older_release_compressed_is_so_no_more(nats_url: str) -> None:
    want = settings(1, Options().ledger_bytes_max)[Stream.OBSERVED]
    config = {name: value for name, value in want.items() if value is not None}
    old = await request(nats_url, "STREAM.CREATE", Stream.OBSERVED, {**config, "compression": "s2"})
    assert old["config"]["compression"] == "s2"
    bus = await JetStreamBus.connect(nats_url, name="test")
    try:
        await bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"kept", "1")])
        await bus.ensure_streams()
        (kept,) = await bus.read(Stream.OBSERVED, 1)
    finally:
        await bus.close()
    assert kept.payload == b"kept"
    have = await request(nats_url, "STREAM.INFO", Stream.OBSERVED)
    assert have["config"] == {**old["config"], "compression": "none"}


@pytest.mark.nats
async def test_streams_as_made_have_no_fault_and_an_absent_one_is_named(
    nats_bus: JetStreamBus, nats_url: str
) -> None:
    for stream in Stream:
        assert await nats_bus.faults(stream) == []
    await request(nats_url, "STREAM.DELETE", Stream.STATUS)
    with pytest.raises(BusError, match="STATUS does not exist"):
        await nats_bus.faults(Stream.STATUS)


async def test_replicas_that_are_lost_offline_or_behind_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    followers: list[dict[str, Any]] = [{"name": "b", "current": True}]
    info = {"config": {**LEDGER, "num_replicas": 3}, "cluster": {"replicas": followers}}

    async def leader_info(connection: Any, stream: Stream) -> dict[str, Any]:
        return info

    monkeypatch.setattr(streams, "leader_info", leader_info)
    connection: Any = SimpleNamespace(options=Options(ledger_bytes_max=1 << 30))
    assert await faults(connection, Stream.LEDGER) == ["2 of 3 replicas are there"]
    followers.append({"name": "c", "current": False, "lag": 7})
    assert await faults(connection, Stream.LEDGER) == ["replica c is not current (lag 7)"]
    followers[1] = {"name": "c", "current": True, "offline": True}
    assert await faults(connection, Stream.LEDGER) == ["replica c is offline (lag 0)"]
    followers[1] = {"name": "c", "current": True}
    assert await faults(connection, Stream.LEDGER) == []


@pytest.mark.nats
async def test_services_that_start_together_make_the_streams_once(nats_url: str) -> None:
    buses = [await JetStreamBus.connect(nats_url, name=f"test-{n}") for n in range(4)]
    try:
        for ensured in [bus.ensure_streams() for bus in buses]:
            await ensured
        assert await buses[0].last_sequence(Stream.LEDGER) == 0
    finally:
        for bus in buses:
            await bus.close()
