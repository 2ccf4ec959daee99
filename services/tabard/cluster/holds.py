"""Holding down a process of a running cluster from another process.

While a hold is there and who made it lives, the supervisor does not start the process again when
it ends. A hold is a file, named as the process, that names its holder: it ends with that one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tabard.cluster import pids
from tabard.cluster.errors import ClusterError


def holds(data: Path) -> Path:
    """Where the holds of a cluster with its data in `data` are."""
    return data / "holds"


@contextmanager
def held(data: Path, process: str) -> Iterator[None]:
    """Inside the block `process` stays down once it has ended; ClusterError if another holds it."""
    hold = holds(data) / process
    if holder := pids.noted(hold):
        raise ClusterError(f"process {process} is held down by process {holder} already")
    hold.parent.mkdir(parents=True, exist_ok=True)
    pids.record(hold, os.getpid())
    try:
        yield
    finally:
        hold.unlink(missing_ok=True)
