"""Keys and certificates of a cluster's bus: whose they are, and telling servers of changes."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tabard.auth.directory import RENEW_BEFORE, AuthError, Directory, begin, opened
from tabard.auth.roles import Holder, Role, holder
from tabard.bus.jetstream import JetStreamBus, Options
from tabard.cluster import checkup, pids
from tabard.cluster.bus import hosts
from tabard.cluster.checkup import Check
from tabard.cluster.errors import ClusterError
from tabard.cluster.profile import Profile
from tabard.cluster.sweep import notes

PEOPLE = (Role.ADMIN, Role.OPERATOR, Role.AUDITOR, Role.SYSTEM)
"""Roles that no process of a cluster has for good."""
RELOAD_S_MAX = 5.0
"""Longest wait until a server has read its files again."""
RELOAD_POLL_S = 0.02


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


@asynccontextmanager
async def connected(
    nats: Sequence[str], auth: Directory | None, role: Role
) -> AsyncIterator[JetStreamBus]:
    """The bus, in a role where it asks for one."""
    bus = await JetStreamBus.connect(nats, name=f"tabard-up-{role}", options=options(auth, role))
    try:
        yield bus
    finally:
        await bus.close()


def settings(auth: Directory | None, name: str) -> dict[str, str]:
    """What the process `name` is told of it, by TABARD_ variables: paths, no secrets."""
    if auth is None:
        return {}
    return {"NATS_NKEY": str(seed(auth, name)), "NATS_CA": str(auth.ca)}


def reload_servers(profile: Profile) -> list[str]:
    """Have each nats-server of a running cluster read its files again; the names of those that did.

    Connections stay, save those whose key counts no more. A server that is down reads them when it
    is started again. ClusterError for one that refuses what it read. Blocks; to be called where
    their monitoring is reached.
    """
    running = pids.recorded(notes(Path(profile.data)))
    names = hosts(len(profile.monitoring), profile.netns)
    at = {name: url for name, url in zip(names, profile.monitoring, strict=True) if name in running}
    before = {name: _loaded(url) for name, url in at.items()}
    for name in at:
        with suppress(ProcessLookupError):
            os.kill(running[name], signal.SIGHUP)
    end = time.monotonic() + RELOAD_S_MAX
    waiting = set(at)
    while waiting and time.monotonic() < end:
        time.sleep(RELOAD_POLL_S)
        waiting -= {name for name in waiting if _loaded(at[name]) != before[name]}
    if waiting:
        name = min(waiting)
        where = Path(profile.data) / "bus" / ("" if len(names) == 1 else name)
        raise ClusterError(
            f"{', '.join(sorted(waiting))} did not take the files within {RELOAD_S_MAX:g} s",
            f"grep -i reload {where / 'nats-server.log'}",
        )
    return list(at)


def _loaded(url: str) -> str:
    """When a server read its files last, as its monitoring says; empty if it says nothing."""
    try:
        with urllib.request.urlopen(f"{url}/varz", timeout=RELOAD_S_MAX) as answer:
            said: dict[str, str] = json.load(answer)
    except (OSError, ValueError):
        return ""
    return said.get("config_load_time", "")


def examined(auth: Directory, now: datetime) -> Check:
    """Whether keys can be used and certificates are good for a while."""
    faults = [
        fault for who, given in auth.book.keys.items() if (fault := auth.fault(who, given.key))
    ]
    if faults:
        return checkup.fault("guard", "; ".join(faults), f"tabard auth list --dir {auth.path}")
    try:
        ends = {name: auth.about(name).expires for name in auth.book.servers}
    except AuthError as error:
        return checkup.fault("guard", str(error), "tabard auth rotate tls")
    name, first = min(ends.items(), key=lambda end: end[1])
    fact = f"{len(auth.book.keys)} keys; the certificate of {name} expires on {first:%Y-%m-%d}"
    if first - now < RENEW_BEFORE:
        verdict = checkup.fault if first < now else checkup.warn
        return verdict("guard", fact, "tabard auth rotate tls, then the same with --finish")
    return checkup.ok("guard", fact)
