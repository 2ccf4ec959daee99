"""Hunting for an input that a target neither takes nor refuses, as it must.

Inputs are bent from those of before; one that has reached lines in an order that none reached
before it is bent further. What fails is made small, and kept; the tests replay it.
"""

import lzma
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import msgpack

from fuzzing.parsers.target import Target

HERE = Path(__file__).parent
FINDINGS = HERE / "findings"
"""Of each target a folder: inputs that once failed, each in a file of its own."""
CORPORA = HERE / "corpora"
"""Of each target a file: inputs that reached something that its seeds do not."""
KEPT_MAX = 200
"""Most inputs of a corpus that are kept, the smallest of what reaches the same."""
CORPUS_BYTES_MAX = 8 << 10
"""Larger inputs are hunted with, and not kept."""
SMALLER_S = 20.0
"""How long a failing input is made smaller."""

INPUT_S_MAX = 10.0
"""Most CPU time that an input of at most BYTES_MAX may take, traced."""

Arc = tuple[CodeType, int, int]
Place = tuple[str, str]
"""The error's type, and the line of Tabard's or the target's that it came from."""


@dataclass(frozen=True)
class Failure:
    """An input, and how it failed."""

    data: bytes
    place: Place
    error: BaseException = field(compare=False, repr=False)


class TooSlow(BaseException):
    """Taking an input takes longer than INPUT_S_MAX; no `except Exception` hides it."""


def failure(target: Target, data: bytes) -> Failure | None:
    """None if the input is taken or refused, in time. Only on the main thread."""
    try:
        with _in_time():
            target.take(data)
    except target.errors:
        return None
    except (Exception, TooSlow) as error:
        return Failure(data, _place(error), error)
    return None


@contextmanager
def _in_time() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"it took more than {INPUT_S_MAX:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, INPUT_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place(error: BaseException) -> Place:
    line, trace = "?", error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if "/tabard/" in path or "/parsers/" in path:
            line = f"{'/'.join(Path(path).parts[-2:])}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__, line


def smaller(target: Target, found: Failure, until: float) -> Failure:
    """An input as small as it gets that fails in the same way (until a `time.process_time`)."""
    shrunk = True
    while shrunk:
        shrunk = False
        for data in target.form.smaller(found.data):
            if time.process_time() > until:
                return found
            if len(data) >= len(found.data):
                continue
            again = failure(target, data)
            if again is not None and again.place == found.place:
                found, shrunk = again, True
                break
    return found


@dataclass
class Tracer:
    """Which lines of Tabard's code followed one another."""

    arcs: set[Arc] = field(default_factory=set)
    _ours: dict[CodeType, bool] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Also in the threads and generators that are entered meanwhile, on this thread."""
        self.arcs = set()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = "/tabard/" in code.co_filename
        if not ours:
            return None
        arcs, last = self.arcs, 0

        def stepped(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal last
            if event == "line":
                arcs.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return stepped

        return stepped


class Hunt:
    """On one target, from its seeds and what was kept before."""

    def __init__(self, target: Target, random: Random, kept: Sequence[bytes] = ()) -> None:
        self.target = target
        self.inputs = 0
        self.failures: dict[Place, Failure] = {}
        self.grown: list[bytes] = []
        """What reached something new, beyond the seeds."""
        self._random = random
        self._tracer = Tracer()
        self._reached: set[Arc] = set()
        self._pool: list[bytes] = []
        for data in target.seeds():
            self._try(data)
            if data not in self._pool:
                self._pool.append(data)
        for data in kept:
            if self._try(data):
                self.grown.append(data)

    @property
    def arcs(self) -> int:
        return len(self._reached)

    def once(self) -> None:
        """Try one more input."""
        data = self._random.choice(self._pool[-50:] if self._random.random() < 0.3 else self._pool)
        bent = self.target.form.bent(self._random, data, self._random.choice(self._pool))
        if self._try(bent):
            self.grown.append(bent)

    def _try(self, data: bytes) -> bool:
        """Whether it reached anything new."""
        self.inputs += 1
        with self._tracer.watching():
            found = failure(self.target, data)
        if found is not None:
            self.failures.setdefault(found.place, found)
            return False
        if self._tracer.arcs <= self._reached:
            return False
        self._reached |= self._tracer.arcs
        self._pool.append(data)
        return True


def findings(target: Target) -> list[Path]:
    return sorted((FINDINGS / target.name).glob("*"))


def keep(target: Target, found: Failure) -> Path:
    """Write what failed among the findings; where it is."""
    folder = FINDINGS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / blake2b(found.data, digest_size=5).hexdigest()
    path.write_bytes(found.data)
    return path


def corpus(target: Target) -> list[bytes]:
    path = CORPORA / f"{target.name}.xz"
    if not path.exists():
        return []
    unpacker = msgpack.Unpacker()
    unpacker.feed(lzma.decompress(path.read_bytes()))
    return list(unpacker)


def grow(target: Target, more: Sequence[bytes]) -> int:
    """Keep what of the corpus and `more` reaches something that nothing smaller does; how many."""
    tracer, reached = Tracer(), set[Arc]()
    for data in target.seeds():
        with tracer.watching():
            failure(target, data)
        reached |= tracer.arcs
    chosen = []
    for data in sorted({*corpus(target), *more}, key=lambda data: (len(data), data)):
        if len(data) > CORPUS_BYTES_MAX or len(chosen) >= KEPT_MAX:
            break
        with tracer.watching():
            failure(target, data)
        if not tracer.arcs <= reached:
            reached |= tracer.arcs
            chosen.append(data)
    if chosen:
        CORPORA.mkdir(exist_ok=True)
        packed = b"".join(map(msgpack.packb, chosen))
        (CORPORA / f"{target.name}.xz").write_bytes(lzma.compress(packed, preset=9))
    return len(chosen)
