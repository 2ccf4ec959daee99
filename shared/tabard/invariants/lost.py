"""nothing lost: what the bus acknowledged, and what anybody was shown of the ledger, is still
there, and the same."""

from hashlib import blake2b

from tabard.events.chain import chain_of
from tabard.invariants.tally import Tally
from tabard.invariants.verdict import Invariant, Verdict, Violation


def payload_hash(payload: bytes) -> str:
    """BLAKE2b of a stored payload, 16 bytes, hex."""
    return blake2b(payload, digest_size=16).hexdigest()


class NothingLost:
    """Told first what was promised, then what is there, and asked for `missing` in the end."""

    invariant = Invariant.NOTHING_LOST

    def __init__(self) -> None:
        self._tally = Tally(self.invariant, "acknowledged and seen events")
        self._acknowledged: dict[int, tuple[str, int]] = {}
        """OBSERVED sequence → (payload hash, when it was acknowledged)."""
        self._seen: dict[int, tuple[bytes, int]] = {}
        """LEDGER sequence → (chain hash, when it was seen first)."""

    def acknowledged(self, sequence: int, payload_hash: str, at: int = 0) -> list[Violation]:
        """The bus said that it stored this at OBSERVED/`sequence`."""
        self._tally.judged += 1
        before = self._acknowledged.get(sequence)
        if before is not None and before[0] != payload_hash:
            return [self._tally.found(f"two events were acknowledged as OBSERVED/{sequence}", at)]
        self._acknowledged[sequence] = (payload_hash, at)
        return []

    def seen(self, sequence: int, chain: bytes, at: int = 0) -> list[Violation]:
        """Somebody was shown LEDGER/`sequence` with this chain hash, or acted by it."""
        self._tally.judged += 1
        before = self._seen.setdefault(sequence, (chain, at))
        if before[0] != chain:
            return [self._tally.found(f"two were shown different events as LEDGER/{sequence}", at)]
        return []

    def observed(self, sequence: int, payload: bytes) -> list[Violation]:
        """OBSERVED holds this."""
        promised, at = self._acknowledged.pop(sequence, ("", 0))
        if promised in ("", payload_hash(payload)):
            return []
        what = f"OBSERVED/{sequence} is another event than the one that was acknowledged there"
        return [self._tally.found(what, at)]

    def ledger(self, sequence: int, payload: bytes) -> list[Violation]:
        """LEDGER holds this."""
        shown, at = self._seen.pop(sequence, (b"", 0))
        if shown in (b"", chain_of(payload)):
            return []
        what = f"LEDGER/{sequence} is another event than the one that was shown there"
        return [self._tally.found(what, at)]

    def missing(self) -> list[Violation]:
        """What was promised, and nobody told to be there."""
        lost = [
            (f"OBSERVED/{sequence} was acknowledged", at)
            for sequence, (_, at) in sorted(self._acknowledged.items())
        ]
        lost += [
            (f"LEDGER/{sequence} was shown", at) for sequence, (_, at) in sorted(self._seen.items())
        ]
        return [self._tally.found(f"{what}, and is not there any more", at) for what, at in lost]

    def verdict(self) -> Verdict:
        return self._tally.verdict()
