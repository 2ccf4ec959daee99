"""Events, ledgers, and what is kept of them: in snapshots, checkpoints and objects."""

import asyncio
import contextlib
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgpack

from deciding import Desk
from fuzzing.parsers.judging import judged
from fuzzing.parsers.mutation import BYTES, MESSAGES, MSGPACK, Form, read_msgpack, write_msgpack
from fuzzing.parsers.target import Target
from golden.files import every
from tabard.agent.attachments import Held, packed, unpacked
from tabard.bus.port import Stored, Stream
from tabard.events import chain
from tabard.events.codec import ENVELOPE_FIELDS, MESSAGE_BYTES_MAX, decode, encode
from tabard.events.envelope import Envelope
from tabard.events.errors import EventError
from tabard.events.status import AllocatorStatus, FlowSeen, FlowsSeen, NodeStatus, StatusEvent
from tabard.ledger.archive import Frozen, taken
from tabard.ledger.archive import packed as packed_object
from tabard.ledger.checkpoint import Checkpoint
from tabard.ledger.digest import digest
from tabard.ledger.messages import observed_subject, recorded
from tabard.ledger.reader import Stopped, take
from tabard.ledger.snapshot import SnapshotError, freeze, thaw
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Provisional


def _payloads() -> list[bytes]:
    """One of each event and shape in golden ledgers, and of what nodes and allocators say."""
    found: dict[Any, bytes] = {}
    for golden in every():
        for message in golden.ledger:
            found.setdefault(_shape(message.payload), message.payload)
        for record in golden.observed:
            payload = encode(record.event, record.envelope)
            found.setdefault(_shape(payload), payload)
    status = NodeStatus("n1", 7, "ebpf", 3, (("hosts", 2),), "no", 1, (("hosts", 1),), bytes(16), 7)
    row = (1, "EGRESS", "ALLOWED", "ALLOWED_POLICY", "10.0.0.1", "fd00::1", 300, 301, 6, 4000, 80)
    leader = AllocatorStatus("allocator-1", "allocator-1/7-a", "leading", 2, 881, 7, 1, 2, "no")
    events: list[StatusEvent] = [
        status,
        leader,
        FlowSeen("n1", *row),
        FlowsSeen("n1", 0, (row, row)),
    ]
    return [*found.values(), *(encode(event, Envelope(bytes(16), "n1", 1)) for event in events)]


def _shape(payload: bytes) -> tuple[Any, ...]:
    """What of an event decides how it is read, coarsely: its type, fields, a document's kind."""
    name, version, *_, data = msgpack.unpackb(payload, strict_map_key=False)[:ENVELOPE_FIELDS]
    document = data.get("document") or {}
    shown = (document.get("kind"), tuple(document.get("spec") or ()))
    return name, version, tuple(sorted(data)), shown


def _event(payload: bytes) -> None:
    """What was read is the same again after it was written."""
    record = decode(payload, "LEDGER", 1)
    if len(payload) < MESSAGE_BYTES_MAX // 2:
        again = decode(encode(record.event, record.envelope), "LEDGER", 1)
        assert repr(again) == repr(record), f"{again} is not {record}"  # by text: NaN is not NaN


def _stories(of: Callable[[Any], Sequence[bytes]], size: int) -> list[bytes]:
    """The beginnings of golden logs, and parts of them, as messages one after the other."""
    found = []
    for golden in every():
        payloads = list(of(golden))
        for start in range(0, min(len(payloads), 4 * size), size):
            found.append(b"".join(payloads[:start][-size:] + payloads[start : start + size]))
    return found


def _split(data: bytes) -> list[bytes]:
    """The messages one after the other in `data`, up to the first byte that begins none."""
    unpacker = msgpack.Unpacker(strict_map_key=False, use_list=False)
    unpacker.feed(data)
    found, at = [], 0
    with contextlib.suppress(Exception):
        while True:
            unpacker.skip()
            found.append(data[at : unpacker.tell()])
            at = unpacker.tell()
    return found if at == len(data) else [*found, data[at:]]


def _observed(data: bytes) -> None:
    """The allocator decides on whatever can be read; what it writes can be folded and compiled."""
    desk = Desk(checked=False)
    for sequence, payload in enumerate(_split(data), 1):
        with contextlib.suppress(EventError):
            place = observed_subject(decode(payload, Stream.OBSERVED, sequence).event)
            desk.observe(recorded(Stream.OBSERVED, Stored(sequence, place, payload, 0)).event)
    desk.tick(after_ms=2_000)
    assert digest(desk.refolded()) == digest(desk.state)
    judged(desk.state)


def _ledger(data: bytes) -> None:
    """A ledger whose chain is right, whatever its events say: what stops its reader changes
    nothing, and what it says so far can be kept."""
    payloads = _split(data)
    state, stopped = _read(payloads)
    assert digest(thaw(freeze(state))) == digest(state)
    if stopped is not None:
        before, _ = _read(payloads[: state.sequence])
        assert freeze(before) == freeze(state), f"{stopped}, and it changed the state"
        raise stopped


def _read(payloads: Sequence[bytes]) -> tuple[State, Stopped | None]:
    state, previous = State(), chain.GENESIS
    for sequence, payload in enumerate(payloads, 1):
        if payload[:1] == b"\x99" and len(payload) > 18:  # a chain of its own
            payload = b"\x98" + payload[1:-18]
        if payload[:1] == b"\x98":
            payload, previous = chain.link(previous, payload)
        try:
            take(state, Stored(sequence, "", payload, 0))
        except Stopped as error:
            return state, error
    return state, None


def _snapshots() -> list[bytes]:
    found = []
    for golden in every():
        *_, (state, _) = golden.replay()
        found.append(msgpack.packb(freeze(state)))
    return found


def _opened(data: bytes) -> list[Any]:
    """A snapshot as the values that it says, without its digests; ValueError if it is none."""
    chunks = read_msgpack(data)
    if not (isinstance(chunks, list) and chunks and all(isinstance(c, bytes) for c in chunks)):
        raise ValueError("no chunks")
    match read_msgpack(chunks[0]):
        case [schema, bytes() as head, _]:
            return [schema, read_msgpack(head)[:-1], *map(read_msgpack, chunks[1:])]
    raise ValueError("no head")


def _sealed(value: Any) -> bytes:
    """With digests that fit: they keep no one from lying who can write an object."""
    if not (isinstance(value, list) and len(value) > 1 and isinstance(value[1], list)):
        raise ValueError("no snapshot")
    schema, head, *sections = value
    chunks = list(map(write_msgpack, sections))
    packed = write_msgpack([*head, _digest(*chunks)])
    return write_msgpack([write_msgpack([schema, packed, _digest(packed)]), *chunks])


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=16).digest()


SNAPSHOT = Form(MSGPACK.tokens, _opened, _sealed)


def _snapshot(data: bytes) -> None:
    """What can be taken can be written again."""
    try:
        chunks = read_msgpack(data)
    except ValueError:
        return
    if isinstance(chunks, list) and all(isinstance(chunk, bytes) for chunk in chunks):
        freeze(thaw(chunks))


def _rows() -> list[Held]:
    attachment = Attachment(
        "uid-1", 7, bytes(6), bytes(6), Provisional(300, ("10.0.0.1", "fd00::1"))
    )
    return [Held(attachment, "tb1", 8), Held(replace(attachment, provisional=None), "tb2", 0)]


def _attached() -> list[bytes]:
    return [packed(_rows()), packed([])]


def _files() -> list[bytes]:
    """Checkpoint files as they are on disk."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "checkpoint"

        async def made(state: State) -> bytes:
            async with Checkpoint.open(path) as checkpoint:
                await checkpoint.save(state, packed(_rows()))
            return path.read_bytes()

        return [asyncio.run(made(thaw(msgpack.unpackb(each)))) for each in _snapshots()[:2]]


def _checkpoint(data: bytes) -> None:
    """Whatever stands in the file, it is a state or none, and the next save is read back."""
    with tempfile.TemporaryDirectory(dir=_RAM) as directory:
        path = Path(directory) / "checkpoint"
        path.write_bytes(data)

        async def kept() -> None:
            async with Checkpoint.open(path) as checkpoint:
                state = await checkpoint.load()
                if state is None:
                    await checkpoint.save(State(sequence=7))
            if state is None:
                async with Checkpoint.open(path) as checkpoint:
                    saved = await checkpoint.load()
                    assert saved is not None and saved.sequence == 7  # noqa: PT018

        asyncio.run(kept())


_RAM = "/dev/shm" if Path("/dev/shm").is_dir() else None


ARCHIVED_AT = 50


def _archived() -> list[bytes]:
    """The object of a snapshot, deflated and not: what is deflated hides most of its bytes."""
    state = next(state for state, _ in every()[0].replay() if state.sequence == ARCHIVED_AT)
    content, _, _ = packed_object(Frozen.of(state), "test")
    line, _, rest = content.partition(b"\n")
    return [content, line + b"\n" + zlib.compress(zlib.decompress(rest), 0)]


TARGETS = (
    Target("events", MSGPACK, _payloads, _event, (EventError,)),
    Target(
        "observed",
        MESSAGES,
        lambda: _stories(lambda golden: [encode(r.event, r.envelope) for r in golden.observed], 40),
        _observed,
        short=25,
    ),
    Target(
        "ledger",
        MESSAGES,
        lambda: _stories(lambda golden: [message.payload for message in golden.ledger], 60),
        _ledger,
        (Stopped,),
        short=60,
    ),
    Target("snapshot", SNAPSHOT, _snapshots, _snapshot, (SnapshotError,)),
    Target("archive", BYTES, _archived, lambda data: taken(ARCHIVED_AT, data), (SnapshotError,)),
    Target("checkpoint", BYTES, _files, _checkpoint, short=60),
    Target("attachments", MSGPACK, _attached, unpacked, (ValueError,)),
)
