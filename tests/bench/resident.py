"""Memory of the processes at 10,000 pods: agent, allocator, bus (resident and proportional)."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from bench import population
from bench.figures import Figure, Target, Yardstick
from bench.lab import Lab
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.bus.port import Bus, Stream
from tabard.cluster.publish import publish
from tabard.cluster.watermarks import enforced, taken
from tabard.events.observed import PolicySet
from tabard.ledger.state import State

PODS = 10_000
LABEL_SETS = 500
NODES = 100
RULES = 100
RUNS = 3
CHUNK = 1_000
WAIT_S = 300.0
NODE = "n1"
BARE = "import sys, uvloop, msgpack, nats, pydantic, structlog; print(flush=True); sys.stdin.read()"
"""A process that has imported what the agent has of others."""


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    found: dict[str, list[tuple[float, float]]] = {}
    for number in lab.runs(RUNS, 90):
        lab.tell(f"run {number + 1}")
        for name, memory in (await _measured(lab, f"bus{number}")).items():
            found.setdefault(name, []).append(memory)
    bare = Yardstick("Python with its packages", tuple(rss for rss, _ in found["bare"]))
    figures = []
    for name, means in (
        ("agent", "What Tabard takes from each node beside the kernel's maps."),
        ("allocator", "What the one that decides takes, in the whole cluster."),
        ("bus", "nats-server, which may use more while there is plenty."),
    ):
        rss, pss = zip(*found[name], strict=True)
        target = Target(60) if name == "agent" else None
        yardstick = None if name == "bus" else bare
        what = f"{name}, {PODS:,} pods{' in native mode' if name == 'agent' else ''}, "
        figures += [
            Figure(f"resident.{name}.rss", what + "RSS", "MiB", rss, target, yardstick, means),
            Figure(f"resident.{name}.pss", what + "PSS", "MiB", pss, None, None, means),
        ]
    return figures


async def _measured(lab: Lab, store: str) -> dict[str, tuple[float, float]]:
    """(RSS, PSS) of each process once all pods are started and enforced."""
    for name in ("allocator", NODE):  # of the run before: another ledger's checkpoints
        shutil.rmtree(lab.directory / name, ignore_errors=True)
    async with (
        lab.server(store) as server,
        lab.bus(server.url) as bus,
        lab.allocator(server.url, bus) as allocator,
        _agent(lab, server.url) as agent,
        _bare() as bare,
    ):
        await _start_pods(lab, bus)
        return {
            "agent": _mib(agent),
            "allocator": _mib(allocator.pid),
            "bus": _mib(server.pid),
            "bare": _mib(bare),
        }


async def _start_pods(lab: Lab, bus: Bus) -> None:
    """As many pods as are asked for, on all nodes, under policies; enforced when this returns."""
    await publish(bus, [population.joined(number) for number in range(2, NODES + 1)])
    await publish(bus, [PolicySet(document) for document in population.policies(RULES)])
    count = lab.scaled(PODS, 100)
    pods = [
        population.pod(n, n % LABEL_SETS, population.node(1 + n % NODES), started_at=n)
        for n in range(count)
    ]
    for start in range(0, count, CHUNK):
        await publish(bus, pods[start : start + CHUNK])
    state = State()
    async with asyncio.timeout(WAIT_S):
        await taken(bus, state, await bus.last_sequence(Stream.OBSERVED))
    assert len(state.endpoints) == count
    await enforced(bus, await bus.last_sequence(Stream.LEDGER), [NODE], WAIT_S)


@asynccontextmanager
async def _agent(lab: Lab, url: str) -> AsyncIterator[int]:
    """An agent's pid; in native mode, so that it must know every pod."""
    joined = population.joined(1)
    agent = lab.agent(
        url,
        NODE,
        MODE="native",
        UNDERLAY=joined.addresses[0],
        POD_CIDRS=joined.pod_cidrs[0],
        HOSTS_MAX="262144",
    )
    await agent.process.start()
    try:
        await agent.enforces(1)
        yield agent.pid
    finally:
        await agent.process.stop()
        if lab.real:
            Pins(BPF_ROOT, lab.name, NODE).drop_node()


@asynccontextmanager
async def _bare() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        BARE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        await process.wait()


def _mib(pid: int) -> tuple[float, float]:
    """(RSS, PSS) of a process (proc_pid_smaps_rollup)."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        found = {line.split()[0]: line.split()[1] for line in lines if line.endswith("kB\n")}
    return int(found["Rss:"]) / 1024, int(found["Pss:"]) / 1024
