"""Where in the ledger a point of its history is."""

from tabard.bus.port import Bus, Stream
from tabard.cli.failing import Failure
from tabard.cli.moments import At


async def sequence_at(bus: Bus, at: At | None) -> int:
    """The last LEDGER sequence stored by then: 0 before the first, the head for None.

    Failure if the ledger has no such sequence yet.
    """
    head = await bus.last_sequence(Stream.LEDGER)
    if at is None:
        return head
    if at.sequence is not None:
        if at.sequence > head:
            raise Failure(f"LEDGER ends at {head}, before {at.sequence}", "tabard status")
        return at.sequence
    assert at.time is not None
    # The server stamps in order, so the last event that is not later is found by halving.
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        stored = await bus.read(Stream.LEDGER, middle, 1)
        if stored and stored[0].stored_at <= at.time:
            low = middle
        else:
            high = middle - 1
    return low
