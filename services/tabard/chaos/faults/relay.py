"""A relay between two TAP devices, as a process: it passes frames on later than they came.

    python -m tabard.chaos.faults.relay DESCRIPTOR DESCRIPTOR DELAY_MS JITTER_MS SHUFFLED SEED

The devices are opened by whoever starts it, so it needs no rights, and a device is gone with the
last process that has it open. Frames keep their order, however long each is held, but for a share
`SHUFFLED` of them, which are not held at all (as netem's `reorder`).
"""

import errno
import heapq
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

FRAME_BYTES_MAX = 1 << 16
FRAMES_MAX = 10_000
"""Most frames held in one direction; what comes then is dropped, as by any full queue."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """What one direction of a link does to frames; of the jitter each has a part, by chance."""

    delay_ms: float
    jitter_ms: float = 0.0
    shuffled: float = 0.0

    def __post_init__(self) -> None:
        if self.delay_ms < 0 or self.jitter_ms < 0 or not 0 <= self.shuffled <= 1:
            raise ValueError(f"{self} cannot be: a delay is not negative, a share is of 1")


class Queue:
    """Frames of one direction on their way. Times are in seconds of any clock."""

    def __init__(self, lateness: Lateness, chance: Random) -> None:
        self._lateness = lateness
        self._chance = chance
        self._held: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._last = 0.0
        """When the last of those that keep their order is due."""

    def put(self, frame: bytes, now: float) -> None:
        if len(self._held) >= FRAMES_MAX:
            return
        due = now
        if self._chance.random() >= self._lateness.shuffled:
            jitter_ms = self._chance.uniform(0, self._lateness.jitter_ms)
            due = self._last = max(self._last, now + (self._lateness.delay_ms + jitter_ms) / 1000)
        self._count += 1
        heapq.heappush(self._held, (due, self._count, frame))

    @property
    def due(self) -> float | None:
        """When the next frame goes on; None if there is none."""
        return self._held[0][0] if self._held else None

    def take(self, now: float) -> list[bytes]:
        """The frames that are due, in their order."""
        frames = []
        while self._held and self._held[0][0] <= now:
            frames.append(heapq.heappop(self._held)[2])
        return frames


def relay(ends: tuple[int, int], lateness: Lateness, seed: int, clock: Callable[[], float]) -> None:
    """Relay between two open devices, both ways, until they are deleted."""
    for end in ends:
        os.set_blocking(end, False)
    queues = {end: Queue(lateness, Random(f"{seed} {at}")) for at, end in enumerate(ends)}
    others = dict(zip(ends, reversed(ends), strict=True))
    try:
        while True:
            dues = [queue.due for queue in queues.values() if queue.due is not None]
            wait = max(0.0, min(dues) - clock()) if dues else None
            readable, _, _ = select.select(ends, (), (), wait)
            for end in readable:
                with suppress(BlockingIOError):
                    queues[end].put(os.read(end, FRAME_BYTES_MAX), clock())
            for end, queue in queues.items():
                for frame in queue.take(clock()):
                    with suppress(BlockingIOError):  # dropped, as by any full queue
                        os.write(others[end], frame)
    except OSError as error:
        if error.errno != errno.EBADFD:
            raise


def main() -> None:
    first, second, delay_ms, jitter_ms, shuffled, seed = sys.argv[1:]
    lateness = Lateness(float(delay_ms), float(jitter_ms), float(shuffled))
    relay((int(first), int(second)), lateness, int(seed), time.monotonic)


if __name__ == "__main__":
    main()
