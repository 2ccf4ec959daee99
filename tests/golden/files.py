"""Golden ledgers on disk: what was observed, what was written, and what that comes to.

Each is a folder beside this file: `observed.xz` and `ledger.xz` (the stored payloads, as msgpack
binaries one after the other), `expected.json` (the state's digest at several sequences) and
`verdicts-SEQUENCE.xz` (lines of `verdicts.said`).
"""

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgpack

from golden.verdicts import flows, said
from tabard.bus.port import Stored
from tabard.events.codec import decode
from tabard.events.envelope import Recorded
from tabard.events.errors import EventError
from tabard.events.observed import ObservedEvent
from tabard.ledger.digest import digest
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.reader import take
from tabard.ledger.state import State

HERE = Path(__file__).parent
POINTS = 8
"""About how many sequences are held to a digest."""


@dataclass(frozen=True)
class Golden:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def ledger(self) -> list[Stored]:
        return _stored(self.folder / "ledger.xz")

    @cached_property
    def observed(self) -> list[Recorded[ObservedEvent]]:
        """What can be read of it."""
        found = []
        for message in _stored(self.folder / "observed.xz"):
            try:
                found.append(decode(message.payload, "OBSERVED", message.sequence))
            except EventError:
                continue
        return found

    @cached_property
    def digests(self) -> dict[int, str]:
        """Sequence → digest of the state, in order."""
        expected = json.loads((self.folder / "expected.json").read_text())
        return {int(sequence): text for sequence, text in expected["digests"].items()}

    def verdicts(self) -> dict[int, list[str]]:
        """Sequence → what passes and what does not."""
        return {
            int(path.stem.partition("-")[2]): lzma.decompress(path.read_bytes())
            .decode()
            .split("\n")
            for path in sorted(self.folder.glob("verdicts-*.xz"))
        }

    def replay(self) -> Iterator[tuple[State, LedgerRecord | None]]:
        """The state after each event, always the same object."""
        state = State()
        for message in self.ledger:
            yield state, take(state, message)


def every() -> list[Golden]:
    return [Golden(path.parent) for path in sorted(HERE.glob("*/expected.json"))]


def add(name: str, about: str, observed: list[bytes], ledger: list[bytes]) -> Golden:
    """Write a golden of today's meaning; FileExistsError if there is one of that name."""
    folder = HERE / name
    folder.mkdir()
    _write(folder / "observed.xz", observed)
    _write(folder / "ledger.xz", ledger)
    golden, end = Golden(folder), len(ledger)
    points = {end * part // POINTS for part in range(1, POINTS + 1)} - {0}
    digests = {}
    for state, _ in golden.replay():
        if state.sequence in points:
            digests[state.sequence] = digest(state).hex()
        if state.sequence in (end // 2, end):
            text = "\n".join(said(state, flows(state)))
            path = folder / f"verdicts-{state.sequence}.xz"
            path.write_bytes(lzma.compress(text.encode(), preset=9))
    expected = json.dumps({"about": about, "digests": digests}, indent=2)
    (folder / "expected.json").write_text(expected + "\n")
    return golden


def _write(path: Path, payloads: list[bytes]) -> None:
    path.write_bytes(lzma.compress(b"".join(map(msgpack.packb, payloads)), preset=9))


def _stored(path: Path) -> list[Stored]:
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(lzma.decompress(path.read_bytes()))
    return [Stored(sequence, "", payload, 0) for sequence, payload in enumerate(unpacker, 1)]
