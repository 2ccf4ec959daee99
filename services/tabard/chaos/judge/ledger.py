"""A run's ledger, and what nodes and allocators said of it, held against what must hold."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from tabard.bus.port import Stream
from tabard.chaos.happenings import ORIGIN
from tabard.chaos.judge.evidence import Evidence
from tabard.chaos.record import Record, Word
from tabard.events.errors import EventError
from tabard.events.observed import ObservedEvent, PolicySet
from tabard.invariants.fence import Fenced
from tabard.invariants.lost import NothingLost
from tabard.invariants.numbers import OneNumberOneSet
from tabard.invariants.once import ExactlyOnce
from tabard.invariants.reuse import SafeReuse
from tabard.invariants.same import Deterministic
from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Verdict, Violation
from tabard.ledger.fold import FoldError, LedgerRecord, evolve
from tabard.ledger.messages import recorded, speaker
from tabard.ledger.reader import Stopped, take
from tabard.ledger.state import State


def one_number_one_set(evidence: Evidence) -> Verdict:
    """Also hold each pod to its labels once all is over: the work had ended by then."""
    checker = OneNumberOneSet()
    for event in evidence.ledger:
        checker.take(event)
    checker.settled()
    return checker.verdict()


def fenced(record: Record, evidence: Evidence) -> Verdict:
    """Also hold each allocator's word that it leads against the claims of the ledger."""
    checker = Fenced()
    for event, stored in zip(evidence.ledger, evidence.stored, strict=True):
        checker.take(event, stored.payload)
    for word in record.words:
        if word.kind == "allocator" and word.role == "leading":
            checker.leads(word.holder, word.epoch, word.heard_at)
    return checker.verdict()


def exactly_once(evidence: Evidence) -> Verdict:
    checker = ExactlyOnce(_is_sound)
    for message in evidence.observed:
        try:
            event = recorded(Stream.OBSERVED, message).event
        except EventError:
            event = None
        checker.observe(message.sequence, event, speaker(message))
    for record in evidence.ledger:
        checker.take(record)
    if evidence.observed:
        checker.undecided(evidence.observed[-1].sequence)
    return checker.verdict()


def _is_sound(event: ObservedEvent) -> bool:
    """All that the run publishes is, but for what a flood says of policies."""
    return not isinstance(event, PolicySet) or event.origin == ORIGIN


def safe_reuse(record: Record, evidence: Evidence) -> Verdict:
    """A word counts from when the bus stored it: whoever decided by it heard it later. Addresses
    are held against the folded state, for as long as it can be folded."""
    checker = SafeReuse()
    state: State | None = State()
    words = iter(sorted(_since(record.words), key=lambda said: said[0]))
    said = next(words, None)
    for event in evidence.ledger:
        while said is not None and said[0] <= event.stored_at:
            checker.said(said[1].name, said[1].sequence)
            said = next(words, None)
        checker.take(event)
        if state is not None:
            try:
                evolve(state, event)
                checker.agree(state)
            except FoldError:  # `deterministic` says so
                state = None
    return checker.verdict()


def _since(words: list[Word]) -> Iterator[tuple[int, Word]]:
    """Each word of a node, with when it may have said as much at the earliest.

    STATUS keeps a node's last word alone. Where the run missed some, what a node said next may be
    what it had said in one of them: so it counts from the last word before the gap on.
    """
    heard = sorted(words, key=lambda word: word.place)
    gaps: dict[str, int] = {}
    last: Word | None = None
    nodes = {word.name for word in heard if word.kind == "node"}
    for word in heard:
        if last is not None and word.place > last.place + 1:
            gaps = dict.fromkeys(nodes, last.stored_at) | gaps
        if word.kind == "node":
            yield gaps.pop(word.name, word.stored_at), word
        last = word


def nothing_lost(record: Record, evidence: Evidence) -> Verdict:
    checker = NothingLost()
    for event in record.acknowledged:
        checker.acknowledged(event.sequence, event.payload_hash, event.at)
    for seen in record.seen:
        checker.seen(seen.sequence, bytes.fromhex(seen.chain), seen.at)
    for message in evidence.observed:
        checker.observed(message.sequence, message.payload)
    for message in evidence.stored:
        checker.ledger(message.sequence, message.payload)
    checker.missing()
    return checker.verdict()


def deterministic(record: Record, evidence: Evidence) -> Verdict:
    """Fold the ledger in one go and by way of a snapshot, and hold what each node said of its own
    state against that."""
    checker, state = Deterministic(), State()
    digests = defaultdict(set)
    for word in record.words:
        if word.digest:
            digests[word.digest_at].add((word.name, word.digest))
    since: list[LedgerRecord] = []
    try:
        for message in evidence.stored:
            taken = take(state, message)
            if message.sequence == len(evidence.stored) // 2:
                checker.freeze(state)
                since.clear()
            elif taken is not None:
                since.append(taken)
            for name, digest in sorted(digests.get(state.sequence, ())):
                checker.says(name, state.sequence, bytes.fromhex(digest), state)
        checker.hold(state, since)
    except Stopped as error:
        told = Violation(checker.invariant, f"the ledger cannot be folded: {error}")
        verdict = checker.verdict()
        others = verdict.told[: VIOLATIONS_SHOWN_MAX - 1]
        return replace(verdict, violations=verdict.violations + 1, told=(told, *others))
    return checker.verdict()
