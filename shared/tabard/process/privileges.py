"""Capabilities (capabilities(7)): which a process has, and which a child that root starts keeps."""

import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

NUMBERS = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""Those that some process here needs (linux/capability.h)."""

KERNEL = frozenset(("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"))
"""What enforcing in the kernel takes: maps and programs; links, devices and routes; what the
verifier lets a program do with pointers."""
NAMESPACES = frozenset(("CAP_SYS_ADMIN",))
"""What entering another network namespace takes."""

_NUMBERS_MAX = 64
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47  # linux/prctl.h
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def effective(pid: int | None = None) -> frozenset[str]:
    """The capabilities of a process (None: this one); those without a name here by their number."""
    status = Path(f"/proc/{'self' if pid is None else pid}/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    bits = int(found[1], 16) if found else 0
    names = {number: name for name, number in NUMBERS.items()}
    return frozenset(
        names.get(number, f"capability {number}")
        for number in range(_NUMBERS_MAX)
        if bits >> number & 1
    )


def lacking(wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that this process has not. CAP_SYS_ADMIN stands for what was split off."""
    have = effective()
    if "CAP_SYS_ADMIN" in have:
        have |= {"CAP_BPF", "CAP_PERFMON"}
    return sorted(set(wanted) - have)


def keeping(names: Iterable[str]) -> Callable[[], None]:
    """What a child of root's does between fork and exec, so that its program has `names` and no
    more, nor ever gets more by what it starts. For another user it does nothing."""
    if os.geteuid() != 0:
        return lambda: None
    kept = {NUMBERS[name] for name in names}
    dropped = [number for number in range(_NUMBERS_MAX) if number not in kept]
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # twice 32 bits of effective, permitted and inheritable

    def drop() -> None:
        for number in dropped:
            if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
                if ctypes.get_errno() == errno.EINVAL:
                    break  # the kernel has no more
                raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        if _libc.capget(header, sets) == 0:
            sets[2] = sets[5] = 0
            _libc.capset(header, sets)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    return drop


def for_files(*reads: Path) -> frozenset[str]:
    """What root needs to read files that are not its own, as of a checkout in a user's home."""
    for path in reads:
        where = path.resolve()
        chain = [(where, 4), *((parent, 1) for parent in where.parents)]
        if not all(_may(each, right) for each, right in chain):
            return frozenset(("CAP_DAC_READ_SEARCH",))
    return frozenset()


def _may(path: Path, right: int) -> bool:
    """Whether root has the right (4: read, 1: search) without any capability."""
    found = path.stat()
    if found.st_uid == 0:
        return bool(found.st_mode & right << 6)
    return bool(found.st_mode & (right << 3 if found.st_gid == 0 else right))
