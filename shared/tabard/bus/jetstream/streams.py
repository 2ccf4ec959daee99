"""What the four streams and the bucket must be. What is there already is checked, and never changed
but for compression, which is taken off.

Every setting that Tabard leans on is listed, also where it is the server's default: a stream made
by other hands may differ there.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import structlog

from tabard.bus.jetstream.connection import Connection
from tabard.bus.jetstream.read import (
    api,
    first_of,
    first_sequence,
    leader_info,
    stream_info,
)
from tabard.bus.jetstream.wire import (
    PURGE_DENIED_CODE,
    STREAM_NOT_FOUND_CODE,
    UNAVAILABLE_CODES,
    stored_at,
)
from tabard.bus.port import BusError, BusUnavailable, Stream, StreamInfo, StreamMismatch, subject
from tabard.bus.subjects import BUCKET_STREAM, CHUNKS, RECORDS, live_subject

log = structlog.get_logger(__name__)

NANOSECONDS = 1_000_000_000
OBSERVED_AGE_S_MAX = 7 * 24 * 3600
FLOWS_AGE_S_MAX = 3600
FLOWS_BYTES_MAX = 64 << 20
DUPLICATE_WINDOW_S = 600
"""How long OBSERVED remembers a message id: longer than a source needs to publish again."""

BUCKET_BYTES_MAX = 8 << 30
"""A snapshot of a million pods takes 21 MB; a full bucket refuses new ones."""

Settings = Mapping[str, object]

_UNLIMITED: Settings = {
    "retention": "limits",
    "discard": "old",
    "discard_new_per_subject": False,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "duplicate_window": 120 * NANOSECONDS,
    "storage": "file",
    # nats-server 2.15.1, killed and started again, may compress a stream's last block and append to
    # it as it is: all in it is lost for that replica, and two of three were seen to do so.
    "compression": "none",
    "no_ack": False,
    "sealed": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_direct": True,
    "allow_atomic": False,
    "allow_rollup_hdrs": False,
    "allow_msg_ttl": False,
    "allow_msg_counter": False,
    "allow_msg_schedules": False,
    "persist_mode": None,
    "mirror": None,
    "sources": None,
    "subject_transform": None,
}


def settings(replicas: int, ledger_bytes_max: int) -> dict[Stream, Settings]:
    """The streams' settings, in the words of JetStream's API."""
    own: dict[Stream, Settings] = {
        Stream.OBSERVED: {
            "max_age": OBSERVED_AGE_S_MAX * NANOSECONDS,
            "duplicate_window": DUPLICATE_WINDOW_S * NANOSECONDS,
            "allow_atomic": True,
        },
        Stream.LEDGER: {
            "discard": "new",
            "max_bytes": ledger_bytes_max,
            "deny_delete": True,
            # A purge is the one way to trim that takes a sequence and never goes beyond it; denied
            # once, it is for ever. Who may ask for one is the bus's credentials' business.
            "deny_purge": False,
            "allow_atomic": True,
        },
        Stream.STATUS: {"max_msgs_per_subject": 1},
        Stream.FLOWS: {
            "storage": "memory",
            "max_age": FLOWS_AGE_S_MAX * NANOSECONDS,
            "max_bytes": FLOWS_BYTES_MAX,
        },
    }
    return {
        stream: {
            **_UNLIMITED,
            "name": stream.value,
            "subjects": [subject(stream) + ".>"],
            "num_replicas": replicas,
            "republish": {"src": subject(stream) + ".>", "dest": live_subject(stream)},
            **own[stream],
        }
        for stream in Stream
    }


def bucket_settings(replicas: int) -> Settings:
    """The bucket's settings: those of any JetStream client's object store, and a bound."""
    return {
        **_UNLIMITED,
        "name": BUCKET_STREAM,
        "subjects": [CHUNKS + ">", RECORDS + ">"],
        "num_replicas": replicas,
        "discard": "new",
        "max_bytes": BUCKET_BYTES_MAX,
        "allow_rollup_hdrs": True,
    }


def differences(want: Settings, have: Mapping[str, Any]) -> list[str]:
    """`name: want X, have Y` for each setting that differs; absent, null, false and 0 are equal.

    A LEDGER of before there was trimming denies purges, for ever; it is as good, but stays whole.
    """
    return [
        f"{name}: want {value!r}, have {have.get(name)!r}"
        for name, value in want.items()
        if (have.get(name) or None) != (value or None)
        and not (name == "deny_purge" and want["name"] == Stream.LEDGER)
    ]


async def ensure(
    connection: Connection, replicas: int, streams: Iterable[Stream] = tuple(Stream)
) -> None:
    """Create those of `streams` that are absent, and refuse those that differ."""
    wanted = settings(replicas, connection.options.ledger_bytes_max)
    for stream in streams:
        await _ensure(connection, wanted[stream])


async def ensure_bucket(connection: Connection, replicas: int) -> None:
    """Create the bucket's stream if it is absent, and refuse one that differs."""
    await _ensure(connection, bucket_settings(replicas))


async def _ensure(connection: Connection, want: Settings) -> None:
    stream = str(want["name"])
    have = await stream_info(connection, stream)
    if have.get("error", {}).get("err_code") == STREAM_NOT_FOUND_CODE:
        # What is null stays out of the request: the server takes some nulls for a value.
        request = {name: value for name, value in want.items() if value is not None}
        have = await api(connection, "STREAM.CREATE", stream, request)
    elif have.get("config", {}).get("compression") == "s2":
        # As OBSERVED was made once; what is stored from now on is not compressed.
        log.warning("bus.stream_is_compressed_no_more", stream=stream)
        plain = {**have["config"], "compression": want["compression"]}
        have = await api(connection, "STREAM.UPDATE", stream, plain)
    if error := have.get("error"):
        why = f"stream {stream} could not be made or changed at {connection}: {error}"
        raise BusUnavailable(why) if error.get("err_code") in UNAVAILABLE_CODES else BusError(why)
    if wrong := differences(want, have["config"]):
        raise StreamMismatch(
            f"stream {stream} at {connection} is not as Tabard needs it, and is left as it "
            f"is: {'; '.join(wrong)}. Change it there, or use another server"
        )


async def faults(connection: Connection, stream: Stream) -> list[str]:
    """How the stream differs from what `ensure` would make with as many replicas, and which of
    these are not current; BusError if there is no such stream."""
    found = await leader_info(connection, stream)
    replicas = found["config"]["num_replicas"]
    want = settings(replicas, connection.options.ledger_bytes_max)[stream]
    wrong = differences(want, found["config"])
    followers = (found.get("cluster") or {}).get("replicas") or []
    if replicas > 1 and len(followers) < replicas - 1:
        wrong.append(f"{len(followers) + 1} of {replicas} replicas are there")
    wrong += [
        f"replica {each['name']} is {'offline' if each.get('offline') else 'not current'}"
        f" (lag {each.get('lag', 0)})"
        for each in followers
        if each.get("offline") or not each.get("current")
    ]
    return wrong


async def trim(connection: Connection, before: int) -> int:
    """Purge LEDGER's messages before sequence `before`; the first sequence kept."""
    # A purge of {"seq": 0} would be one of everything.
    if before < 1:
        raise ValueError(f"before is {before}; sequences start at 1")
    last = (await leader_info(connection, Stream.LEDGER))["state"]["last_seq"]
    if before > last:
        raise ValueError(f"before is {before}, and LEDGER ends at {last}: its last message stays")
    found = await api(connection, "STREAM.PURGE", Stream.LEDGER, {"seq": before})
    if error := found.get("error"):
        if error.get("err_code") == PURGE_DENIED_CODE:
            raise BusError(
                f"stream {Stream.LEDGER} at {connection} denies purges, for ever: it was made "
                "before there was trimming. It can be used on, but not trimmed"
            )
        raise BusError(f"nats-server refused STREAM.PURGE of {Stream.LEDGER}: {error}")
    return await first_sequence(connection, Stream.LEDGER)


async def give_lead(connection: Connection, stream: Stream, server: str) -> None:
    """Have the stream's leader step down for `server`; BusError if it will not."""
    preferred = {"placement": {"preferred": server}}
    if error := (await api(connection, "STREAM.LEADER.STEPDOWN", stream, preferred)).get("error"):
        raise BusError(f"the lead of {stream} was not given to {server} at {connection}: {error}")


Number = TypeVar("Number", int, float)


async def info(connection: Connection, stream: Stream) -> StreamInfo:
    """What the stream's leader says of it; BusError if there is no such stream."""
    found = await leader_info(connection, stream)
    state, config = found["state"], found["config"]
    messages, last, first = state["messages"], state["last_seq"], first_of(state)
    return StreamInfo(
        stream=stream,
        first=first,
        last=last,
        messages=messages,
        bytes=state["bytes"],
        # Two counts that a damaged replica need not keep equal: the worse one is told.
        holes=max(state.get("num_deleted", 0), last - first + 1 - messages),
        first_at=stored_at(state["first_ts"].encode()) if messages else None,
        last_at=stored_at(state["last_ts"].encode()) if messages else None,
        now=stored_at(found["ts"].encode()),
        replicas=config["num_replicas"],
        storage=config["storage"],
        age_s_max=_limit(config["max_age"] / NANOSECONDS),
        bytes_max=_limit(config["max_bytes"]),
        per_subject_max=_limit(config["max_msgs_per_subject"]),
        refuses=config["discard"] == "new",
    )


def _limit(value: Number) -> Number | None:
    """JetStream says "none" as 0 of an age and as -1 of all else."""
    return value if value > 0 else None
