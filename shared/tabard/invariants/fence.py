"""fenced: an allocator that lost its place cannot append. Epochs rise, each event is chained to the
one before it, and what was written after a claim was written by who claimed."""

from bisect import bisect_right

from tabard.events import ledger as events
from tabard.events.chain import GENESIS, chain_of, follow
from tabard.events.errors import ChainError
from tabard.invariants.tally import Tally
from tabard.invariants.verdict import Invariant, Verdict, Violation
from tabard.ledger.fold import LedgerRecord


class Fenced:
    invariant = Invariant.FENCED

    def __init__(self) -> None:
        self._tally = Tally(self.invariant, "ledger events")
        self._chain = GENESIS
        self._epoch = 0
        self._claimed_at: list[int] = []
        self._claims: list[tuple[int, str]] = []
        """(epoch, holder)"""
        self._holders: dict[int, str] = {}
        """By epoch."""
        self._written = 0

    def take(self, record: LedgerRecord, stored: bytes) -> list[Violation]:
        """The next event of the ledger, and its bytes there."""
        self._tally.judged += 1
        found = []
        try:
            self._chain = follow(self._chain, stored, record.place)
        except ChainError as error:
            self._chain = chain_of(stored) or self._chain
            found.append(f"two wrote there: {error}")
        match record.event:
            case events.EpochClaimed(epoch, holder):
                if epoch <= self._epoch:
                    found.append(
                        f"{record.place} claims epoch {epoch} for {holder} after {self._epoch}"
                    )
                self._epoch = epoch
                self._claimed_at.append(record.sequence)
                self._claims.append((epoch, holder))
                self._holders[epoch] = holder
            case _ if not self._claims:
                found.append(f"{record.place} was written before anybody had claimed the lead")
            case _:
                pass
        return [self._tally.found(what, record.envelope.occurred_at) for what in found]

    def wrote(
        self, expected_last: int, messages: int, holder: str, epoch: int, at: int = 0
    ) -> list[Violation]:
        """`holder`, who believed to lead under `epoch`, wrote so many messages, as it was told,
        behind `expected_last`. To be told of every batch in order, once its events were taken."""
        found = []
        first, last = expected_last + 1, expected_last + messages
        if first != self._written + 1:
            found.append(
                f"{holder} wrote LEDGER/{first} to {last} where LEDGER/{self._written + 1} was next"
            )
        self._written += messages
        rightful = self._claims[bisect_right(self._claimed_at, last) - 1] if self._claims else None
        if rightful != (epoch, holder):
            claim = f"{rightful[1]} claimed epoch {rightful[0]}" if rightful else "nobody claimed"
            found.append(
                f"{holder} of epoch {epoch} wrote LEDGER/{first} to {last}, for which {claim}"
            )
        return [self._tally.found(what, at) for what in found]

    def leads(self, holder: str, epoch: int, at: int = 0) -> list[Violation]:
        """An allocator said that it leads under `epoch`, whose claim was taken already."""
        rightful = self._holders.get(epoch)
        if rightful == holder:
            return []
        claim = f"{rightful} claimed" if rightful else "nobody claimed"
        return [self._tally.found(f"{holder} says it leads under epoch {epoch}, which {claim}", at)]

    def found(self, what: str, at: int = 0) -> Violation:
        """A violation that somebody else saw."""
        return self._tally.found(what, at)

    def verdict(self) -> Verdict:
        return self._tally.verdict()
