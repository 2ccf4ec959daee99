"""What one replica of the bus stores, held against order and chain, and against the others.

Nothing is folded: a replica is asked whether it holds the stream, not what the stream means. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from tabard.bus.port import Stored, Stream
from tabard.events import chain
from tabard.events.errors import ChainError

TOLD_MAX = 20
"""Gaps, and events that do not follow, that an audit names; all are counted."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What one replica gave of `stream` from `start` through `through`."""

    stream: Stream
    start: int
    through: int
    messages: int
    missing: int
    """Sequences that it did not give."""
    gaps: tuple[tuple[int, int], ...]
    """The first of these, each as (first, last)."""
    unchained: int
    """LEDGER's events whose chain hash does not follow from the one before."""
    broken: tuple[int, ...]
    """The first of these."""
    digest: bytes
    """Of all sequences and payloads: two replicas that hold the same have the same."""


class Audit:
    """Takes one replica's messages in order; `result` says what it was."""

    def __init__(self, stream: Stream, start: int, through: int) -> None:
        self._stream, self._start, self._through = stream, start, through
        self._next = start
        self._chain: bytes | None = chain.GENESIS if start == 1 else None
        self._messages = self._missing = self._unchained = 0
        self._gaps: list[tuple[int, int]] = []
        self._broken: list[int] = []
        self._digest = blake2b(digest_size=16)

    @property
    def reached(self) -> int:
        """The last sequence that was taken, or the one before the first."""
        return self._next - 1

    def take(self, messages: Iterable[Stored]) -> None:
        for message in messages:
            if message.sequence > self._next:
                self._gap(message.sequence - 1)
                self._chain = None  # what the next one follows from is not there
            self._next = message.sequence + 1
            self._messages += 1
            self._digest.update(b"%d %d " % (message.sequence, len(message.payload)))
            self._digest.update(message.payload)
            if self._stream is Stream.LEDGER:
                self._follow(message)

    def _gap(self, last: int) -> None:
        self._missing += last - self._next + 1
        if len(self._gaps) < TOLD_MAX:
            self._gaps.append((self._next, last))

    def _follow(self, message: Stored) -> None:
        claimed = chain.chain_of(message.payload)
        try:
            if claimed is None or self._chain is not None:
                chain.follow(self._chain or b"", message.payload, "")
        except ChainError:
            self._unchained += 1
            if len(self._broken) < TOLD_MAX:
                self._broken.append(message.sequence)
        self._chain = claimed

    def result(self) -> Audited:
        """Of what was taken; what should have come after it is missing."""
        if self._next <= self._through:
            self._gap(self._through)
            self._next = self._through + 1
        return Audited(
            self._stream,
            self._start,
            self._through,
            self._messages,
            self._missing,
            tuple(self._gaps),
            self._unchained,
            tuple(self._broken),
            self._digest.digest(),
        )


def faults(audits: Mapping[str, Audited]) -> dict[str, tuple[str, ...]]:
    """Server → what is wrong with its replica, from audits of one range; empty if nothing is.

    What all hold alike is no replica's fault, be it chained or not: that is the stream itself.
    """
    agreed = _agreed(audits)
    return {server: tuple(_faults(audited, agreed)) for server, audited in audits.items()}


def _agreed(audits: Mapping[str, Audited]) -> bytes:
    """The digest that counts: the chain's word first, then that of the most replicas; b"" if there
    is none that more replicas hold than any other."""
    whole = [each for each in audits.values() if not each.missing]
    fewest = min((each.unchained for each in whole), default=0)
    most = Counter(each.digest for each in whole if each.unchained == fewest).most_common(2)
    if not most or (len(most) == 2 and most[0][1] == most[1][1]):
        return b""
    return most[0][0]


def _faults(audited: Audited, agreed: bytes) -> Iterable[str]:
    stream = audited.stream
    if audited.missing:
        yield f"{audited.missing} messages are missing: {_told(audited.gaps)}"
    if audited.digest != agreed and audited.broken:
        broken = ", ".join(f"{stream}/{sequence}" for sequence in audited.broken[:3])
        more = ", …" if audited.unchained > 3 else ""
        yield f"{audited.unchained} events do not follow from the one before: {broken}{more}"
    if audited.digest != agreed and not audited.missing and not audited.broken:
        yield (
            "it holds other messages than the others"
            if agreed
            else "replicas hold different messages, and no majority says which are right"
        )


def _told(gaps: Iterable[tuple[int, int]]) -> str:
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in gaps]
    return ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")
