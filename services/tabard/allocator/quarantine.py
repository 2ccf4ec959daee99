"""Standing still before an event that cannot be read, until an operator says to go on."""

import structlog

from tabard.allocator.patience import Patience
from tabard.bus.port import Bus, Stream
from tabard.events.errors import EventError
from tabard.events.observed import QuarantineRequested
from tabard.ledger.messages import quarantine_subject, recorded

_log = structlog.get_logger()


async def operators_word(
    bus: Bus, patience: Patience, stream: Stream, sequence: int, why: str, poll_s: float
) -> str:
    """The reason that an operator gives for going on past `stream`/`sequence`; waits for it."""
    _log.error("allocator.stopped", stream=stream.value, sequence=sequence, reason=why)
    place = f"{stream.value}/{sequence}"
    patience.stands_before = f"{place} ({why.removeprefix(f'{place}: ')})"
    try:
        return await _word(bus, patience, stream, sequence, poll_s)
    finally:
        patience.stands_before = ""


async def _word(bus: Bus, patience: Patience, stream: Stream, sequence: int, poll_s: float) -> str:
    subject = quarantine_subject(Stream.OBSERVED, stream, sequence)
    while True:
        found = await patience.through(lambda: bus.last_on_subject(Stream.OBSERVED, subject))
        if found is not None:
            try:
                request = recorded(Stream.OBSERVED, found).event
            except EventError as error:
                _log.warning("allocator.request_unreadable", reason=str(error))
            else:
                wanted = (stream.value, sequence)
                if (
                    isinstance(request, QuarantineRequested)
                    and (request.stream, request.sequence) == wanted
                ):
                    _log.warning(
                        "allocator.quarantined",
                        stream=stream.value,
                        sequence=sequence,
                        reason=request.reason,
                    )
                    return request.reason
        await patience.pause(poll_s)
