"""Removing all that a run made on this machine: the end of `tabard up`, and `tabard down`."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tabard.cluster import mounts, network, pids, profile
from tabard.cluster.errors import ClusterError
from tabard.cluster.preflight import BPF_FS
from tabard.cluster.processes import end_all
from tabard.cluster.profile import Profile
from tabard.netns.enter import path
from tabard.process.places import locks, run_directory


def notes(data: Path) -> Path:
    """Where the supervisor notes its processes."""
    return data / "pids"


def sweep(run: Profile, directory: Path, stop_timeout_s: float) -> None:
    """End the run's processes, then remove mounts, namespaces, pins, temporary data and profile.
    Blocks.

    Every step is tried whatever became of the others; one ClusterError tells all that failed, and
    then the profile stays, so that `tabard down` can be tried again.
    """
    data = Path(run.data)
    failures: list[str] = []
    steps: list[tuple[str, Callable[[], None]]] = [
        ("processes", lambda: end_all(pids.recorded(notes(data)), stop_timeout_s)),
        ("pods", lambda: _end_pods(run.name)),
        ("namespaces", lambda: network.delete(network.names_of(run.name))),
        ("mounts", lambda: mounts.unmount_all(data)),
        ("locks", lambda: _remove_tree(locks(run_directory(), run.name))),
    ]
    if _may_have_pins(run):
        # Enforcement ends with the last pin, so the namespaces go first.
        steps.append(("pins", lambda: _remove_tree(BPF_FS / "tabard" / run.name)))
    if not run.keep_data:
        steps.append(("data", lambda: _remove_tree(data)))
    for what, step in steps:
        try:
            step()
        except Exception as error:  # the remaining steps must be tried; all are told below
            failures.append(f"{what}: {error}")
    if failures:
        raise ClusterError(
            f"cluster {run.name} was not removed wholly: {'; '.join(failures)}",
            f"tabard down --cluster {run.name}",
        )
    profile.remove(run.name, directory)


def _may_have_pins(run: Profile) -> bool:
    """Whether there may be pins: only root makes them, and nobody else may look where they are.

    The dataplane is "" if the profile is gone.
    """
    return run.dataplane == "ebpf" or (not run.dataplane and os.geteuid() == 0)


def _end_pods(run: str) -> None:
    """Kill what runs in the pods' namespaces: there is nothing in them but the pods."""
    for name in network.pods_among(run, network.names_of(run)):
        for pid in pids.inside(Path(path(name))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _remove_tree(tree: Path) -> None:
    if tree.exists():
        shutil.rmtree(tree)
