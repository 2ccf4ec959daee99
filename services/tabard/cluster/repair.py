"""Repairing one server's replica of a stream.

nats-server does not mend a replica that lost messages; but a server that has no replica at all, and
no log of appends to it, copies the stream from its leader. So both folders are moved aside while it
is down. The way by JetStream's API was rejected: STREAM.PEER.REMOVE refuses where there is no other
server to go to, and fewer replicas for a while means that nats-server chooses which ones to drop.

What must hold meanwhile: the others are whole (by counts, by order and chain), they are a majority,
and one of them leads, for its replica is what is copied.
"""

import asyncio
import os
import re
import select
import shlex
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import UNBROKEN, Stream
from tabard.bus.replicas import Standing
from tabard.cluster import pids
from tabard.cluster.errors import ClusterError, NotReached
from tabard.cluster.holds import held
from tabard.cluster.sweep import notes
from tabard.ledger.replicas import Survey, examine, survey

POLL_S = 0.2
LEAD_S_MAX = 30.0
"""Longest wait for a whole replica to lead."""
STOP_S_MAX = 15.0
"""From SIGTERM to SIGKILL; a server with much to write takes a while, and loses nothing by it."""
_FOLDER = re.compile(r"[A-Za-z0-9$._-]+")
COPY_S_MAX = 600.0
"""Longest wait until the copy has come as far as the others were."""


class Hands(Protocol):
    def down(self, server: str) -> AbstractAsyncContextManager[None]:
        """Inside the block the server is down; after it, it is on its way up."""
        ...


class SupervisedHands:
    """For a cluster of `tabard up` with its data in `data`: server and process have one name."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def runs(self, server: str) -> bool:
        return server in pids.recorded(notes(self._data))

    def check(self, found: Survey, server: str) -> None:
        """ClusterError if what `server` stores is not of this cluster: monitoring asks for no keys,
        and whoever took a dead server's port could name any directory to be moved away."""
        place = found.server(server)
        store = "" if place is None else place.store
        if not Path(store).resolve().is_relative_to(self._data.resolve()):
            raise ClusterError(
                f"what is monitored as {server} says that it stores in {store!r}, which is not in "
                f"{self._data}: it is no server of this cluster",
                "tabard bus status",
            )

    @asynccontextmanager
    async def down(self, server: str) -> AsyncIterator[None]:
        pid = pids.recorded(notes(self._data)).get(server, 0)
        if not pid:
            raise ClusterError(f"no process {server} of this cluster runs", "tabard status")
        with held(self._data, server):
            await asyncio.to_thread(_end, server, pid)
            yield


def _end(server: str, pid: int) -> None:
    """End a process and its group. Blocks."""
    try:
        gone = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(pid, number)
            if select.select([gone], [], [], STOP_S_MAX)[0]:
                return
    finally:
        os.close(gone)
    raise ClusterError(f"process {server} ({pid}) does not end")


def damaged(found: Survey, server: str) -> tuple[Stream, ...]:
    """The streams whose replica at `server` is not as it must be."""
    return tuple(each.stream for each in found.standings if each.server == server and each.faults)


def check(found: Survey, server: str, streams: Sequence[Stream]) -> None:
    """ClusterError if `server`'s replicas of `streams` cannot be made anew from the others."""
    if found.server(server) is None:
        known = ", ".join(each.name for each in found.servers if each.name)
        raise ClusterError(f"no server {server!r} answers; there are {known}", "tabard bus status")
    for stream in streams:
        if not any(each.server == server for each in found.of(stream)):
            raise ClusterError(f"{server} holds no replica of {stream}", "tabard bus status")
        wanted = _wanted(found.of(stream))
        others = [each.server for each in found.of(stream) if each.good and each.server != server]
        if wanted < 2:
            raise ClusterError(
                f"{stream} has one replica, at {server}: there is none to copy it from",
                "restore the bus from a copy",
            )
        if len(others) <= wanted // 2:
            raise ClusterError(
                f"of {wanted} replicas of {stream} {len(others)} are whole beside that at {server} "
                f"({', '.join(others) or 'none'}): no majority would be left to copy it from",
                "tabard bus check",
            )
    for stream in Stream:
        wanted = _wanted(found.of(stream))
        up = [each for each in found.of(stream) if each.replica and each.server != server]
        if wanted > 1 and len(up) <= wanted // 2:
            raise ClusterError(
                f"without {server} only {len(up)} of {wanted} replicas of {stream} are up: the bus "
                "would stand still",
                "tabard bus status",
            )


def folders(found: Survey, server: str, stream: Stream) -> tuple[Path, str]:
    """The folder of `server`'s replica of `stream`, and a pattern for that of its appends' log."""
    place = found.server(server)
    assert place is not None, "checked"
    replica = next(each.replica for each in found.of(stream) if each.server == server)
    known = replica or next(each.replica for each in found.of(stream) if each.replica)
    assert known is not None, "a stream is known by a replica of it"
    store = Path(place.store)
    for name in (known.account, known.group):
        if name in (".", "..") or not _FOLDER.fullmatch(name):
            raise ClusterError(
                f"{place.url} says that {server} keeps {stream} in {name!r}, which is no folder",
                "tabard bus status",
            )
    return store / known.account / "streams" / stream, f"{store}/*/_js_/{known.group}"


def steps(found: Survey, server: str, streams: Sequence[Stream]) -> list[str]:
    """What to type on the machine of `server`, where this process cannot stop it."""
    lines = [
        f"# on the machine of {server}; stop its nats-server as it is run there, such as:",
        "systemctl stop tabard-nats",
    ]
    for stream in streams:
        stored, log = folders(found, server, stream)
        aside = shlex.quote(str(_aside(stored, stream, "before-repair")))
        lines += [
            f"mkdir -p {aside}",
            f"mv {shlex.quote(str(stored))} {aside}/stream",
            f"mv {_glob(log)} {aside}/log",
        ]
    return [*lines, "systemctl start tabard-nats", "# then hold all replicas against each other:"]


def _glob(pattern: str) -> str:
    before, star, after = pattern.partition("*")
    return f"{shlex.quote(before)}{star}{shlex.quote(after)}"


async def repair(
    bus: JetStreamBus,
    monitoring: Sequence[str],
    found: Survey,
    server: str,
    streams: Sequence[Stream],
    hands: Hands,
    told: Callable[[str], None],
) -> Survey:
    """Make `server`'s replicas of `streams` anew; what all replicas are then, read again.

    `found` is what `examine` said; `check` must have passed. ClusterError if it cannot be done;
    NotReached if the copy is not whole in time. What was there is moved aside, never removed.
    """
    for stream in streams:
        await _let_a_whole_one_lead(bus, monitoring, found, server, stream)
    ends = {stream: max(_lasts(found.of(stream)), default=0) for stream in streams}
    told(f"stopping {server}")
    async with hands.down(server):
        for stream in streams:
            await _led_by_a_whole_one(monitoring, found, server, stream)
        for stream in streams:
            aside = await asyncio.to_thread(_move, found, server, stream)
            told(f"{stream}: what {server} held is in {aside}")
    told(f"starting {server}; it copies {', '.join(streams)} from the leader")
    for stream, end in ends.items():
        await _copied(monitoring, server, stream, end)
    after = await examine(bus, monitoring, [each for each in UNBROKEN if each in streams], told)
    for each in after.standings:
        if each.server == server and each.stream in streams and each.faults:
            raise ClusterError(
                f"the new replica of {each.stream} at {server} is not whole: "
                f"{'; '.join(each.faults)}",
                "tabard bus check",
            )
    return after


def _move(found: Survey, server: str, stream: Stream) -> Path:
    """Move a replica and its log aside; where to. Blocks."""
    stored, log = folders(found, server, stream)
    aside = _aside(stored, stream, time.strftime("%Y%m%dT%H%M%S"))
    aside.mkdir(parents=True)
    if stored.exists():
        stored.rename(aside / "stream")
    for folder in Path("/").glob(log.lstrip("/")):
        folder.rename(aside / "log")
    return aside


def _aside(stored: Path, stream: Stream, when: str) -> Path:
    # Beside the store: what is in it nats-server takes for accounts and streams.
    return stored.parents[3] / "aside" / f"{stream}-{when}"


def _wanted(standings: Sequence[Standing]) -> int:
    return max((each.replica.wanted for each in standings if each.replica), default=0)


def _lasts(standings: Sequence[Standing]) -> list[int]:
    return [each.replica.last for each in standings if each.replica and each.good]


def _whole(found: Survey, server: str, stream: Stream) -> list[str]:
    return [each.server for each in found.of(stream) if each.good and each.server != server]


async def _let_a_whole_one_lead(
    bus: JetStreamBus, monitoring: Sequence[str], found: Survey, server: str, stream: Stream
) -> None:
    whole = _whole(found, server, stream)
    if found.leader(stream) not in whole:
        await bus.give_lead(stream, whole[0])
    await _led_by_a_whole_one(monitoring, found, server, stream)


async def _led_by_a_whole_one(
    monitoring: Sequence[str], found: Survey, server: str, stream: Stream
) -> None:
    whole = _whole(found, server, stream)
    try:
        async with asyncio.timeout(LEAD_S_MAX):
            while True:
                if (await survey(monitoring)).leader(stream) in whole:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        fact = f"none of {', '.join(whole)} leads {stream} after {LEAD_S_MAX:g} s"
        raise NotReached(f"{fact}: nothing was changed", "tabard bus status") from None


async def _copied(monitoring: Sequence[str], server: str, stream: Stream, end: int) -> None:
    last = 0
    try:
        async with asyncio.timeout(COPY_S_MAX):
            while True:
                for each in (await survey(monitoring)).of(stream):
                    if each.server == server and each.replica is not None:
                        last = each.replica.last
                        if last >= end and each.good:
                            return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise NotReached(
            f"{server} holds {stream} through {last} of {end} after {COPY_S_MAX:g} s; it may still "
            "be copying",
            "tabard bus status",
        ) from None
