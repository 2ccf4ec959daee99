import json
from typing import Any

import pytest

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.jetstream.read import READ_BYTES_MAX, whole
from tabard.bus.jetstream.wire import encode_headers
from tabard.bus.port import Outgoing, SequenceGap, Stored, Stream


def stored(*sequences: int) -> list[Stored]:
    return [Stored(n, "tabard.ledger.x", b"", n) for n in sequences]


def test_a_ledger_is_read_up_to_a_hole_and_no_further() -> None:
    assert whole(Stream.LEDGER, 3, stored(3, 4, 5)) == stored(3, 4, 5)
    assert whole(Stream.LEDGER, 3, stored(3, 4, 6, 7)) == stored(3, 4)
    assert whole(Stream.LEDGER, 3, []) == []
    with pytest.raises(SequenceGap, match="LEDGER holds 6, but not 5"):
        whole(Stream.LEDGER, 5, stored(6, 7))


def test_a_stream_that_expires_messages_may_begin_later_and_is_read_up_to_a_hole() -> None:
    assert whole(Stream.OBSERVED, 1, stored(3, 4, 7)) == stored(3, 4)


def test_a_stream_that_keeps_the_last_of_a_subject_may_have_holes() -> None:
    assert whole(Stream.STATUS, 1, stored(3, 7)) == stored(3, 7)


async def api(bus: JetStreamBus, verb: str, body: dict[str, Any]) -> None:
    reply = await bus._connection.request(f"$JS.API.{verb}", json.dumps(body).encode(), verb)
    assert "error" not in json.loads(reply.payload)


@pytest.mark.nats
async def test_a_ledger_with_a_hole_stops_readers_and_tails_before_it(
    nats_bus: JetStreamBus,
) -> None:
    await api(nats_bus, "STREAM.DELETE.LEDGER", {})
    config = {"name": "LEDGER", "subjects": ["tabard.ledger.>"], "allow_direct": True}
    await api(nats_bus, "STREAM.CREATE.LEDGER", config)
    await nats_bus.publish(Stream.LEDGER, [Outgoing("tabard.ledger.x", b"")] * 5)
    await api(nats_bus, "STREAM.MSG.DELETE.LEDGER", {"seq": 3})
    assert [m.sequence for m in await nats_bus.read(Stream.LEDGER, 1)] == [1, 2]
    with pytest.raises(SequenceGap, match="LEDGER holds 4, but not 3"):
        await nats_bus.read(Stream.LEDGER, 3)
    tail = nats_bus.tail(Stream.LEDGER, 1)
    assert [m.sequence for m in await anext(tail)] == [1, 2]
    with pytest.raises(SequenceGap, match="LEDGER holds 4, but not 3"):
        await anext(tail)


@pytest.mark.nats
async def test_expired_messages_are_passed_over(nats_bus: JetStreamBus) -> None:
    await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"")] * 10)
    await api(nats_bus, "STREAM.PURGE.OBSERVED", {"seq": 8})
    assert await nats_bus.first_sequence(Stream.OBSERVED) == 8
    assert [m.sequence for m in await nats_bus.read(Stream.OBSERVED, 3)] == [8, 9, 10]
    tail = nats_bus.tail(Stream.OBSERVED, 1)
    assert [m.sequence for m in await anext(tail)] == [8, 9, 10]
    await api(nats_bus, "STREAM.PURGE.OBSERVED", {})
    assert await nats_bus.first_sequence(Stream.OBSERVED) == 11
    assert await nats_bus.read(Stream.OBSERVED, 3) == []
    await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"")])
    assert [m.sequence for m in await anext(tail)] == [11]


@pytest.mark.nats
async def test_large_messages_come_in_several_reads(nats_bus: JetStreamBus) -> None:
    size = READ_BYTES_MAX // 8
    await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"x" * size)] * 20)
    first = await nats_bus.read(Stream.OBSERVED, 1)
    assert 7 <= len(first) <= 9
    rest = await nats_bus.read(Stream.OBSERVED, first[-1].sequence + 1)
    assert rest[0].sequence == first[-1].sequence + 1


@pytest.mark.nats
@pytest.mark.parametrize("line", [b"NATS/1.0 204 EOB\r\n", b"NATS/1.0 503\r\n", b"NATS/1.0\r\n"])
async def test_a_publishers_headers_cannot_hide_or_move_a_message(
    nats_bus: JetStreamBus, line: bytes
) -> None:
    forged = encode_headers({"Nats-Sequence": "9", "Nats-Subject": "tabard.observed.else"})
    session = await nats_bus._connection.session()
    session.send("tabard.observed.x", forged.replace(b"NATS/1.0\r\n", line), b"")
    await nats_bus.publish(Stream.OBSERVED, [Outgoing("tabard.observed.x", b"after")])
    found = await nats_bus.read(Stream.OBSERVED, 1)
    assert [(m.sequence, m.subject) for m in found] == [
        (1, "tabard.observed.x"),
        (2, "tabard.observed.x"),
    ]
    tail = nats_bus.tail(Stream.OBSERVED, 1)
    assert await anext(tail) == found
    session.send("tabard.observed.y", forged.replace(b"NATS/1.0\r\n", line), b"")
    assert [(m.sequence, m.subject) for m in await anext(tail)] == [(3, "tabard.observed.y")]
    last = await nats_bus.last_on_subject(Stream.OBSERVED, "tabard.observed.y")
    assert last is not None
    assert last.sequence == 3
