"""Small file systems in memory, below a run's data: a disk that can be filled without harm."""

import ctypes
import os
from pathlib import Path

from tabard.cluster.errors import ClusterError

_MS_BIND, _MNT_DETACH = 4096, 2  # linux/mount.h, linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)


def mount(name: str, at: Path, size: int) -> None:
    """Mount a file system of `size` bytes that is called `name` in /proc/mounts."""
    _mount(name, at, "tmpfs", 0, f"size={size},mode=0700")


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
    """Where something is mounted below `data`, innermost first."""
    root = data.resolve()
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]
    return [point for point in reversed(points) if root in point.parents]


def unmount_all(data: Path) -> None:
    """Unmount all that is mounted below `data`."""
    for point in below(data):
        unmount(point)
