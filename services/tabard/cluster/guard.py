"""Keys and certificates of a cluster's bus: whose they are, and telling servers of changes."""

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tabard.auth.directory import AuthError, Directory, begin, opened
from tabard.auth.roles import Holder, Role, holder
from tabard.bus.jetstream import Options
from tabard.cluster import pids
from tabard.cluster.bus import is_server
from tabard.cluster.errors import ClusterError
from tabard.cluster.profile import Profile
from tabard.cluster.sweep import notes

PEOPLE = (Role.ADMIN, Role.OPERATOR, Role.AUDITOR, Role.SYSTEM)
"""Roles that no process of a cluster has for good."""


def place(data: Path) -> Path:
    """Where the auth directory of a cluster with this data is, if its own bus is guarded."""
    return data / "auth"


def guarded(
    data: Path, servers: Mapping[str, tuple[str, ...]], processes: Iterable[str]
) -> Directory:
    """The cluster's auth directory, made or brought to these servers and processes. Blocks."""
    path, now = place(data), datetime.now(UTC)
    holders = [*map(Holder, PEOPLE), *map(holder, processes)]
    try:
        if path.exists():
            return opened(path).brought_to(servers, holders, now)
        return begin(path, servers, holders, now)
    except AuthError as error:
        raise ClusterError(str(error), error.next) from error


def given(path: Path) -> Directory:
    """The auth directory of another's bus. Blocks."""
    try:
        return opened(path)
    except AuthError as error:
        raise ClusterError(str(error), error.next) from error


def seed(auth: Directory, name: str) -> Path:
    """The seed file of `name`, a process or role: its own, or else its role's."""
    who = holder(name)
    for each in (who, *([Holder(who.role)] if who.role is not Role.AGENT else [])):
        if each in auth.book.keys:
            return auth.seed(each)
    raise ClusterError(
        f"{auth.path} has no key for {name}",
        f"tabard auth add {who.role} {who.name}".rstrip() + f" --dir {auth.path}",
    )


def options(auth: Directory | None, name: str) -> Options:
    """How `name` connects; without an auth directory as anybody."""
    return Options() if auth is None else Options(nkey=seed(auth, name), ca=auth.ca)


def settings(auth: Directory | None, name: str) -> dict[str, str]:
    """What the process `name` is told of it, by TABARD_ variables: paths, no secrets."""
    if auth is None:
        return {}
    return {"NATS_NKEY": str(seed(auth, name)), "NATS_CA": str(auth.ca)}


def reload_servers(profile: Profile) -> list[str]:
    """Have each nats-server of a running cluster read its files again; their process names.

    Connections stay, save those whose key counts no more.
    """
    running = pids.recorded(notes(Path(profile.data)))
    told = list(filter(is_server, running))
    for name in told:
        with suppress(ProcessLookupError):  # it reads them when it is started again
            os.kill(running[name], signal.SIGHUP)
    return told
