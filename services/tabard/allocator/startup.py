"""From nothing to the lead: checkpoint, tail of the ledger, claim."""

from collections.abc import Callable

import structlog

from tabard.allocator.envelopes import envelope
from tabard.allocator.leadership import take_lead
from tabard.allocator.patience import Patience
from tabard.allocator.plan import REASON_MAX
from tabard.allocator.quarantine import operators_word
from tabard.allocator.writer import FencedError, LostError, append
from tabard.bus.port import Bus, Stream
from tabard.events.ledger import (
    CursorAdvanced,
    Enforcement,
    EventQuarantined,
    LedgerEvent,
    SettingsAdopted,
)
from tabard.ledger.checkpoint import Checkpoint, check
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import sealed
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

_log = structlog.get_logger()

CLAIM_ATTEMPTS_MAX = 100
"""A busy leader may append between the look at the ledger's end and the claim; not for ever."""


async def restored(
    bus: Bus, checkpoint: Checkpoint, patience: Patience, poll_s: float
) -> tuple[State, list[LedgerEvent]]:
    """The ledger folded to its end, from the checkpoint if that is of this ledger; and the
    quarantines of ledger events that an operator asked for and the ledger must still record."""
    loaded = await checkpoint.load()
    if loaded is not None:
        saved = loaded
        if reason := await patience.through(lambda: check(bus, saved)):
            _log.warning("checkpoint.discarded", path=str(checkpoint.path), reason=reason)
            loaded = None
    state = State() if loaded is None else loaded
    vouched: list[LedgerEvent] = []
    while True:
        try:
            await patience.through(lambda: catch_up(bus, state))
            break
        except Stopped as stopped:
            sequence = stopped.sequence
            word = await operators_word(
                bus, patience, Stream.LEDGER, sequence, stopped.reason, poll_s
            )
            state.quarantined[(Stream.LEDGER.value, sequence)] = word
            vouched.append(EventQuarantined(Stream.LEDGER.value, sequence, word[:REASON_MAX]))
    last = await patience.through(lambda: bus.last_sequence(Stream.OBSERVED))
    if last < (cursor := state.cursors.get(Stream.OBSERVED, 0)):
        raise LostError(
            f"OBSERVED ends at {last}, but the ledger has taken it through {cursor}: the stream "
            "was replaced; restore it, or begin a new ledger too"
        )
    return state, vouched


async def claim(
    bus: Bus,
    state: State,
    configured: SettingsAdopted,
    enforcement: Enforcement | None,
    holder: str,
    vouched: list[LedgerEvent],
    patience: Patience,
    clock: Callable[[], int],
) -> None:
    """Take the lead from whoever has it; `state` is folded past the claim.

    Raises SettingsMismatch before anything is written, FencedError if others are always faster.
    """
    for _ in range(CLAIM_ATTEMPTS_MAX):
        cursor = CursorAdvanced(Stream.OBSERVED.value, state.cursors.get(Stream.OBSERVED, 0))
        events = [*take_lead(state, holder, configured, enforcement), *vouched, cursor]
        at = clock()
        messages, _chain = sealed(
            state.chain,
            (
                (event, envelope(event, sequence, at))
                for sequence, event in enumerate(events, state.sequence + 1)
            ),
        )
        try:
            await append(bus, messages, state.sequence, patience.back_off)
        except FencedError as error:
            _log.info("allocator.claim_overtaken", sequence=state.sequence, reason=str(error))
        # What was written is read back like anybody's: only what stands in the ledger counts.
        await patience.through(lambda: catch_up(bus, state))
        if state.holder == holder:
            return
    raise FencedError("other allocators took the lead each time; run one")
