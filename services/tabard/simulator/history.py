"""A history: a seed and the choices that were made by it, and what came of them.

`run` draws the choices from the seed; `replay` takes a list of them, of which those that are not
possible any more are passed over. Both end by healing everything and letting the cluster converge
(which draws nothing), then the checkers' `finish`. The same seed and choices give the same history,
byte for byte, in any process: `Outcome.digest` says so.
"""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

import structlog

from tabard.agent.errors import AlreadyRunning
from tabard.bus.port import Stream
from tabard.dataplane.port import MapSizes
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.checkers import Checker, every
from tabard.simulator.choices import Act, Choice
from tabard.simulator.cluster import Cluster
from tabard.simulator.loop import Livelock
from tabard.simulator.scheduler import Scheduler
from tabard.simulator.setup import setup
from tabard.simulator.telling import Teller
from tabard.simulator.work import NAME as SOURCE

CONVERGED_S_MAX = 60.0
"""How long a healed cluster may take to converge, by its own clock."""
HEAL_STEP_S = 0.25
HISTORIES_A_COLLECTION = 8
"""What histories leave behind is looked for after so many: they are full of cycles."""


@dataclass(frozen=True, slots=True)
class Found:
    """A violation, and the step after which it was seen: 1 for the first choice's; one more than
    there were choices if it was seen at the end, after healing."""

    step: int
    violation: Violation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a history."""

    seed: int
    choices: tuple[Choice, ...]
    """Those that were carried out, in order; up to and with the step of the first violation."""
    passed_over: int
    """Choices that were not possible: of a replay, or drawn by the scheduler in vain."""
    found: tuple[Found, ...]
    """Empty if all held. A history ends at the first step with a violation."""
    digest: str
    """Of all that happened: equal for an exact replay."""
    counts: dict[str, int]
    """What happened, by a name for it."""
    trace: tuple[str, ...] = ()
    """One line for the beginning and one for each step, if it was asked for."""


def run(
    seed: int,
    steps: int,
    *,
    checkers: Callable[[], list[Checker]] = every,
    traced: bool = False,
) -> Outcome:
    """The history of `seed`, `steps` long or until a violation."""
    cluster = Cluster(setup(seed))
    scheduler = Scheduler(cluster, Random(f"schedule {seed}"))
    return _History(cluster, checkers(), traced).live(iter(scheduler.next, None), steps)


def replay(
    seed: int,
    choices: Sequence[Choice],
    *,
    checkers: Callable[[], list[Checker]] = every,
    traced: bool = False,
) -> Outcome:
    """The history that `choices` make of the cluster that `seed` sets up."""
    return _History(Cluster(setup(seed)), checkers(), traced).live(iter(choices), len(choices))


class _History:
    _since_collection = 0

    def __init__(self, cluster: Cluster, checkers: list[Checker], traced: bool) -> None:
        self._cluster = cluster
        self._checkers = checkers
        self._digest = blake2b(digest_size=16)
        self._done: list[Choice] = []
        self._teller = Teller() if traced else None
        self._trace: list[str] = []
        self._stored = [0, 0, 0]

    def live(self, choices: Iterator[Choice], steps: int) -> Outcome:
        passed_over = 0
        with _undisturbed(), self._cluster.alive():
            found: list[Found] = []
            if self._teller is not None:
                self._trace.append(self._teller.begins(self._cluster.world))
            try:
                while len(self._done) < steps and not found:
                    if (choice := next(choices, None)) is None:
                        break
                    if not self._cluster.do(choice):
                        passed_over += 1
                        continue
                    self._done.append(choice)
                    self._note(str(choice))
                    if self._teller is not None:
                        self._trace.append(self._teller.line(choice, self._cluster.world))
                    found = self._checked()
                found = found or self._ended()
            except Livelock as error:
                what = Violation(Invariant.CONVERGENCE, str(error), self._cluster.world.now)
                found = [Found(len(self._done) + 1, what)]
            return Outcome(
                self._cluster.setup.seed,
                tuple(self._done),
                passed_over,
                tuple(found),
                self._digest.hexdigest(),
                dict(self._cluster.world.counts),
                tuple(self._trace),
            )

    def _note(self, line: str) -> None:
        """Take into the digest what this step left behind."""
        world = self._cluster.world
        parts = [line, str(world.now)]
        for index, stream in enumerate((world.ledger, world.observed)):
            for stored in stream[self._stored[index] :]:
                self._digest.update(stored.payload)
            self._stored[index] = len(stream)
        parts += [f"{w.name} {w.sequence} {w.role}" for w in world.words[self._stored[2] :]]
        self._stored[2] = len(world.words)
        for node in world.nodes.values():
            maps = node.maps
            parts.append(
                f"{node.name} {node.read} {node.enforced} {node.standing} {len(maps.policies)} "
                f"{len(maps.identities)} {len(maps.hosts)} {len(maps.endpoints)}"
            )
        for packet in world.packets:
            reasons = [None if one.reason is None else one.reason.name for one in packet.judged]
            parts.append(f"{packet.source} {packet.destination_address} {packet.passed} {reasons}")
        self._digest.update("|".join(parts).encode())

    def _checked(self) -> list[Found]:
        world = self._cluster.world
        found = [
            Found(len(self._done), violation)
            for checker in self._checkers
            for violation in checker.check(world)
        ]
        return found + [Found(len(self._done), one) for one in self._deaths()]

    def _deaths(self) -> Iterator[Violation]:
        """What failed for no reason that the world gave it."""
        for failure in self._cluster.loop.failures:
            what = f"a request failed: {type(failure).__name__}: {failure}"
            yield Violation(Invariant.CONVERGENCE, what, self._cluster.world.now)
        for name, process in self._cluster.processes.items():
            error = process.failure
            if error is None or isinstance(error, AlreadyRunning):
                continue
            yield Violation(
                Invariant.CONVERGENCE,
                f"{name} ended by itself: {type(error).__name__}: {error}",
                self._cluster.world.now,
            )

    def _ended(self) -> list[Found]:
        """Heal everything, let it converge, and ask the checkers for their last word."""
        cluster = self._cluster
        for choice in _healing(cluster):
            cluster.do(choice)
        until = cluster.loop.time() + CONVERGED_S_MAX
        while not (converged := self._has_converged()) and cluster.loop.time() < until:
            for name in (*cluster.processes, SOURCE):
                while cluster.run(name):
                    pass
            cluster.do(Choice(Act.TIME, "", "", int(HEAL_STEP_S * 1000)))
            for choice in _healing(cluster):
                cluster.do(choice)
            if found := self._checked():
                return found
        cluster.world.converged = converged
        self._note("end")
        step = len(self._done) + 1
        found = [
            Found(step, violation)
            for checker in self._checkers
            for violation in checker.finish(cluster.world)
        ]
        if not converged:
            what = f"healed, it did not converge within {CONVERGED_S_MAX:g} s: {self._lack()}"
            found.append(Found(step, Violation(Invariant.CONVERGENCE, what, cluster.world.now)))
        return found

    def _has_converged(self) -> bool:
        return not self._lack()

    def _lack(self) -> str:
        """Why the cluster has not converged."""
        cluster = self._cluster
        world, store = cluster.world, cluster.store
        end = store.logs[Stream.LEDGER].last
        if not any(each.role == "leading" for each in world.allocators.values()):
            return "nobody leads"
        if not cluster.work.is_idle:
            return "the workload waits"
        for node in world.nodes.values():
            if not node.settled or node.enforced != end or node.said != end:
                return (
                    f"{node.name} enforces {node.enforced} and said {node.said}, where the ledger "
                    f"ends at {end}; {dict(node.troubles)}"
                )
        for each in world.allocators.values():
            cursor = each.state.cursors.get("OBSERVED", 0)
            if each.state.sequence != end or cursor != store.logs[Stream.OBSERVED].last:
                return f"{each.name} is at {each.state.sequence} of {end}"
            if each.state.relabels:
                return f"pods {', '.join(each.state.relabels)} are to be relabelled still"
        return ""


def _healing(cluster: Cluster) -> list[Choice]:
    """What ends all faults, and what an operator does about full maps and too few numbers."""
    found = [Choice(Act.ROOMY, "", stream.value) for stream in sorted(cluster.store.full)]
    for name, process in cluster.processes.items():
        if not process.is_alive:
            found.append(Choice(Act.START, name))
        if process.is_paused:
            found.append(Choice(Act.RESUME, name))
        if process.is_cut:
            found.append(Choice(Act.MEND, name))
        if process.is_slow:
            found.append(Choice(Act.QUICK, name))
        if process.disk.is_full:
            found.append(Choice(Act.FREE_DISK, name))
        agent = cluster.agents.get(name)
        if agent is not None and "removed" in agent.seen.troubles:
            found += [Choice(Act.CRASH, name), Choice(Act.START, name)]
        if agent is not None:
            agent.kernel.sizes = MapSizes()
    found += [Choice(Act.ARRIVE, "", words) for words in cluster.wire.under_way]
    found += [Choice(Act.WORK, "", f"stop {uid}") for uid in cluster.work.refused()]
    return found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Inside, nothing is logged, and nobody looks for garbage."""
    logged = structlog.get_config()
    was_collecting = gc.isenabled()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**logged)
        _History._since_collection += 1
        if _History._since_collection >= HISTORIES_A_COLLECTION:
            _History._since_collection = 0
            gc.collect()
        if was_collecting:
            gc.enable()
