"""Finding the cluster that a command speaks to, and getting to its bus."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from tabard.bus.port import Bus
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

    def inside(self) -> AbstractContextManager[object]:
        """Where the event loop must run to reach the bus."""
        if self.profile is None or not self.profile.netns or os.geteuid() != 0:
            return nullcontext()
        return network.visiting(self.profile.netns)


def target(cluster: str, nats: str, environment: Mapping[str, str] | None = None) -> Target:
    """The cluster that the options name, else TABARD_CLUSTER, the only one running, TABARD_NATS."""
    environment = os.environ if environment is None else environment
    if nats and not cluster:
        return Target(_urls(nats))
    name = cluster or environment.get("TABARD_CLUSTER", "")
    directory = profile.run_directory(environment)
    try:
        found = profile.find(name, directory)
    except NoCluster as error:
        fallback = environment.get("TABARD_NATS", "")
        if fallback and not name:
            return Target(_urls(fallback))
        others = profile.running_clusters(directory)
        if others and name not in profile.names(directory) and not profile.roots_may_run():
            meant = f"the same command with --cluster {others[0].name}"
            raise NoCluster(str(error), meant) from error
        raise
    return Target(found.nats, found)


def _urls(text: str) -> tuple[str, ...]:
    return tuple(url.strip() for url in text.split(",") if url.strip())


@asynccontextmanager
async def connected(urls: tuple[str, ...], timeout_s: float = 10.0) -> AsyncIterator[Bus]:
    """A bus at one of `urls`; BusUnavailable if none answers in time."""
    from tabard.bus.jetstream import JetStreamBus, Options

    options = Options(connect_timeout_s=timeout_s)
    bus = await JetStreamBus.connect(list(urls), name="tabard-cli", options=options)
    try:
        yield bus
    finally:
        await bus.close()


def with_bus(what: str, cluster: str, nats: str, work: Callable[[Bus, Target], Awaitable[T]]) -> T:
    """Run `work` with the chosen cluster's bus; errors become a message and an exit code."""
    try:
        chosen = target(cluster, nats)
    except ClusterError as error:
        fail(what, error)

    async def body() -> T:
        async with connected(chosen.nats) as bus:
            return await work(bus, chosen)

    return run(what, body(), chosen.inside())
