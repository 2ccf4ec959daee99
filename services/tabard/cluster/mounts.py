"""Small file systems in memory, below a run's data: a disk that can be filled without harm.

What others have mounted there, as a disk for the bus, is left alone.
"""

import ctypes
import os
import re
from pathlib import Path

from tabard.cluster.errors import ClusterError

PREFIX = "tabard-"
"""What the name of each begins with; seen at another place too, it goes by that name there."""

_MS_BIND, _MNT_DETACH = 4096, 2  # linux/mount.h, linux/fs.h
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)


def mount(name: str, at: Path, size: int) -> None:
    """Mount a file system of `size` bytes that is called PREFIX and `name` in /proc/mounts."""
    _mount(PREFIX + name, at, "tmpfs", 0, f"size={size},mode=0700")


def bind(directory: Path, at: Path) -> None:
    """Have `directory` seen at `at` too, and not what is there."""
    _mount(str(directory), at, "", _MS_BIND, "")


def _mount(what: str, at: Path, kind: str, flags: int, options: str) -> None:
    texts = (what.encode(), os.fsencode(at), kind.encode())
    if _libc.mount(*texts, ctypes.c_ulong(flags), options.encode()) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ClusterError(f"{what} cannot be mounted at {at}: {reason}", "id -u")


def unmount(at: Path) -> None:
    """Unmount what is mounted at `at`, at once; it is gone when nobody uses it any more."""
    if _libc.umount2(os.fsencode(at), _MNT_DETACH) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ClusterError(f"{at} cannot be unmounted: {reason}", f"umount {at}")


def below(data: Path) -> list[Path]:
    """Where such a file system is mounted below `data`, innermost first."""
    root = os.fsencode(data.resolve())
    points = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():  # proc(5)
        before, _, after = line.partition(b" - ")
        at = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), before.split()[4])
        if at.startswith(root + b"/") and after.split()[1].startswith(PREFIX.encode()):
            points.append(Path(os.fsdecode(at)))
    return points[::-1]


def unmount_all(data: Path) -> None:
    """Unmount all of these below `data`."""
    for point in below(data):
        unmount(point)
