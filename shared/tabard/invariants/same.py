"""deterministic: the same ledger gives the same state, on whatever way it is come to."""

from collections.abc import Iterable

from tabard.invariants.tally import Tally
from tabard.invariants.verdict import Invariant, Verdict, Violation
from tabard.ledger.digest import digest
from tabard.ledger.fold import LedgerRecord, evolve
from tabard.ledger.snapshot import freeze, thaw
from tabard.ledger.state import State


class Deterministic:
    """Holds a state against one that went through a snapshot on the way, and against what others
    folded."""

    invariant = Invariant.DETERMINISTIC

    def __init__(self) -> None:
        self._tally = Tally(self.invariant, "states")
        self._frozen: tuple[int, list[bytes]] = (0, freeze(State()))
        self._digests: dict[int, bytes] = {}

    @property
    def halfway(self) -> int:
        """The sequence of the snapshot."""
        return self._frozen[0]

    def freeze(self, state: State) -> None:
        """Take the snapshot, of a state on the way."""
        self._frozen = state.sequence, freeze(state)

    def hold(self, state: State, since: Iterable[LedgerRecord]) -> list[Violation]:
        """Hold `state` against the snapshot and the events since then, all of them."""
        other = thaw(self._frozen[1])
        for record in since:
            evolve(other, record)
        other.chain = state.chain  # `evolve` is not shown the bytes that it covers
        return self.says("a fold by way of a snapshot", state.sequence, digest(other), state)

    def says(self, who: str, sequence: int, other: bytes, state: State) -> list[Violation]:
        """Somebody's state through `sequence` has this digest; `state` is through it too."""
        assert sequence == state.sequence, "states of two sequences are not to be the same"
        self._tally.judged += 1
        own = self._digests.get(sequence)
        if own is None:
            own = self._digests[sequence] = digest(state)
        if own == other:
            return []
        what = (
            f"the state through LEDGER/{sequence} has digest {own.hex()}, and by {who} "
            f"{other.hex()}"
        )
        return [self._tally.found(what)]

    def verdict(self) -> Verdict:
        return self._tally.verdict()
