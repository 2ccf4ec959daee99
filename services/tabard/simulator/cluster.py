"""A simulated cluster: all that there is of it, and what each choice does to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import assert_never

from tabard.bus.port import Stream
from tabard.identity.numbers import NumberSpace
from tabard.simulator.bus import Store
from tabard.simulator.choices import Act, Choice
from tabard.simulator.clocks import EPOCH_NS, true_time, virtual
from tabard.simulator.coverage import Coverage
from tabard.simulator.loop import VirtualLoop
from tabard.simulator.operations import Line, Operation
from tabard.simulator.packets import Wire
from tabard.simulator.processes import AgentProcess, AllocatorProcess, Process
from tabard.simulator.setup import NODES, RELABEL_TIMEOUT_MS, Setup
from tabard.simulator.work import NAME as SOURCE
from tabard.simulator.work import Work
from tabard.simulator.world import World

RUN_OPERATIONS_MAX = 24
BOOT_ROUNDS = 4
ANSWER_S_MAX = 4.0
"""Whoever waits for the bus for longer is told that there is no answer."""
SKEW_MS_MAX = 60_000
SILENT_NS = 15_000_000_000
"""Whoever said nothing for so long is not waited for by who trims."""


class Cluster:
    """Use it inside `alive`."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.loop = loop = VirtualLoop()
        self.world = world = World(
            setup.seed, setup.mode, setup.settings, setup.numbers, RELABEL_TIMEOUT_MS
        )
        world.now = EPOCH_NS
        self.store = store = Store(world, lambda: true_time(loop))
        self.allocators = {
            name: AllocatorProcess(name, loop, store, setup) for name in setup.allocators
        }
        self.agents = {
            name: AgentProcess(name, number, loop, store, setup)
            for number, name in enumerate(NODES, 1)
        }
        self.processes: dict[str, Process] = {**self.allocators, **self.agents}
        world.allocators = {name: each.seen for name, each in self.allocators.items()}
        world.nodes = {name: each.seen for name, each in self.agents.items()}
        self.work = Work(loop, store, world, self.agents)
        self.wire = Wire(loop, world, self.agents)
        self._coverage = Coverage(world)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Inside, the cluster's time and chance are the program's, and its loop runs."""
        with ExitStack() as stack:
            stack.enter_context(self.loop.running())
            stack.enter_context(virtual(self.loop, self.setup.seed))
            stack.enter_context(_few_numbers(self.setup.numbers))
            self._boot()
            try:
                yield
            finally:
                self.loop.abandon()

    def _boot(self) -> None:
        """All processes start, and the nodes join, before anything goes wrong."""
        for process in self.processes.values():
            process.start()
        self.loop.settle()
        for _ in range(BOOT_ROUNDS):
            for name in self.processes:
                while self.run(name):
                    pass
            self.pass_time(0.1)
            self.loop.settle()
        self._look()

    def lines(self) -> dict[str, Line]:
        """Of all that run, by process; the source's too."""
        found = {name: each.line for name, each in self.processes.items() if each.line is not None}
        return {**found, SOURCE: self.work.line}

    def line(self, process: str) -> Line | None:
        if process == SOURCE:
            return self.work.line
        found = self.processes.get(process)
        return None if found is None else found.line

    def do(self, choice: Choice) -> bool:
        """One step; False, and nothing has happened, if it is not possible now."""
        world = self.world
        world.step += 1
        world.packets.clear()
        if not self._do(choice):
            world.step -= 1
            return False
        world.counts[choice.act.value] += 1
        self.loop.settle()
        self.work.kubelets()
        self.loop.settle()
        self._look()
        return True

    def _look(self) -> None:
        """Bring the world up to date."""
        self.world.now = true_time(self.loop)
        for process in self.processes.values():
            process.show()
        self._coverage.look()

    def _do(self, choice: Choice) -> bool:
        match choice.act:
            case Act.GO | Act.FAIL | Act.LOSE | Act.LATE | Act.STAGE | Act.SHORT:
                return self._operate(choice)
            case Act.LAND:
                return self._land(choice.process)
            case Act.RUN:
                return self.run(choice.process)
            case Act.TIME:
                self.pass_time(choice.amount / 1000)
                return True
            case Act.WORK:
                return self.work.carry_out(choice.what)
            case Act.PROBE:
                return self.wire.send(choice.what, lingers=bool(choice.amount))
            case Act.ARRIVE:
                return self.wire.arrive(choice.what)
            case Act.FULL | Act.ROOMY | Act.FORGET | Act.TRIM:
                return self._change_bus(choice)
            case (
                Act.START
                | Act.CRASH
                | Act.STOP
                | Act.REBOOT
                | Act.PAUSE
                | Act.RESUME
                | Act.CUT
                | Act.MEND
                | Act.SLOW
                | Act.QUICK
                | Act.SKEW
                | Act.FILL_DISK
                | Act.FREE_DISK
                | Act.DAMAGE
            ):
                process = self.processes.get(choice.process)
                return process is not None and self._change(process, choice)
            case _:
                assert_never(choice.act)

    def _operate(self, choice: Choice) -> bool:
        line = self.line(choice.process)
        operation = None if line is None else line.first(choice.what)
        if line is None or operation is None:
            return False
        if not (act := possible(line, operation, choice.amount).get(choice.act)):
            return False
        act(operation)
        return True

    def _land(self, name: str) -> bool:
        for line in (*self._old_lines(name), self.line(name)):
            if line is not None and line.late:
                operation = line.land()
                self.world.counts[f"landed {operation.name}"] += 1
                return True
        return False

    def _old_lines(self, name: str) -> list[Line]:
        process = self.processes.get(name)
        return [] if process is None else process.late

    def has_late(self, name: str) -> bool:
        return any(
            line is not None and line.late for line in (*self._old_lines(name), self.line(name))
        )

    def run(self, name: str) -> bool:
        """Let what a process asks for happen, and what it asks for then; False if it asks for
        nothing."""
        done = 0
        while done < RUN_OPERATIONS_MAX and (line := self.line(name)) is not None:
            operation = next(_runnable(line), None)
            if operation is None or not line.host.is_running:
                break
            line.go(operation)
            self.loop.settle()
            done += 1
        return bool(done)

    def pass_time(self, seconds: float) -> None:
        self.loop.advance(seconds)
        for line in self.lines().values():
            line.expire(ANSWER_S_MAX)
        for process in self.processes.values():
            for line in process.late:
                line.expire(ANSWER_S_MAX)
            process.late = [line for line in process.late if line.late]

    def _change_bus(self, choice: Choice) -> bool:
        store, faults = self.store, self.world.faults
        if choice.act is Act.FORGET:
            store.forget_ids()
            return True
        if choice.act is Act.TRIM:
            if before := self.trimmable():
                self.work.trim(before)
            return bool(before)
        stream = Stream(choice.what)
        if (stream in store.full) == (choice.act is Act.FULL):
            return False
        (store.full.add if choice.act is Act.FULL else store.full.discard)(stream)
        (faults.add if choice.act is Act.FULL else faults.discard)(f"full {stream}")
        return True

    def _reboot(self, node: str) -> None:
        self.agents[node].reboot()
        self.work.rebooted(node)

    def trimmable(self) -> int:
        """The sequence of the newest snapshot that all who spoke lately have passed; 0: none."""
        world = self.world
        first = max(world.trimmed, 1)
        spoken = {
            word.name: word.sequence
            for word in world.words
            if not word.stopped and word.at > world.now - SILENT_NS
        }
        end = min(spoken.values(), default=0)
        there = [int(name) for name in self.store.objects if first < int(name) <= end]
        return max(there, default=0)

    def _change(self, process: Process, choice: Choice) -> bool:
        """Do to a process what can be done to it now."""
        alive, paused = process.is_alive, process.is_paused
        name, disk = process.name, process.disk
        acts: dict[Act, tuple[bool, Callable[[], object]]] = {
            Act.START: (not alive, process.start),
            Act.CRASH: (alive, process.kill),
            Act.STOP: (alive and not paused, process.stop),
            Act.REBOOT: (alive and name in self.agents, lambda: self._reboot(name)),
            Act.PAUSE: (alive and not paused, process.pause),
            Act.RESUME: (alive and paused, process.resume),
            Act.CUT: (not process.is_cut, lambda: process.cut(True)),
            Act.MEND: (process.is_cut, lambda: process.cut(False)),
            Act.SLOW: (not process.is_slow, lambda: process.slow(True)),
            Act.QUICK: (process.is_slow, lambda: process.slow(False)),
            Act.SKEW: (
                abs(process.skew_ns // 1_000_000 + choice.amount) <= SKEW_MS_MAX,
                lambda: process.skew(choice.amount * 1_000_000),
            ),
            Act.FILL_DISK: (not disk.is_full, lambda: setattr(disk, "is_full", True)),
            Act.FREE_DISK: (disk.is_full, lambda: setattr(disk, "is_full", False)),
            Act.DAMAGE: (
                not alive and (choice.what != "older" or name in self.allocators),
                lambda: disk.damage(choice.what),
            ),
        }
        can, act = acts[choice.act]
        if not can:
            return False
        act()
        for fault, stands in (
            ("down", not process.is_alive),
            ("paused", process.is_paused),
            ("cut", process.is_cut),
            ("slow", process.is_slow),
            ("disk full", disk.is_full),
        ):
            (self.world.faults.add if stands else self.world.faults.discard)(f"{fault} {name}")
        return True


def possible(
    line: Line, operation: Operation, amount: int = 1
) -> dict[Act, Callable[[Operation], None]]:
    """What may become of an operation now; of SHORT and STAGE `amount` messages or stages."""
    reaches = not (operation.needs_bus and line.is_cut)
    waits = operation.is_ready is not None
    found: dict[Act, Callable[[Operation], None]] = {}
    if reaches:
        found[Act.GO] = line.go
        if operation.short is not None:
            act = Act.SHORT if operation.needs_bus else Act.STAGE
            found[act] = lambda operation: line.shortly(operation, max(1, amount))
    if not waits:
        found[Act.FAIL] = lambda operation: line.fail(operation, "it failed")
        if reaches and operation.can_come_late:
            found[Act.LOSE] = line.lose
            found[Act.LATE] = line.defer
    return found


def _runnable(line: Line) -> Iterator[Operation]:
    for name in list(line.pending):
        operation = line.first(name)
        if operation is not None and not (operation.needs_bus and line.is_cut):
            yield operation


@contextmanager
def _few_numbers(count: int) -> Iterator[None]:
    """Inside, a cluster has so many identities to allocate."""
    before = NumberSpace.last
    NumberSpace.last = property(lambda space: space.first + count - 1)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        NumberSpace.last = before  # type: ignore[method-assign]
