"""Reading the ledger step by step, believing nothing: sequence, codec and chain are checked before
an event has any effect."""

from collections.abc import Iterable

from tabard.bus.port import SequenceGap, Stored, Stream
from tabard.events import chain
from tabard.events.errors import ChainError, EventError
from tabard.ledger.fold import FoldError, LedgerRecord, evolve
from tabard.ledger.messages import recorded
from tabard.ledger.state import State


class Stopped(Exception):
    """The reader stands before an event that it cannot take. State is through the one before it.

    Going on takes an operator's `tabard events quarantine SEQ --reason …`.
    """

    def __init__(self, sequence: int, reason: str, unchained: bool = False) -> None:
        first = (
            "`tabard bus check` says whether a replica of the bus holds another one; "
            if unchained
            else ""
        )
        super().__init__(
            f"stopped before LEDGER/{sequence}: {reason}. {first}`tabard events show {sequence}` "
            f"explains it; `tabard events quarantine {sequence} --stream LEDGER --reason …` goes "
            "on past it"
        )
        self.sequence = sequence
        self.reason = reason
        self.unchained = unchained
        """The event does not follow from the one before it: what was read may not be what was
        written."""


def take(state: State, message: Stored) -> LedgerRecord | None:
    """Check one stored message and fold it into `state`.

    None if the message was quarantined. Raises Stopped (state unchanged) if it cannot be taken,
    SequenceGap if it is not the next one.
    """
    if message.sequence != state.sequence + 1:
        raise SequenceGap(
            f"LEDGER/{message.sequence} came where LEDGER/{state.sequence + 1} must: the log has a "
            "hole; run `tabard bus check`"
        )
    if (Stream.LEDGER, message.sequence) in state.quarantined:
        # The chain goes on from whatever this message claims: the operator vouched for the seam.
        state.chain = chain.chain_of(message.payload) or state.chain
        state.sequence = message.sequence
        return None
    place = f"LEDGER/{message.sequence}"
    try:
        follows = _follow(state, message, place)
        record: LedgerRecord = recorded(Stream.LEDGER, message)
        evolve(state, record)
    except (EventError, FoldError) as error:
        raise Stopped(message.sequence, str(error), isinstance(error, ChainError)) from error
    state.chain = follows
    return record


def follows(state: State, message: Stored) -> bool:
    """Whether `message` is the next one and its chain hash says so."""
    try:
        _follow(state, message, "")
    except EventError:
        return False
    return message.sequence == state.sequence + 1


def _follow(state: State, message: Stored, place: str) -> bytes:
    before = (Stream.LEDGER, message.sequence - 1)
    if before in state.quarantined:
        # A quarantined message may have been changed; then this one's hash covers its old bytes.
        claimed = chain.chain_of(message.payload)
        return claimed if claimed is not None else chain.follow(state.chain, message.payload, place)
    return chain.follow(state.chain, message.payload, place)


def take_all(state: State, messages: Iterable[Stored]) -> list[LedgerRecord]:
    """`take` each message in turn; on an error `state` is through the last good one."""
    return [record for message in messages if (record := take(state, message)) is not None]
