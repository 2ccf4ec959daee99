"""Stored messages as rows, readable or not, with the keys that `fields` documents. Pure."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from tabard.bus.port import Stored, Stream
from tabard.events.codec import type_name
from tabard.events.errors import EventError
from tabard.ledger.messages import recorded

RAW_BYTES_SHOWN = 64
SUMMARY_CHARACTERS_MAX = 100

Row = dict[str, Any]


def row(stream: Stream, message: Stored) -> Row:
    place: Row = {
        "stream": str(stream),
        "sequence": message.sequence,
        "subject": message.subject,
        "stored_at": message.stored_at,
        "stored": date(message.stored_at),
    }
    try:
        record = recorded(stream, message)
    except EventError as error:
        return place | {
            "error": {"kind": type(error).__name__, "reason": str(error)},
            "bytes": len(message.payload),
            "raw": message.payload[:RAW_BYTES_SHOWN].hex(),
        }
    envelope = record.envelope
    return place | {
        "type": type_name(record.event),
        "id": envelope.id.hex(),
        "key": envelope.key,
        "occurred_at": envelope.occurred_at,
        "occurred": date(envelope.occurred_at),
        "cause": envelope.cause,
        "correlation": envelope.correlation.hex(),
        "data": dataclasses.asdict(record.event),
    }


def cells(found: Row, *, whole: bool = False) -> list[str]:
    """SEQUENCE, TIME, TYPE, CAUSE and a summary of the data (or all), for a line of a table."""
    time = moment(found["stored_at"])
    if "error" in found:
        return [str(found["sequence"]), time, "UNREADABLE", "-", found["error"]["reason"]]
    return [
        str(found["sequence"]),
        time,
        found["type"],
        found["cause"] or "-",
        summary(found["data"], whole=whole),
    ]


def summary(data: Row, *, whole: bool = False) -> str:
    """`name=web identity=300 …`, cut to a readable length; documents by their metadata."""
    parts = []
    for key, value in data.items():
        if key not in ("started_at", "at") and value not in ("", (), [], None):
            parts.append(f"{key}={brief(key, value)}")
    text = " ".join(parts)
    return text if whole else cut(text)


def cut(text: str) -> str:
    """At most a readable length of it."""
    if len(text) <= SUMMARY_CHARACTERS_MAX:
        return text
    return text[: SUMMARY_CHARACTERS_MAX - 1] + "…"


def brief(key: str, value: Any) -> str:
    """A value of an event's data on one line, a document by its metadata."""
    if key == "document":
        metadata = value.get("metadata") or {}
        place = filter(None, (metadata.get("namespace"), metadata.get("name")))
        return f"{value.get('kind')} {'/'.join(place)}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return ",".join(
            "=".join(str(part) for part in each) if isinstance(each, tuple) else str(each)
            for each in value
        )
    return str(value)


def date(nanoseconds: int) -> str:
    """`2026-11-23T16:13:29.123Z`"""
    return _instant(nanoseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(nanoseconds: int) -> str:
    """Time of day in UTC, to the millisecond."""
    return _instant(nanoseconds).strftime("%H:%M:%S.%f")[:-3]


def _instant(nanoseconds: int) -> datetime:
    """Never later than it was: as a float it may round up into the next millisecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
