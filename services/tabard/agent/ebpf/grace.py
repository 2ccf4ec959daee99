"""RCU grace periods: waiting for one, and having them shorter for a while.

The programs run inside RCU read sections. After a grace period all that began before it have
ended, and nobody goes by what they found then: it is what lies between turning packets away from
entries and removing these, or giving their memory to others.

For each tcx link the kernel waits, with the lock on all network configuration held, until no CPU
can still be in the list of programs that was before (`tcx_entry_sync`, kernel/bpf/tcx.c): 8 to
16 ms, and machine-wide one link at a time, so that some 40 pods a second could start. Expedited
(kernel parameter rcupdate.rcu_expedited, `/sys/kernel/rcu_expedited`) it takes some 10 µs, for an
interrupt on each CPU that is not idle. So that is asked for as long as an attachment, or a wait,
takes.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from tabard.agent.ebpf import syscalls

log = structlog.get_logger(__name__)

RCU_EXPEDITED = Path("/sys/kernel/rcu_expedited")


def wait() -> None:
    """Until every program that runs now has ended."""
    syscalls.membarrier()


@contextmanager
def expedited(knob: Path = RCU_EXPEDITED) -> Iterator[bool]:
    """Have grace periods expedited inside the block; whether they are.

    Where the knob cannot be written (a container's /sys, too few rights) all is as before, slower.
    The agents of one machine take turns, so each puts back what it found. One that is killed here
    leaves them expedited, which is an interrupt more on each CPU and no less safe.
    """
    try:
        descriptor = os.open(knob, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = os.pread(descriptor, 16, 0)
        if int(before):
            yield True
            return
        is_set = _put(descriptor, b"1")
        try:
            yield is_set
        finally:
            if is_set and not _put(descriptor, before):
                log.warning("dataplane.grace_periods_left_expedited", path=str(knob))
    finally:
        os.close(descriptor)


def _put(descriptor: int, value: bytes) -> bool:
    try:
        os.pwrite(descriptor, value, 0)
    except OSError:
        return False
    return True
