"""The auth directory of a cluster's own bus, and telling its servers that it has changed."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tabard.auth.directory import AuthError, Directory, begin, opened
from tabard.auth.roles import Holder
from tabard.cluster import pids
from tabard.cluster.errors import ClusterError
from tabard.cluster.profile import Profile
from tabard.cluster.sweep import notes

AUTH = "auth"
"""Its name in a cluster's data directory."""


def place(data: Path) -> Path:
    """Where the auth directory of the cluster with this data is, if its bus is guarded."""
    return data / AUTH


def guarded(
    data: Path, servers: Mapping[str, tuple[str, ...]], holders: tuple[Holder, ...]
) -> Directory:
    """The cluster's auth directory, made or brought to these servers and holders. Blocks."""
    path, now = place(data), datetime.now(UTC)
    try:
        if path.exists():
            return opened(path).brought_to(servers, holders, now)
        return begin(path, servers, holders, now)
    except AuthError as error:
        raise ClusterError(str(error), error.next) from error


def reload_servers(profile: Profile) -> list[str]:
    """Have each nats-server of a running cluster read its files again; their process names.

    Connections stay, save those whose key counts no more.
    """
    running = pids.recorded(notes(Path(profile.data)))
    told = [name for name in running if name.partition(".")[0] == "nats"]
    for name in told:
        with suppress(ProcessLookupError):  # it reads them when it is started again
            os.kill(running[name], signal.SIGHUP)
    return told
