"""Finding the cluster that a command speaks to, and getting to its bus."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tabard.auth.keys import KeyFault, read_key
from tabard.bus.port import Bus, BusError
from tabard.cli.archived import ArchivedBus, paths_of
from tabard.cli.credentials import NONE, Credentials, given, of_environment
from tabard.cli.failing import fail, run
from tabard.cluster import network, profile
from tabard.cluster.errors import ClusterError, NoCluster
from tabard.cluster.profile import Profile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """A bus and, if the cluster runs on this machine, its profile."""

    nats: tuple[str, ...]
    profile: Profile | None = None
    credentials: Credentials = NONE

    def as_admin(self) -> "Target":
        """The same, for what streams themselves are asked for; with --nkey whoever that is."""
        if self.profile is None or not self.profile.nkey or given.get().nkey:
            return self
        seed = Path(self.profile.nkey).with_name("admin.seed")
        return replace(self, credentials=replace(self.credentials, nkey=seed))

    def inside(self) -> AbstractContextManager[object]:
        """Where the event loop must run to reach the bus."""
        if self.profile is None or not self.profile.netns or os.geteuid() != 0:
            return nullcontext()
        return network.visiting(self.profile.netns)


def target(cluster: str, nats: str, environment: Mapping[str, str] | None = None) -> Target:
    """The cluster that the options name, else TABARD_CLUSTER, TABARD_NATS, the only one running.

    So whoever works on a bus elsewhere is not taken to what is tried out on this machine. Its
    credentials are those of the options, else the cluster's own, or the environment's for a bus
    that is named by its URL.
    """
    environment = os.environ if environment is None else environment
    elsewhere = given.get().or_else(of_environment(environment))
    name = cluster or ("" if nats else environment.get("TABARD_CLUSTER", ""))
    if not name and (urls := _urls(nats or environment.get("TABARD_NATS", ""))):
        return Target(urls, credentials=elsewhere)
    directory = profile.run_directory(environment)
    try:
        found = profile.find(name, directory)
    except NoCluster as error:
        others = profile.running_clusters(directory)
        if others and name not in profile.names(directory) and not profile.roots_may_run():
            meant = f"the same command with --cluster {others[0].name}"
            raise NoCluster(str(error), meant) from error
        raise
    own = Credentials(*(Path(file) if file else None for file in (found.nkey, found.ca)))
    return Target(found.nats, found, given.get().or_else(own))


def _urls(text: str) -> tuple[str, ...]:
    return tuple(url.strip() for url in text.split(",") if url.strip())


@asynccontextmanager
async def connected(chosen: Target, timeout_s: float = 10.0) -> AsyncIterator[Bus]:
    """The bus; BusUnavailable if none of its servers answers in time, BusError without a key."""
    from tabard.bus.jetstream import JetStreamBus, Options

    if (paths := paths_of(chosen.nats)) is not None:
        yield ArchivedBus(paths)
        return
    nkey, ca = chosen.credentials.nkey, chosen.credentials.ca
    if nkey is not None:
        try:
            read_key(nkey)
        except KeyFault as error:  # the bus would try for as long as it may
            raise BusError(str(error)) from error
    options = Options(connect_timeout_s=timeout_s, nkey=nkey, ca=ca)
    bus = await JetStreamBus.connect(chosen.nats, name="tabard-cli", options=options)
    try:
        yield bus
    finally:
        await bus.close()


def with_bus(
    what: str,
    cluster: str,
    nats: str,
    work: Callable[[Bus, Target], Awaitable[T]],
    *,
    as_admin: bool = False,
) -> T:
    """Run `work` with the chosen cluster's bus; errors become a message and an exit code."""
    try:
        chosen = target(cluster, nats)
        if as_admin:
            chosen = chosen.as_admin()
    except ClusterError as error:
        fail(what, error)

    async def body() -> T:
        async with connected(chosen) as bus:
            return await work(bus, chosen)

    return run(what, body(), chosen.inside())
