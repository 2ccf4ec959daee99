"""The bucket in the layout of ADR-20 (object store), so that `nats object` and others read it.

A stream holds both kinds of message. The bytes of an object stand in chunks, all on one subject of
its own, `$O.BUCKET.C.<nuid>`. Its record, JSON, is the one message on `$O.BUCKET.M.<name, base64>`
and says which nuid, how many chunks and which hash; written last, it makes the object be there, and
with the header Nats-Rollup it replaces the one before it in one step.

Differing from other clients a deleted object leaves no record: snapshots come and go for ever.
"""

import asyncio
import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import structlog

from tabard.bus.arguments import check_object
from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.publish import Publication
from tabard.bus.jetstream.read import (
    BEHIND_RETRY_S,
    BEHIND_S_MAX,
    READ_BYTES_MAX,
    answers,
    api,
)
from tabard.bus.jetstream.wire import (
    STREAM_NOT_FOUND_CODE,
    Reply,
    answer,
    encode_headers,
    stored_at,
    up_to_sequence,
)
from tabard.bus.port import (
    READ_MESSAGES_MAX,
    BusError,
    BusUnavailable,
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    Outgoing,
    Stored,
)
from tabard.bus.subjects import BUCKET, BUCKET_STREAM, CHUNKS, RECORDS

log = structlog.get_logger(__name__)

CHUNK_BYTES = 128 << 10
"""ADR-20's own; larger ones were not faster."""
_ROLLUP = encode_headers({"Nats-Rollup": "sub"})


class JetStreamObjects:
    """`Objects` on a nats-server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, name: str, content: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        check_object(name, metadata)
        older = await self._record(name)
        nuid = uuid4().hex
        chunks = [
            Outgoing(CHUNKS + nuid, content[at : at + CHUNK_BYTES])
            for at in range(0, len(content), CHUNK_BYTES)
        ]
        digest = hashlib.sha256(content).digest()
        sequences = await Publication(self._connection, BUCKET_STREAM, chunks).run()
        if sequences != sorted(sequences):
            raise BusUnavailable(
                f"the chunks of object {name!r} were not stored in their order, since the bucket's "
                "leader changed; put it again"
            )
        info = await self._write(
            {
                "name": name,
                "bucket": BUCKET,
                "nuid": nuid,
                "size": len(content),
                "chunks": len(chunks),
                "digest": f"SHA-256={urlsafe_b64encode(digest).decode()}",
                "metadata": dict(metadata),
                "options": {"max_chunk_size": CHUNK_BYTES},
            }
        )
        if older is not None:
            await self._purge(CHUNKS + older["nuid"])
        return info

    async def get(self, info: ObjectInfo) -> AsyncGenerator[bytes, None]:
        record = await self._listed_record(info)
        subject = CHUNKS + record["nuid"]
        next_sequence, chunks, size, digest = 1, 0, 0, hashlib.sha256()
        while chunks < info.chunks:
            found = await self._chunks(subject, next_sequence)
            if not found:
                break
            for each in found:
                chunks += 1
                size += len(each.payload)
                digest.update(each.payload)
                if size > info.size or chunks > info.chunks:
                    raise ObjectDamaged(
                        f"object {info.name!r} has more than the {info.size} bytes that were put"
                    )
                yield each.payload
            next_sequence = found[-1].sequence + 1
        told = f"SHA-256={urlsafe_b64encode(digest.digest()).decode()}"
        if (chunks, size) != (info.chunks, info.size):
            raise ObjectDamaged(
                f"object {info.name!r} is cut: {size} of {info.size} bytes are there"
            )
        if told != info.digest:
            raise ObjectDamaged(f"object {info.name!r} was changed: its hash is another")

    async def listed(self) -> list[ObjectInfo]:
        try:
            found, _ = await self._records()
        except BusUnavailable:
            # Of a stream that is not there nobody says so: there is nobody.
            with suppress(BusUnavailable):
                if await self._is_absent():
                    return []
            raise
        records = [(each, _read(each)) for each in found]
        return sorted(
            (_info(record, each.stored_at) for each, record in records if record is not None),
            key=lambda info: info.name,
        )

    async def mark(self, info: ObjectInfo, metadata: Mapping[str, str]) -> ObjectInfo:
        check_object(info.name, metadata)
        record = await self._listed_record(info)
        return await self._write({**record, "metadata": dict(metadata)})

    async def delete(self, info: ObjectInfo) -> None:
        record = await self._record_of(info)
        if record is None:
            return
        # Without its record it is no object any more, whatever becomes of the rest.
        await self._purge(RECORDS + _encoded(info.name))
        await self._purge(CHUNKS + record["nuid"])

    async def tidy(self, age_s: float) -> int:
        found = await self._leader({"subjects_filter": f"$O.{BUCKET}.>"})
        subjects = found["state"].get("subjects") or {}
        # After the subjects were listed: an object that is finished meanwhile is seen as one.
        records, through = await self._records()
        if through < found["state"]["last_seq"] and any(map(_is_record, subjects)):
            return 0  # that replica is behind: what it lacks may be the record of a whole object
        whole = {CHUNKS + record["nuid"] for record in map(_read, records) if record is not None}
        now = stored_at(found["ts"].encode())
        remains = 0
        for subject in subjects:
            if subject in whole or _is_record(subject):
                continue
            last = await self._last_on(subject, f"the last message on {subject}")
            if last is not None and now - last.stored_at >= age_s * 1e9:
                await self._purge(subject)
                remains += 1
                log.info("bus.object_remains_removed", subject=subject)
        return remains

    async def _listed_record(self, info: ObjectInfo) -> dict[str, Any]:
        """As `_record_of`; ObjectMissing if there is none."""
        record = await self._record_of(info)
        if record is None:
            raise ObjectMissing(f"the bucket has object {info.name!r} no more as it was listed")
        return record

    async def _record_of(self, info: ObjectInfo) -> dict[str, Any] | None:
        """The record of the object as it was listed or put; None if it is there no more.

        A replica that has it not yet, or the one before, is behind: it is asked again for a while.
        """
        subject = RECORDS + _encoded(info.name)
        for _ in range(round(BEHIND_S_MAX / BEHIND_RETRY_S)):
            record = await self._record(info.name)
            if record is not None and record["digest"] == info.digest:
                return record
            if record is None:
                found = await self._leader({"subjects_filter": subject})
                if not found["state"].get("subjects"):
                    return None
            await asyncio.sleep(BEHIND_RETRY_S)
        return None

    async def _leader(self, body: Mapping[str, object]) -> dict[str, Any]:
        """What the bucket's leader says of the stream."""
        found = await api(self._connection, "STREAM.INFO", BUCKET_STREAM, body)
        if error := found.get("error"):
            raise BusError(f"nats-server refused STREAM.INFO of {BUCKET_STREAM}: {error}")
        return found

    async def _records(self) -> tuple[list[Stored], int]:
        """All records as one replica has them, and the sequence through which it holds the stream;
        0 where it has no record."""
        found, end = await self._ask({"multi_last": [RECORDS + ">"]}, "listing the bucket")
        return found, up_to_sequence(end.headers)

    async def _record(self, name: str) -> dict[str, Any] | None:
        last = await self._last_on(RECORDS + _encoded(name), f"the record of object {name!r}")
        return None if last is None else _read(last)

    async def _write(self, record: Mapping[str, Any]) -> ObjectInfo:
        """Put the record in place of the one before it. Done twice it is the same."""
        now = datetime.now(UTC)
        document = {**record, "mtime": now.isoformat().replace("+00:00", "Z")}
        name, what = record["name"], f"writing the record of object {record['name']!r}"
        reply = await self._connection.request(
            RECORDS + _encoded(name), json.dumps(document).encode(), what, headers=_ROLLUP
        )
        _, code, description = answer(reply)
        if code:
            raise BusError(f"nats-server refused {what}: {description} (code {code})")
        return _info(document, int(now.timestamp() * 1e9))

    async def _chunks(self, subject: str, start: int) -> list[Stored]:
        """The next chunks from sequence `start` on; [] if there are none, also after a while."""
        body = {
            "seq": start,
            "next_by_subj": subject,
            "batch": READ_MESSAGES_MAX,
            "max_bytes": READ_BYTES_MAX,
        }
        for _ in range(round(BEHIND_S_MAX / BEHIND_RETRY_S)):
            found, _ = await self._ask(body, f"reading {subject}")
            if found:
                return found
            await asyncio.sleep(BEHIND_RETRY_S)
        return []

    async def _last_on(self, subject: str, what: str) -> Stored | None:
        """The last message on `subject`, as one replica has it."""
        found, _ = await self._ask({"multi_last": [subject]}, what)
        return found[-1] if found else None

    async def _ask(self, body: Mapping[str, object], what: str) -> tuple[list[Stored], Reply]:
        return await answers(self._connection, BUCKET_STREAM, body, what)

    async def _purge(self, subject: str) -> None:
        found = await api(self._connection, "STREAM.PURGE", BUCKET_STREAM, {"filter": subject})
        if error := found.get("error"):
            raise BusError(f"nats-server refused to purge {subject}: {error}")

    async def _is_absent(self) -> bool:
        found = await api(self._connection, "STREAM.INFO", BUCKET_STREAM)
        return bool(found.get("error", {}).get("err_code") == STREAM_NOT_FOUND_CODE)


def _is_record(subject: str) -> bool:
    return subject.startswith(RECORDS)


def _encoded(name: str) -> str:
    return urlsafe_b64encode(name.encode()).decode()


def _read(stored: Stored) -> dict[str, Any] | None:
    """The record that a message holds; None if it says that the object is deleted, or if it is none
    that can be read: others may write here."""
    try:
        record = json.loads(stored.payload)
        if record.get("deleted"):
            return None
        info = _info(record, 0)
        is_sound = (
            stored.subject == RECORDS + _encoded(info.name)
            and record["nuid"].isalnum()
            and info.digest.startswith("SHA-256=")
            and min(info.size, info.chunks) >= 0
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        is_sound = False
    if not is_sound:
        log.warning("bus.object_record_unreadable", subject=stored.subject)
        return None
    return dict(record)


def _info(record: Mapping[str, Any], at: int) -> ObjectInfo:
    metadata = record.get("metadata") or {}
    return ObjectInfo(
        name=record["name"],
        size=int(record["size"]),
        chunks=int(record["chunks"]),
        digest=record["digest"],
        stored_at=at,
        metadata={str(key): str(value) for key, value in metadata.items()},
    )
