"""What a process that keeps a large state does about memory."""

import ctypes
import gc
import sys

YOUNG_OBJECTS = 20_000
"""New containers (lists, dictionaries, objects) between two looks through the new ones. Python's
own 700 suit programs that make much garbage; a folded state is kept, and while a million endpoints
are read, a fifth of the time went into looking through them. Garbage in cycles, of which there is
little (errors with their tracebacks), may wait for that many."""

KEPT_BYTES_MAX = 1 << 16
"""Free bytes at the heap's end that are kept for what comes next."""

_M_TRIM_THRESHOLD = -1  # malloc.h


def collect_seldom() -> None:
    """To be called once, at a process's start."""
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def give_back_early() -> None:
    """To be called once, after a process's imports: let glibc give back what is free.

    By itself it keeps the more at the heap's end, the larger what was freed: after a ledger was
    read, 1.5 MiB. And what imports made and dropped it keeps between what they left.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
        gc.collect()
        libc.malloc_trim(0)


def leave_out_rich() -> None:
    """To be called before structlog is imported, which takes rich where it finds it, for tracebacks
    in colour: 6 MiB in a process for which nobody sits at a terminal."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # its import fails, as if it were absent
