"""exactly once: an observed event has its effect in the ledger once, whatever is redelivered,
restarted or failed over; or none, for a reason that can be told.

The ledger is read as batches, each of which ends by moving the cursor. What an observed event
causes stands together in one batch, behind the cursor as it was before and not beyond where the
batch moves it; and once the cursor has passed an event, the ledger says what it said, or why not.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tabard.events import ledger as events
from tabard.events import observed
from tabard.events.observed import ObservedEvent
from tabard.invariants.cluster import Cluster
from tabard.invariants.effects import AHEAD, follows, is_due, is_true, is_undone, never_ran
from tabard.invariants.tally import Tally
from tabard.invariants.verdict import Invariant, Verdict, Violation
from tabard.ledger.fold import LedgerRecord

OBSERVED = "OBSERVED"
UNHEEDED_MIN = 2_048
"""Ledger events that a node must have caused before anything that it says may be passed over (a
refusal counts as REFUSAL_COST): half of what it is allowed at once, since some is had back."""
REFUSAL_COST = 100


@dataclass(frozen=True, slots=True)
class _Told:
    event: ObservedEvent | None
    """None: it cannot be read, or came on another subject than its own."""
    speaker: str
    """The node whose own subject it came on, or ""."""


class ExactlyOnce:
    invariant = Invariant.EXACTLY_ONCE

    def __init__(self, is_sound: Callable[[ObservedEvent], bool] = lambda event: False) -> None:
        """`is_sound`: whether an event is known to be well-formed, so that it may neither be put
        aside nor, if it is a policy, be refused; what nodes say is not asked about."""
        self._is_sound = is_sound
        self._tally = Tally(self.invariant, "observed events")
        self._cluster = Cluster()
        self._observed: dict[int, _Told] = {}
        """Those that the cursor has not passed, and one more."""
        self._stops: dict[str, int] = {}
        """Pod → the sequence of the last event that it stopped."""
        self._caused: Counter[str] = Counter()
        """Node → ledger events, by what it said itself."""
        self.cursor = 0
        """Through which OBSERVED has had its effect."""
        self._at = 0
        """What of OBSERVED the batch has come to."""
        self._is_ahead = False
        """All effects of `_at` are such as may be written ahead of the rest."""

    def observe(self, sequence: int, event: ObservedEvent | None, speaker: str = "") -> None:
        """What stands at OBSERVED/`sequence`; to be told before the ledger speaks of it."""
        self._observed[sequence] = _Told(event, speaker)
        if isinstance(event, observed.PodStopped):
            self._stops[event.uid] = sequence

    def take(self, record: LedgerRecord) -> list[Violation]:
        """The next event of the ledger."""
        at = record.envelope.occurred_at
        return [self._tally.found(f"{record.place} {what}", at) for what in self._faults(record)]

    def undecided(self, through: int) -> list[Violation]:
        """Hold it as a violation that the cursor has not come to OBSERVED/`through` by now."""
        if self.cursor >= through:
            return []
        what = f"the cursor stands at OBSERVED/{self.cursor}, and OBSERVED goes on to {through}"
        return [self._tally.found(what)]

    def found(self, what: str, at: int = 0) -> Violation:
        """A violation that somebody else saw."""
        return self._tally.found(what, at)

    def verdict(self) -> Verdict:
        return self._tally.verdict()

    def _faults(self, record: LedgerRecord) -> Iterator[str]:
        event = record.event
        match event:
            case events.CursorAdvanced(stream, sequence) if stream == OBSERVED:
                yield from self._close(sequence)
                return
            case events.EpochClaimed():
                # A batch that its writer could not end is decided again by the next one.
                self._at = self.cursor
            case _:
                pass
        place = _place(record.envelope.cause)
        if not place and isinstance(event, events.EventQuarantined) and event.stream == OBSERVED:
            place = event.sequence  # by an operator's word, and in its turn
        if place:
            yield from self._caused_by(place, event)
            yield from self._refusal(record)
        elif not is_due(event, self._cluster):
            yield f"({type(event).__name__}) names no cause, and carries out nothing that waited"
        if fault := self._cluster.apply(event):
            yield fault

    def _caused_by(self, place: int, event: events.LedgerEvent) -> Iterator[str]:
        told = self._observed.get(place)
        if place <= self.cursor:
            yield (
                f"is an effect of OBSERVED/{place}, which had its effect before: the cursor is at "
                f"{self.cursor}"
            )
        elif place < self._at:
            yield f"is an effect of OBSERVED/{place} after those of OBSERVED/{self._at}"
        else:
            if place > self._at:
                yield from self._pass(place - 1)
                self._at, self._is_ahead = place, True
            self._is_ahead &= isinstance(event, AHEAD)
        if told is None:
            if place > self.cursor:
                yield f"is an effect of OBSERVED/{place}, which is not there"
        else:
            cost = REFUSAL_COST if isinstance(event, events.EventQuarantined) else 1
            self._caused[told.speaker] += cost
            if not follows(event, told.event, place):
                yield f"({event}) is no effect of OBSERVED/{place} ({told.event})"

    def _refusal(self, record: LedgerRecord) -> Iterator[str]:
        """An allocator that refuses by its own word what it could carry has lost it."""
        event, place = record.event, _place(record.envelope.cause)
        if isinstance(event, events.EventQuarantined):
            if (event.stream, event.sequence) != (OBSERVED, place):
                return  # by an operator's word
        elif not isinstance(event, events.PolicyRefused):
            return
        told = self._observed.get(place)
        if told is None or told.event is None or told.speaker or not self._is_sound(told.event):
            return
        yield f"refuses OBSERVED/{place} ({told.event}), which is well-formed"

    def _close(self, cursor: int) -> Iterator[str]:
        """The batch ends: everything through `cursor` has had its effect."""
        if cursor < self.cursor:
            yield f"moves the cursor back from {self.cursor} to {cursor}"
        elif cursor >= self._at:
            yield from self._pass(cursor)
        elif not (self._is_ahead and cursor == self._at - 1):
            yield f"moves the cursor to {cursor}, before OBSERVED/{self._at}, which had its effect"
        for sequence in range(self.cursor, cursor):
            self._observed.pop(sequence, None)
        self.cursor = self._at = max(cursor, self.cursor)

    def _pass(self, through: int) -> Iterator[str]:
        """Nothing more comes of what is observed from `_at` to `through`."""
        for sequence in range(max(self._at, self.cursor + 1), through + 1):
            self._tally.judged += 1
            told = self._observed.get(sequence)
            if told is None:
                yield f"passes OBSERVED/{sequence}, which is not there"
            elif not self._is_explained(sequence, told):
                yield (
                    f"passes OBSERVED/{sequence} ({told.event}), of which the ledger says nothing, "
                    "and nothing says why"
                )

    def _is_explained(self, sequence: int, told: _Told) -> bool:
        event = told.event
        if (OBSERVED, sequence) in self._cluster.quarantined:
            return True
        if told.speaker and self._caused[told.speaker] >= UNHEEDED_MIN:
            return True
        if event is None:
            return False
        if is_true(event, self._cluster):
            return True
        if isinstance(event, observed.PodStarted) and self._stops.get(event.uid, 0) > sequence:
            return never_ran(event, self._cluster)
        later = self._observed.get(sequence + 1)
        return is_undone(event, later.event if later is not None else None)


def _place(cause: str) -> int:
    """The sequence of a cause on OBSERVED; 0 if there is none."""
    stream, _, sequence = cause.partition("/")
    return int(sequence) if stream == OBSERVED else 0
