"""The supervisor: a whole cluster as one asynchronous context.

Inside the block the bus answers, every agent enforces the ledger's head, and processes that end are
started again; after it nothing of the cluster is left, also when the start failed half-way. With
a bus of its own and real nodes, the calling thread is in the hub's namespace inside the block
(`network.visiting`), so one thread holds at most one such cluster.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import structlog

from tabard.auth.directory import Directory
from tabard.auth.roles import Role
from tabard.bus.port import Bus, Stream
from tabard.bus.server import LOOPBACK, EmbeddedServer
from tabard.cluster import guard, network, pids, preflight, profile
from tabard.cluster.bus import hosts, is_server, led, names, servers
from tabard.cluster.claiming import kept_name, own_data, take
from tabard.cluster.errors import ClusterError
from tabard.cluster.holds import holds
from tabard.cluster.processes import Child, Launched, Process, Restarts
from tabard.cluster.profile import Profile
from tabard.cluster.programs import (
    SOURCE,
    Place,
    agent,
    agent_name,
    allocator,
    allocator_names,
    source,
)
from tabard.cluster.readiness import Readiness
from tabard.cluster.settings import NodePlace, Settings, apart_hosts, places, pods_for
from tabard.cluster.sweep import notes, sweep
from tabard.cluster.tasks import minding, wholly
from tabard.cluster.watermarks import enforced
from tabard.netns.enter import path
from tabard.netns.names import hub_namespace, node_namespace, service_namespace
from tabard.process import privileges
from tabard.process.privileges import for_files

log = structlog.get_logger(__name__)

EXITS_AT_START_MAX = 3
"""A process that ended so often before the cluster was ready will not come up."""
SOCKET_BYTES_MAX = 107
"""Longest path of a unix socket (sun_path, unix(7))."""


class Cluster:
    """`async with Cluster(settings) as cluster:` — see the module.

    `tell` is called with one line for people at each step of the start and at each trouble.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        directory: Path | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings = settings
        self.nodes: tuple[NodePlace, ...] = places(settings.nodes)
        self.children: dict[str, Child] = {}
        self._directory = directory if directory is not None else profile.run_directory()
        self._tell = tell
        self._stack = AsyncExitStack()
        self._profile: Profile | None = None
        self._launched: dict[str, Launched] = {}
        self._servers: dict[str, EmbeddedServer] = {}
        """The bus's own, by process name."""
        self._bus: Bus | None = None
        self._listeners: dict[str, socket.socket] = {}
        self._auth: Directory | None = None
        self._apart: dict[str, str] = {}
        """Process → address, of those in namespaces of their own."""
        if settings.apart:
            alone = (*names(settings.bus_servers), *allocator_names(settings.allocators))
            self._apart = apart_hosts(alone)

    # What a running cluster is.

    @property
    def profile(self) -> Profile:
        assert self._profile is not None, "the cluster was not started"
        return self._profile

    @property
    def bus(self) -> Bus:
        assert self._bus is not None, "the cluster was not started"
        return self._bus

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def data(self) -> Path:
        return Path(self.profile.data)

    def socket(self, node: str) -> Path:
        """The gate of a node's agent."""
        return self.profile.socket(node)

    def pid(self, name: str) -> int:
        """Of the process `name` (`nats` or `nats.1`, …, `allocator`, `source`, `agent.n1`, …); 0
        while it is down."""
        return self._child(name).pid

    def exits(self, name: str) -> int:
        """How often the process ended without being asked to."""
        return self._child(name).exits

    def kill(
        self, name: str, number: signal.Signals = signal.SIGKILL, *, hold: bool = False
    ) -> None:
        """Signal a process. It is started again when it ends; with `hold`, only by `restart`."""
        self._child(name).kill(number, hold=hold)

    async def restart(self, name: str) -> None:
        """End a process if it runs, and start it again."""
        await self._child(name).restart()

    def configure(self, name: str, environment: Mapping[str, str]) -> None:
        """Have a service started in this environment, beside what all are given, from its next
        start on; {} takes it back. The bus's servers take none."""
        if name not in self._launched:
            known = ", ".join(self._launched)
            raise ClusterError(f"no process {name!r} takes an environment; there are {known}")
        self._launched[name].environment = dict(environment)

    async def out_of_step(self) -> list[str]:
        """The servers of its own bus that do not say that all their replicas are well and current:
        one that a server has given up over a write that failed is neither, whatever it counts."""
        answers = await asyncio.gather(*(server.in_step() for server in self._servers.values()))
        return [name for name, well in zip(self._servers, answers, strict=True) if not well]

    async def wait_enforced(self, sequence: int | None = None, timeout_s: float = 30.0) -> int:
        """Wait until every node enforces LEDGER through `sequence` (its head); the sequence."""
        if sequence is None:
            sequence = await self.bus.last_sequence(Stream.LEDGER)
        await enforced(self.bus, sequence, (node.name for node in self.nodes), timeout_s)
        return sequence

    def _child(self, name: str) -> Child:
        try:
            return self.children[name]
        except KeyError:
            known = ", ".join(self.children)
            raise ClusterError(f"no process {name!r}; there are {known}") from None

    # Start and end.

    async def __aenter__(self) -> "Cluster":
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._tell("removing the cluster")
        return await self._stack.__aexit__(kind, error, traceback)

    async def _start(self, stack: AsyncExitStack) -> None:
        dataplane, lack = await wholly(preflight.choose, self.settings)
        if lack:
            self._tell(
                f"NO PACKET IS ENFORCED BY A KERNEL: the memory dataplane is used, because {lack}"
            )
        pods = pods_for(dataplane, self.settings.pods)
        if self.settings.apart and dataplane != "ebpf":
            raise ClusterError(f"no namespace of its own for each service, because {lack}")
        if self.settings.auth is not None:
            self._auth = await wholly(guard.given, self.settings.auth.absolute())
        await self._claim(dataplane, pods, stack)
        real = dataplane == "ebpf"
        hub = hub_namespace(self.name)
        if real:
            await wholly(preflight.mount_bpf_fs)
            self._tell(f"network: {len(self.nodes)} nodes, {self.settings.mode}")
            plan = network.plan(
                self.name,
                self.nodes,
                self.settings.mode,
                1 if self._apart else self.settings.bus_servers,
                self._apart,
            )
            await wholly(network.lay, plan)
        own_bus = not self.settings.nats
        if own_bus and real:
            stack.enter_context(network.visiting(hub))
        tasks = await stack.enter_async_context(minding())
        stack.push_async_callback(self._stop_children)

        if own_bus:
            await self._start_bus(tasks, hub if real else "")
        async with guard.connected(self.profile.nats, self._auth, Role.ADMIN) as admin:
            await led(
                admin,
                self._servers.values(),
                self.settings.stream_replicas,
                self.settings.ready_timeout_s,
                self._check_exits,
            )
        self._bus = await stack.enter_async_context(
            guard.connected(self.profile.nats, self._auth, Role.OPERATOR)
        )
        self._tell(f"bus: {', '.join(self.profile.nats)}{self._whose_network()}")

        before = await self._bus.last_sequence(Stream.LEDGER)
        await self._start_programs(tasks)
        sockets = {node.name: self.socket(node.name) for node in self.nodes}
        readiness = Readiness(self._bus, sockets, self._check_exits, self._tell)
        await readiness.come(before, self.settings.ready_timeout_s)

    async def _claim(self, dataplane: str, pods: str, stack: AsyncExitStack) -> None:
        """Take the run's name and its data directory, sweeping what a dead run of it left."""
        settings = self.settings
        name = settings.name or await kept_name(settings) or secrets.token_hex(3)
        if settings.data is not None:
            data = own_data(settings.data)
        else:
            data = Path(tempfile.mkdtemp(prefix=f"tabard-{name}-"))
        claimed = Profile(
            name=name,
            pid=os.getpid(),
            started=pids.started(os.getpid()),
            nats=settings.nats,
            monitoring=settings.monitoring,
            netns="",
            data=str(data),
            keep_data=settings.data is not None,
            nodes=tuple(node.name for node in self.nodes),
            mode=settings.mode,
            dataplane=dataplane,
            pods=pods,
            http=self._listen(stack),
        )
        claimed = self._with_credentials(claimed)
        longest = len(os.fsencode(claimed.socket(self.nodes[-1].name)))
        try:
            if longest > SOCKET_BYTES_MAX:
                raise ClusterError(
                    f"data directory {data} makes socket paths of {longest} bytes, more than "
                    f"{SOCKET_BYTES_MAX}; choose a shorter one"
                )
            await wholly(take, claimed, self._directory, settings.stop_timeout_s)
        except BaseException:
            if not claimed.keep_data:
                data.rmdir()
            if profile.read(name, self._directory) == claimed:  # cancelled once it was taken
                profile.remove(name, self._directory)
            raise
        self._profile = claimed
        stack.push_async_callback(self._sweep)
        for place in (data / "logs", notes(data), *(data / "nodes" / n for n in claimed.nodes)):
            place.mkdir(parents=True, exist_ok=True)
        (data / "name").write_text(name + "\n")
        self._tell(f"cluster {name}: {dataplane} dataplane, data in {data}")

    def _whose_network(self) -> str:
        if not self.profile.netns:
            return ""
        return (
            f" inside the cluster's own network namespace, {self.profile.netns}; commands find it "
            f"by the cluster's name, {self.name}"
        )

    def _listen(self, stack: AsyncExitStack) -> dict[str, str]:
        """A listening socket for each service, and its URL.

        They are the host's, whatever namespace the service lives in, so that a scraper reaches
        them all; the kernel chooses ports, so that clusters do not collide; and as the supervisor
        holds them, a service that is started again is found where it was.
        """
        allocators = allocator_names(self.settings.allocators)
        agents = (agent_name(node.name) for node in self.nodes)
        for name in (*allocators, SOURCE, *agents):
            listener = socket.create_server(("127.0.0.1", 0))
            self._listeners[name] = stack.enter_context(listener)
        urls = {}
        for name, listener in self._listeners.items():
            host, port = listener.getsockname()
            urls[name] = f"http://{host}:{port}"
        return urls

    def _with_credentials(self, said: Profile) -> Profile:
        """The profile with how commands come to a guarded bus."""
        if self._auth is None:
            return said
        seed = guard.seed(self._auth, Role.OPERATOR)
        return replace(said, nkey=str(seed), ca=str(self._auth.ca))

    async def _sweep(self) -> None:
        await wholly(sweep, self.profile, self._directory, self.settings.stop_timeout_s)

    async def _start_bus(self, tasks: asyncio.TaskGroup, netns: str) -> None:
        count = self.settings.bus_servers
        guards = {}
        if self.settings.secure:
            at = {
                name: tuple(dict.fromkeys((host, LOOPBACK, "localhost")))
                for name, host in hosts(count, netns, self._apart).items()
            }
            self._auth = await wholly(guard.guarded, self.data, at, self._listeners)
            guards = {name: self._auth.guard(name) for name in at}
        self._servers = await wholly(
            servers, count, self.name, self.data, netns, guards, self._apart
        )
        async with asyncio.TaskGroup() as starting:
            for name, server in self._servers.items():
                starting.create_task(self._begin(tasks, name, server, server.log), name=name)
        self._profile = replace(
            self.profile,
            nats=tuple(server.url for server in self._servers.values()),
            netns=netns,
            monitoring=tuple(server.monitoring_url for server in self._servers.values()),
        )
        self._profile = self._with_credentials(self._profile)
        profile.write(self.profile, self._directory)

    def _read(self) -> Iterator[Path]:
        """What all processes read."""
        yield from (Path(sys.prefix), Path(privileges.__file__))
        if self._auth is not None:
            yield self._auth.path

    async def _start_programs(self, tasks: asyncio.TaskGroup) -> None:
        here = Place(
            self.profile,
            self.settings.log_level,
            dict(os.environ),
            self.settings.extra,
            {name: listener.fileno() for name, listener in self._listeners.items()},
            files=for_files(*self._read(), self.data),
            auth=self._auth,
        )
        in_hub = path(self.profile.netns) if self.profile.netns else ""
        programs = {}
        for name in allocator_names(self.settings.allocators):
            own = path(service_namespace(self.name, name)) if name in self._apart else in_hub
            programs[name] = allocator(here, own, name)
        programs[SOURCE] = source(here, in_hub)
        for node in self.nodes:
            namespace = ""
            if self.profile.dataplane == "ebpf":
                namespace = node_namespace(self.name, node.name)
            programs[agent_name(node.name)] = agent(here, node, namespace)
        async with asyncio.TaskGroup() as starting:
            for name, program in programs.items():
                file = self.data / "logs" / f"{name}.log"
                process = Launched(program, file, self.settings.stop_timeout_s)
                self._launched[name] = process
                starting.create_task(self._begin(tasks, name, process, file), name=name)

    async def _begin(
        self, tasks: asyncio.TaskGroup, name: str, process: Process, file: Path
    ) -> None:
        restarts = Restarts(self.settings.restart_delay_ms, self.settings.restart_delay_ms_max)
        hold = holds(self.data) / name
        child = Child(name, process, notes(self.data) / name, file, restarts, hold)
        self.children[name] = child
        await child.begin()
        tasks.create_task(child.run(), name=f"cluster.{name}")

    async def _stop_children(self) -> None:
        """The source first, while it can still remove its pods; the bus last."""
        await self._stop(lambda name: name == SOURCE)
        await self._stop(lambda name: name != SOURCE and not is_server(name))
        await self._stop(is_server)

    async def _stop(self, chosen: Callable[[str], bool]) -> None:
        async with asyncio.TaskGroup() as stopping:
            for name, child in self.children.items():
                if chosen(name):
                    stopping.create_task(child.stop(), name=f"stop.{name}")

    def _check_exits(self) -> None:
        for name, child in self.children.items():
            if child.exits >= EXITS_AT_START_MAX:
                raise ClusterError(
                    f"process {name} ended {child.exits} times instead of starting; the end of "
                    f"its log:\n{child.last_words()}"
                )
