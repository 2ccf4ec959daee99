"""Processes by pid and start time, so that a reused pid is never taken for an old process."""

import os
from pathlib import Path

PID_MAX = 1 << 22
"""No kernel's pid is higher (PID_MAX_LIMIT, linux/threads.h)."""


def started(pid: int) -> int:
    """Start of process `pid` in clock ticks since boot; ProcessLookupError if it is not there.

    Field 22 of /proc/<pid>/stat (proc(5)); a zombie counts as gone.
    """
    if not 0 < pid <= PID_MAX:
        raise ProcessLookupError(f"no process {pid}")
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None
    # The command's name stands in parentheses and may hold any character, parentheses included.
    values = text.rpartition(")")[2].split()
    if values[0] in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return int(values[19])


def alive(pid: int, start: int) -> bool:
    """Whether the process `pid` that started at `start` still runs."""
    try:
        return started(pid) == start
    except ProcessLookupError:
        return False


def runs(pid: int) -> bool:
    """Whether there is a process `pid` now, whichever."""
    try:
        started(pid)
    except ProcessLookupError:
        return False
    return True


def record(path: Path, pid: int) -> None:
    """Note a process, so that a later sweep can end it; ProcessLookupError if it has ended."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(f"{pid} {started(pid)}\n")
    draft.replace(path)


def noted(path: Path) -> int:
    """The process that `record` noted there, if it still runs; else 0."""
    try:
        pid, start = (int(word) for word in path.read_text().split())
    except FileNotFoundError:
        return 0
    return pid if alive(pid, start) else 0


def recorded(directory: Path) -> dict[str, int]:
    """Name → pid of the noted processes that still run."""
    paths = sorted(directory.glob("[!.]*")) if directory.is_dir() else ()
    return {path.name: pid for path in paths if (pid := noted(path))}


def inside(namespace: Path) -> list[int]:
    """Processes whose network namespace is the one mounted at `namespace`."""
    try:
        wanted = namespace.stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino == wanted:
                    found.append(int(entry))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found
