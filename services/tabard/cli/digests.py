"""Do the nodes hold what the ledger says? Their digests against those of the ledger folded here."""

from collections import Counter

from tabard.bus.port import Bus, Stream
from tabard.cluster.watermarks import watermark
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.reader import Stopped
from tabard.ledger.state import State

POINTS_MAX = 8
"""Most sequences of nodes' digests that are compared: the ones that most nodes have, and of those
the newest. Each costs as much as reading the whole state."""


async def fold_comparing(
    bus: Bus, state: State, digests: dict[int, bytes], through: int | None = None
) -> None:
    """Fold the ledger into `state` through `through` (its present end if None).

    Puts sequence → digest into `digests`: where nodes have one of, and where it ends, Stopped as
    `catch_up` or not.
    """
    end = await bus.last_sequence(Stream.LEDGER) if through is None else through
    try:
        for point in (*await _points(bus, state.sequence, end), end):
            await catch_up(bus, state, point)
            digests[state.sequence] = digest(state)
    except Stopped:
        digests[state.sequence] = digest(state)
        raise


async def _points(bus: Bus, after: int, before: int) -> list[int]:
    """The sequences between these two that nodes have digests of, in order."""
    spoken: Counter[int] = Counter()
    next_word, last_word = 1, await bus.last_sequence(Stream.STATUS)
    while next_word <= last_word and (messages := await bus.read(Stream.STATUS, next_word)):
        next_word = messages[-1].sequence + 1
        words = filter(None, map(watermark, messages))
        spoken.update(word.status.digest_at for word in words)
    points = [point for point in spoken if after < point < before]
    points.sort(key=lambda point: (spoken[point], point), reverse=True)
    return sorted(points[:POINTS_MAX])
