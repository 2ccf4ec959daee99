from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.bus.jetstream.wire import (
    Reply,
    answer,
    encode_headers,
    encode_publish,
    is_live_copy,
    stored_at,
    stored_message,
    stored_sequence,
)
from tabard.bus.port import BusError, Stored

SERVER = (
    b"Nats-Stream: LEDGER\r\nNats-Subject: tabard.ledger.a\r\nNats-Sequence: 17\r\n"
    b"Nats-Time-Stamp: 2026-01-02T03:04:05.6789Z\r\nNats-Last-Sequence: 16\r\n\r\n"
)
AT = int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()) * 10**9 + 678_900_000


def test_a_message_without_headers_is_a_plain_pub() -> None:
    assert encode_publish("a.b", "", b"", b"xyz") == b"PUB a.b 3\r\nxyz\r\n"
    assert encode_publish("a.b", "_INBOX.1", b"", b"") == b"PUB a.b _INBOX.1 0\r\n\r\n"


def test_a_message_with_headers_gives_both_sizes() -> None:
    headers = encode_headers({"Nats-Msg-Id": "7", "K": "v"})
    assert headers == b"NATS/1.0\r\nNats-Msg-Id: 7\r\nK: v\r\n\r\n"
    size = len(headers)
    assert encode_publish("a", "r", headers, b"xyz") == (
        b"HPUB a r %d %d\r\n" % (size, size + 3) + headers + b"xyz\r\n"
    )


@pytest.mark.parametrize(
    ("live", "headers", "is_it"),
    [
        (b"tabard.live.ledger.a", b"NATS/1.0\r\n" + SERVER, True),
        (b"tabard.live.ledger.b", b"NATS/1.0\r\n" + SERVER, False),
        (b"tabard.live.ledger.a", SERVER.replace(b".ledger", b".status"), False),
        (b"tabard.live.ledger.a", SERVER.replace(b"tabard.ledger", b"ledger"), False),
        (b"tabard.live.ledger.a", b"", False),
    ],
)
def test_what_comes_on_a_live_subject_is_a_copy_if_it_was_stored_on_its_own(
    live: bytes, headers: bytes, is_it: bool
) -> None:
    assert is_live_copy(live, headers) is is_it


def test_a_stored_message_is_read_from_the_servers_headers() -> None:
    headers = b"NATS/1.0\r\nNats-Msg-Id: x\r\n" + SERVER
    assert stored_sequence(headers) == 17
    assert stored_message(17, headers, b"p") == Stored(17, "tabard.ledger.a", b"p", AT)


@pytest.mark.parametrize(
    "forged",
    [
        b"NATS/1.0\r\nNats-Sequence: 5\r\nNats-Subject: tabard.ledger.b\r\n",
        b"NATS/1.0 204 EOB\r\nNats-Sequence: 5\r\n",
        b"NATS/1.0 503\r\n",
    ],
)
def test_a_publishers_own_headers_cannot_pass_for_the_servers(forged: bytes) -> None:
    headers = forged + SERVER
    assert stored_sequence(headers) == 17
    assert stored_message(17, headers, b"").subject == "tabard.ledger.a"
    assert Reply(headers, b"").status == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 4\r\n\r\n", 204),
        (b"NATS/1.0 404 Message Not Found\r\n\r\n", 404),
        (b"NATS/1.0\r\nA: b\r\n\r\n", 0),
        (b"", 0),
    ],
)
def test_a_status_line_is_read(headers: bytes, status: int) -> None:
    assert Reply(headers, b"").status == status
    assert stored_sequence(headers) == 0


def test_a_stored_message_without_its_headers_is_an_error() -> None:
    with pytest.raises(BusError, match="Nats-Subject"):
        stored_message(1, b"NATS/1.0\r\nNats-Sequence: 1\r\n\r\n", b"")


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_times_keep_every_nanosecond(nanoseconds: int) -> None:
    seconds, fraction = divmod(nanoseconds, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{fraction:09}".rstrip("0").rstrip(".")
    assert stored_at(f"{text}{digits}Z".encode()) == nanoseconds


def test_an_answer_is_told_from_an_error() -> None:
    assert answer(Reply(b"", b'{"seq": 3}')) == ({"seq": 3}, 0, "")
    error = b'{"error":{"code":400,"err_code":10071,"description":"wrong"},"seq":0}'
    assert answer(Reply(b"", error))[1:] == (10071, "wrong")
    with pytest.raises(BusError, match="no JSON"):
        answer(Reply(b"NATS/1.0\r\n\r\n", b"{"))
