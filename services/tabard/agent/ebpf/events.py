"""The kernel's ring buffer of verdict events, read in place (Documentation/bpf/ringbuf.rst)."""

import mmap
import struct
import time

from tabard.agent.ebpf import layout
from tabard.dataplane.port import Verdict

EVENTS_MAX = 4096
"""Events taken at a time; the descriptor stays readable while there are more."""

_POSITION = struct.Struct("=Q")
_HEADER = struct.Struct("=II")
_BUSY, _DISCARDED = 1 << 31, 1 << 30

assert mmap.PAGESIZE % (_HEADER.size + layout.EVENT.size) == 0, "a record goes round the ring's end"


class EventReader:
    """The one consumer. A full ring loses new events until this has read; verdicts go on."""

    def __init__(self, descriptor: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = size
        self._consumer = mmap.mmap(descriptor, page, mmap.MAP_SHARED)
        # The producer's position, then the data. The kernel shows the data a second time behind
        # it, for records that go on there, and counts that as memory of this process once more.
        self._ring = mmap.mmap(
            descriptor, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )

    def read(self) -> list[Verdict]:
        """Up to EVENTS_MAX events, oldest first."""
        found: list[Verdict] = []
        epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        # Aligned 8-byte copies are atomic; the kernel publishes a record before its position.
        (at,) = _POSITION.unpack_from(self._consumer, 0)
        (end,) = _POSITION.unpack_from(self._ring, 0)
        while at < end and len(found) < EVENTS_MAX:
            start = mmap.PAGESIZE + at % self._size
            length, _ = _HEADER.unpack_from(self._ring, start)
            if length & _BUSY:
                break  # being written on another CPU; what follows it waits too
            length &= ~_DISCARDED
            record = self._ring[start + _HEADER.size : start + _HEADER.size + length]
            if len(record) == layout.EVENT.size:
                found.append(layout.unpack_event(record, epoch_offset_ns))
            at += (_HEADER.size + length + 7) & ~7
        _POSITION.pack_into(self._consumer, 0, at)
        return found

    def close(self) -> None:
        self._consumer.close()
        self._ring.close()
