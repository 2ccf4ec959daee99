"""Where an embedded nats-server gathers the atomic batches of LEDGER until they are committed.

With one replica it makes and removes a whole file store beside the stream for each batch: seven
new files and directories, three of them synced, which is two thirds of an append's time. The place
holds nothing that anyone relies on: a batch is acknowledged only when it stands in the stream,
synced there, and what a server finds here at its start it throws away (with more replicas it uses
memory itself). So the place is linked to a directory in memory. Should the link be missing, all
works as before, slower.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

MEMORY = Path("/dev/shm")
"""A file system in memory, on every Linux with glibc or musl (shm_open(3))."""
_PREFIX = "tabard-staging-"


def _link(data: Path) -> Path:
    # nats-server's own layout, as of 2.15; `G` is the account of clients without one.
    return data / "jetstream" / "$G" / "streams" / "LEDGER" / "batches"


def lay(data: Path) -> None:
    """Link the staging place of the server on `data` to memory, if LEDGER is there and no batch
    was staged yet."""
    link = _link(data)
    if not link.parent.is_dir() or os.path.lexists(link):
        return
    try:
        # Not by a name that another user could have taken before.
        made = tempfile.mkdtemp(prefix=_PREFIX, dir=MEMORY)
    except OSError as error:
        log.debug("bus.staged_on_disk", reason=str(error))
        return
    try:
        link.symlink_to(made, target_is_directory=True)
    except OSError as error:  # a batch came first
        log.debug("bus.staged_on_disk", reason=str(error))
        os.rmdir(made)


def clear(data: Path) -> None:
    """Take away what `lay` made; for a server that does not run. Can be called again."""
    link = _link(data)
    if not link.is_symlink():
        return
    target = link.readlink()
    link.unlink()
    if target.parent == MEMORY and target.name.startswith(_PREFIX):
        with contextlib.suppress(FileNotFoundError):  # the machine was started anew since then
            shutil.rmtree(target)
