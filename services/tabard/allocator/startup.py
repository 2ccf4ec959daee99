"""From nothing to the lead: the checkpoint, and the claim."""

from collections.abc import Callable, Iterable

import structlog

from tabard.allocator.envelopes import envelope
from tabard.allocator.leadership import take_lead
from tabard.allocator.patience import Patience
from tabard.allocator.writer import FencedError, LostError, append
from tabard.bus.port import Bus, Stream
from tabard.events.ledger import CursorAdvanced, Enforcement, LedgerEvent, SettingsAdopted
from tabard.ledger.checkpoint import Checkpoint, check
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import sealed
from tabard.ledger.reader import Stopped
from tabard.ledger.start import begin
from tabard.ledger.state import State

_log = structlog.get_logger()


async def loaded(bus: Bus, checkpoint: Checkpoint, patience: Patience) -> State:
    """The state in the checkpoint if that is of this ledger, else the newest snapshot's, else the
    one before all events.

    LostError if the ledger ends before the checkpoint: a new ledger would be empty. TrimmedAway if
    it has not its beginning any more, and nothing leads on from where it begins.
    """
    saved = await checkpoint.load()
    if saved is not None:
        found = saved
        if not (reason := await patience.through(lambda: check(bus, found))):
            return saved
        last = await patience.through(lambda: bus.last_sequence(Stream.LEDGER))
        if 0 < last < found.sequence:
            raise LostError(
                f"LEDGER ends at {last}, but {checkpoint.path} was folded through "
                f"{found.sequence}: events are lost, or the bus was replaced; restore it, or "
                "remove that file to go on with what the bus holds now"
            )
        _log.warning("checkpoint.discarded", path=str(checkpoint.path), reason=reason)
    state = State()
    await patience.through(lambda: begin(bus, state))
    return state


async def claim(
    bus: Bus,
    state: State,
    configured: SettingsAdopted,
    enforcement: Enforcement | None,
    holder: str,
    vouched: Iterable[LedgerEvent],
    patience: Patience,
    clock: Callable[[], int],
) -> bool:
    """Take the lead from whoever has it, unless another was faster; whether `holder` has it.

    `state`, at the ledger's end as it was seen last, is folded on past the claim. `vouched` are
    quarantines of ledger events that the ledger must still record. Raises SettingsMismatch or
    LostError before anything is written.
    """
    cursor = state.cursors.get(Stream.OBSERVED, 0)
    last = await patience.through(lambda: bus.last_sequence(Stream.OBSERVED))
    if last < cursor:
        raise LostError(
            f"OBSERVED ends at {last}, but the ledger has taken it through {cursor}: the stream "
            "was replaced; restore it, or begin a new ledger too"
        )
    events = [
        *take_lead(state, holder, configured, enforcement),
        *vouched,
        CursorAdvanced(Stream.OBSERVED.value, cursor),
    ]
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
    try:
        # What was written is read back like anybody's: only what stands in the ledger counts.
        await patience.through(lambda: catch_up(bus, state))
    except Stopped:
        return False  # whoever follows on stands before it, and says so
    return state.holder == holder
