"""A node's start into kernel maps: 65,000 identities, 1,000,000 bindings, a real agent process."""

import shutil
import time
from collections.abc import Iterator
from itertools import islice

import uvloop

from bench import population
from bench.figures import Figure, Target, Yardstick
from bench.lab import AgentProcess, Lab, cpu_s
from bench.yardsticks import map_fill
from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.layout import shapes
from tabard.agent.ebpf.maps import KernelMap
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.bus.port import BATCH_MESSAGES_MAX, Bus, Stream
from tabard.dataplane.port import MapSizes
from tabard.events import ledger
from tabard.events.chain import GENESIS
from tabard.events.envelope import Envelope
from tabard.events.ledger import LedgerEvent
from tabard.identity.labels import LabelFilter, pod_labels
from tabard.ledger import archive
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import sealed
from tabard.ledger.state import State

NEEDS_KERNEL = True
IDENTITIES = 65_000
BINDINGS = 1_000_000
PODS_PER_NODE = 250
FIRST_IDENTITY = 256
TAIL = 1_000
"""Events behind the snapshot."""
RUNS = 3
BUDGET_S = 100.0
POLL_S = 0.02
NODE = "n0"


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    try:
        return await _measured(lab)
    finally:
        _forget_maps(lab)


async def _measured(lab: Lab) -> list[Figure]:
    identities, bindings = lab.scaled(IDENTITIES, 10), lab.scaled(BINDINGS, 100)
    took: dict[str, list[float]] = {"snapshot": [], "log": [], "checkpoint": [], "restart": []}
    worked: dict[str, list[float]] = {kind: [] for kind in took}
    reads, fills = [], []
    async with lab.server() as server, lab.bus(server.url) as bus:
        begun = time.perf_counter()
        end = await _write(bus, _events(identities, bindings))
        lab.tell(f"wrote {end:,} events in {time.perf_counter() - begun:.0f} s")
        frozen = archive.Frozen.of(await catch_up(bus, State(), end - lab.scaled(TAIL, 10)))
        settings = {"MODE": "native", "HOSTS_MAX": str(2 * bindings), "UNDERLAY": "192.168.255.1"}
        for number in lab.runs(RUNS, BUDGET_S):
            lab.tell(f"run {number + 1}")
            fills.append(map_fill(bindings + identities))
            reads.append(await _read(bus, end))
            for kind in took:
                if kind != "restart":
                    _forget_maps(lab)
                if kind in ("snapshot", "log"):
                    shutil.rmtree(lab.directory / NODE, ignore_errors=True)
                if kind == "snapshot":
                    entry = await archive.store(bus, frozen, "bench")
                else:
                    await bus.objects.delete(entry.info)
                agent = lab.agent(server.url, NODE, **settings)
                seconds, cpu_seconds = await _start(agent, end)
                took[kind].append(seconds)
                worked[kind].append(cpu_seconds)
                _check(lab, bindings)
    what = f"{IDENTITIES:,} identities, {BINDINGS:,} bindings"
    means = {
        "snapshot": f"The same with a snapshot on the bus that is {TAIL:,} events old.",
        "log": "How long a node that knows nothing needs until its kernel enforces.",
        "checkpoint": "The same after a reboot: the agent's checkpoint is there, the maps are not.",
        "restart": "The same for a restarted or upgraded agent, while its maps go on enforcing.",
    }
    fill = Yardstick("raw update of all entries", tuple(fills))
    read = Yardstick("raw read of the log", tuple(reads))
    figures = []
    for kind, text, target, yardstick in (
        ("snapshot", f"from a snapshot and the tail; {what}", Target(10), fill),
        ("log", f"from the log; {what}", Target(30), read),
        ("checkpoint", "from a checkpoint, maps empty", Target(2), fill),
        ("restart", "from a checkpoint, maps in place", None, fill),
    ):
        seconds, cpu_seconds = tuple(took[kind]), tuple(worked[kind])
        figures += [
            Figure(f"cold.{kind}", text, "s", seconds, target, yardstick, means[kind]),
            Figure(f"cold.{kind}.cpu", f"{text.partition(';')[0]}, CPU", "s", cpu_seconds),
        ]
    return figures


async def _start(agent: AgentProcess, end: int) -> tuple[float, float]:
    """Seconds from starting the process until it enforces all, and those of CPU; it is stopped."""
    begun = time.perf_counter()
    await agent.process.start()
    try:
        await agent.enforces(end, POLL_S)
        return time.perf_counter() - begun, cpu_s(agent.pid)
    finally:
        await agent.process.stop()


def _forget_maps(lab: Lab) -> None:
    Pins(BPF_ROOT, lab.name, NODE).drop_node()


def _check(lab: Lab, bindings: int) -> None:
    """The kernel holds every binding, whatever the agent said."""
    pins = Pins(BPF_ROOT, lab.name, NODE)
    (schema,) = pins.schemas()
    shape = next(shape for shape in shapes(MapSizes()) if shape.name == "hosts")
    with syscalls.closing(syscalls.get(str(pins.maps(schema) / "hosts"))) as descriptor:
        held = sum(1 for _ in KernelMap(shape, descriptor).items())
    assert held >= bindings, f"{held} of {bindings} bindings are in the kernel"


async def _write(bus: Bus, events: Iterator[LedgerEvent]) -> int:
    """Put the events on LEDGER as an allocator would; the last sequence."""
    envelope = Envelope(bytes(16), "", 1, "OBSERVED/1", bytes(16))
    last, chain = 0, GENESIS
    while batch := list(islice(events, BATCH_MESSAGES_MAX)):
        messages, chain = sealed(chain, [(event, envelope) for event in batch])
        last = await bus.append(messages, last)
    return last


async def _read(bus: Bus, end: int) -> float:
    """Seconds to read the whole log, and do nothing with it."""
    begun = time.perf_counter()
    at = 1
    while at <= end:
        at = (await bus.read(Stream.LEDGER, at))[-1].sequence + 1
    return time.perf_counter() - begun


def _events(identities: int, bindings: int) -> Iterator[LedgerEvent]:
    yield ledger.SettingsAdopted("default", 0, 8, (), (), (), 300_000)
    for number in range(-(-bindings // PODS_PER_NODE)):
        joined = population.joined(number)
        if number:
            yield ledger.NodeAdded(joined.name, joined.addresses, joined.pod_cidrs)
    label_filter = LabelFilter()
    for number in range(identities):
        labels = pod_labels(
            namespace=population.namespace(number),
            labels=dict(population.labels(number)),
            namespace_labels={},
            service_account="default",
            cluster="default",
            label_filter=label_filter,
        )
        yield ledger.IdentityAllocated(FIRST_IDENTITY + number, labels)
    for number in range(bindings):
        yield _bound(number, number % identities)
    yield ledger.CursorAdvanced(Stream.OBSERVED.value, bindings)


def _bound(number: int, label_set: int) -> ledger.EndpointBound:
    node, place = divmod(number, PODS_PER_NODE)
    return ledger.EndpointBound(
        uid=f"{number:08d}-0000-4000-8000-000000000000",
        namespace=population.namespace(label_set),
        name=f"app-{label_set}-{number}",
        node=population.node(node + 1),
        identity=FIRST_IDENTITY + label_set,
        addresses=(population.address((node + 1) << 8 | place + 1),),
        labels=population.labels(label_set),
        started_at=number,
        service_account="default",
        ports=(),
        owner="",
        host_network=False,
    )
