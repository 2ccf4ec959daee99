"""Clocks, ids and chance of a history: what production code asks the machine for is the loop's."""

import gc
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from tabard.agent import freshness
from tabard.events import codec
from tabard.events.envelope import Recorded
from tabard.ledger import messages
from tabard.simulator.loop import HOST, VirtualLoop

EPOCH_NS = 1_700_000_000_000_000_000
"""When every history begins, in nanoseconds since the Unix epoch."""


def true_time(loop: VirtualLoop) -> int:
    """Nanoseconds since the Unix epoch, by the clock that no fault moves."""
    return EPOCH_NS + int(loop.time() * 1e9)


def believed_time(loop: VirtualLoop) -> int:
    """The same by the clock of whose code runs."""
    host = HOST.get()
    return true_time(loop) + (0 if host is None else host.skew_ns)


def drawn_id() -> uuid.UUID:
    """A version 4 UUID that no other call gives, whatever was left out of a history before."""
    host = HOST.get()
    assert host is not None, "the simulator itself draws no ids"
    host.drawn += 1
    drawn = blake2b(f"{host.name}/{host.start}/{host.drawn}".encode(), digest_size=16).digest()
    return uuid.UUID(bytes=drawn, version=4)


def _once(decode: Callable[..., Recorded[Any]]) -> Callable[..., Recorded[Any]]:
    """`decode`, which six readers call for each event, and whose answers nobody changes."""
    known: dict[tuple[str, int, bytes], Recorded[Any]] = {}

    def decoded(payload: bytes, stream: str, sequence: int, stored_at: int = 0) -> Recorded[Any]:
        place = stream, sequence, payload
        if (found := known.get(place)) is None:
            found = known[place] = decode(payload, stream, sequence, stored_at)
        return found

    return decoded


@contextmanager
def virtual(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Inside, `time`, `uuid.uuid4` and the module `random` are the history's."""
    patches: list[tuple[Any, str, Any]] = [
        (time, "time_ns", lambda: believed_time(loop)),
        (time, "time", lambda: believed_time(loop) / 1e9),
        (time, "monotonic", loop.time),
        (time, "monotonic_ns", lambda: int(loop.time() * 1e9)),
        (time, "perf_counter", loop.time),
        (time, "clock_gettime_ns", lambda clock: int(loop.time() * 1e9)),
        (uuid, "uuid4", drawn_id),
        # Who reads a checkpoint keeps it for good; here it goes with its history.
        (gc, "freeze", lambda: None),
        # Each look costs as much as a step, and is about nothing that is checked.
        (freshness, "LOOK_S", freshness.LOOK_S * 8),
        (messages, "decode", _once(codec.decode)),
    ]
    chance = random.getstate()
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    random.seed(seed)
    try:
        for module, name, value in patches:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        random.setstate(chance)
