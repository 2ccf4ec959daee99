"""Taking away what a benchmark left on the machine, however it ended."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from tabard.netns import enter

BPF_FS = Path("/sys/fs/bpf")


def sweep(run: str, directory: Path) -> list[str]:
    """End processes, and remove namespaces, pins and the directory, of the run called `run`.

    Returns what there was beside the directory: a benchmark that ended well leaves nothing.
    """
    left = []
    for pid in _processes(run, directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        left.append(f"process {pid}")
    for namespace in enter.names(f"tb-{run}-"):
        enter.delete(namespace)
        left.append(f"namespace {namespace}")
    pins = BPF_FS / "tabard" / run
    if os.path.exists(pins):  # not so for whoever may not look, and so made none
        shutil.rmtree(pins)
        left.append(f"pins {pins}")
    shutil.rmtree(directory, ignore_errors=True)
    return left


def _processes(run: str, directory: Path) -> list[int]:
    """Those that were started for the run: its name in their environment, or its directory."""
    found = []
    mark, place = f"TABARD_CLUSTER={run}".encode(), f"{directory}/".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if mark in environment or place in command:
            found.append(int(entry.name))
    return found
