"""Bytes of the NATS protocol and of JetStream's answers; pure.

Headers are read from the end: a stored message's own headers come first and those of the server
last, so that a publisher cannot pass off a sequence or a status of its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tabard.bus.port import BusError, Stored

WRONG_LAST_SEQUENCE_CODES = frozenset({10071, 10164})
"""`wrong last sequence`, and the same for an expectation that another append in flight breaks."""
NOT_AVAILABLE_CODE = 10008
TOO_MANY_CODE = 10167
BATCH_INCOMPLETE_CODE = 10176
UNAVAILABLE_CODES = frozenset(
    {10005, NOT_AVAILABLE_CODE, 10009, 10118, 10158, TOO_MANY_CODE, BATCH_INCOMPLETE_CODE}
)
"""Too few servers for the replicas · JetStream temporarily unavailable · not the leader · stream
offline · this id is being stored · too many messages wait to be stored · batch incomplete (new
leader)."""
FULL_CODE = 10077
STREAM_NOT_FOUND_CODE = 10059
PURGE_DENIED_CODE = 10110

_DIGITS_MAX = 20
"""Of a sequence, which has 64 bits."""
_ROOT, _LIVE = b"tabard.", b"tabard.live."
_SEQUENCE = b"\r\nNats-Sequence: "
_UP_TO = b"\r\nNats-UpTo-Sequence: "
_SUBJECT = b"\r\nNats-Subject: "
_TIME = b"\r\nNats-Time-Stamp: "


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as it came: raw headers (b"" if it had none) and payload."""

    headers: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """204, 404, 408, 503 … of an answer that is only a status; 0 for one that is more."""
        line = self.headers[9:12]
        is_status = line.isdigit() and not self.payload and _SEQUENCE not in self.headers
        return int(line) if is_status else 0


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """The header block of a message; b"" for no headers. Values must hold no line ends."""
    if not headers:
        return b""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def encode_publish(subject: str, reply: str, headers: bytes, payload: bytes) -> bytes:
    """A PUB or HPUB protocol message; an empty `reply` asks for no answer."""
    to = f"{subject} {reply} " if reply else f"{subject} "
    if not headers:
        return b"PUB %b%d\r\n%b\r\n" % (to.encode(), len(payload), payload)
    size = len(headers)
    return b"HPUB %b%d %d\r\n%b%b\r\n" % (
        to.encode(),
        size,
        size + len(payload),
        headers,
        payload,
    )


def stored_sequence(headers: bytes) -> int:
    """The sequence that the server gave to a stored message; 0 if this is no stored message."""
    at = headers.rfind(_SEQUENCE)
    return 0 if at < 0 else _number(_value(headers, at + len(_SEQUENCE)), "a sequence")


def up_to_sequence(headers: bytes) -> int:
    """Through which the replica that answered held the stream, by the end of its answer to a
    question for several subjects; 0 if that says nothing, as where it had nothing to give."""
    at = headers.rfind(_UP_TO)
    return 0 if at < 0 else _number(_value(headers, at + len(_UP_TO)), "a sequence")


def is_live_copy(live: bytes, headers: bytes) -> bool:
    """Whether what came on the live subject `live` is a copy of what was stored on its subject.

    An answer of the server's goes wherever the question says, to live subjects too: it bears the
    headers of a stored message, and may be one of another stream.
    """
    at = headers.rfind(_SUBJECT)
    if at < 0:
        return False
    stored = _value(headers, at + len(_SUBJECT))
    return stored.startswith(_ROOT) and live == _LIVE + stored[len(_ROOT) :]


def stored_message(sequence: int, headers: bytes, payload: bytes) -> Stored:
    """A stored message from a Direct Get answer or a republished copy: both have the headers."""
    try:
        subject = _last(headers, _SUBJECT).decode()
    except UnicodeDecodeError as error:
        raise BusError(f"nats-server sent a subject that is no text: {headers[:80]!r}") from error
    return Stored(sequence, subject, payload, stored_at(_last(headers, _TIME)))


def stored_at(text: bytes) -> int:
    """Nanoseconds since the Unix epoch from RFC 3339 in UTC, such as 2026-01-02T03:04:05.6789Z."""
    digits = text[20:-1].ljust(9, b"0")
    return _whole_seconds(text[:19]) * 1_000_000_000 + _number(digits[:9], "a time")


@lru_cache(maxsize=64)
def _whole_seconds(text: bytes) -> int:
    try:
        return int(datetime.fromisoformat(text.decode()).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise BusError(f"nats-server sent a time that is none: {text!r}") from error


def _number(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > _DIGITS_MAX:
        raise BusError(f"nats-server sent {what} that is no number: {text[:40]!r}")
    return int(text)


def _last(headers: bytes, name: bytes) -> bytes:
    at = headers.rfind(name)
    if at < 0:
        raise BusError(f"nats-server sent a stored message without {name.strip().decode()} …")
    return _value(headers, at + len(name))


def _value(headers: bytes, at: int) -> bytes:
    end = headers.find(b"\r", at)
    if end < 0:
        raise BusError(f"nats-server sent headers that end within a line: {headers[-40:]!r}")
    return headers[at:end]


def answer(reply: Reply) -> tuple[dict[str, Any], int, str]:
    """A JSON answer of JetStream: (answer, error code or 0, error description)."""
    try:
        decoded = json.loads(reply.payload)
    except (ValueError, RecursionError) as error:
        raise _unreadable(reply, "is no JSON") from error
    if not isinstance(decoded, dict):
        raise _unreadable(reply, "is no JSON object")
    failure = decoded.get("error")
    if failure is None:
        return decoded, 0, ""
    code = isinstance(failure, dict) and (failure.get("err_code") or failure.get("code"))
    if not code or not isinstance(code, int):
        raise _unreadable(reply, "is an error without a code")
    return decoded, code, str(failure.get("description", ""))


def _unreadable(reply: Reply, why: str) -> BusError:
    shown = (reply.headers + reply.payload)[:80]
    return BusError(f"nats-server sent an answer that {why}: {shown!r}")
