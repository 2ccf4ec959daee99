"""What happens next, drawn from a seed among what is possible.

Progress is likelier than trouble, or histories would be shallow; trouble comes in bursts, in which
several faults meet, with calm between them. Seeds differ in how much is probed and how much goes
wrong: what one leaves out gives the rest of it more room.
"""

from random import Random

from tabard.simulator.choices import Act, Choice
from tabard.simulator.cluster import Cluster, possible
from tabard.simulator.work import NAME as SOURCE

CALM_STEPS, BURST_STEPS = 40, 25
"""How long a calm and a burst last, on average."""
FAULTS_MAX = 4
PROBES = (0.08, 0.12, 0.3)
TROUBLES = ((0.003, 0.03), (0.01, 0.12), (0.01, 0.12))
"""Shares of the steps, one of each for a seed; of trouble in calm and in bursts."""
CRASH_AFTER = 0.02
"""How likely who has just done something dies of it, before it goes on."""
DONE = (Act.GO, Act.STAGE, Act.LOSE)
TIMES_MS = ((20, 6), (100, 6), (500, 4), (1_200, 3), (3_000, 1))
LONG_MS = ((10_000, 4), (30_000, 1))

Weighted = list[tuple[float, Choice]]


class Scheduler:
    def __init__(self, cluster: Cluster, chance: Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._in_burst = False
        self._left = chance.randint(10, CALM_STEPS)
        self._probes = chance.choice(PROBES)
        self._troubles = chance.choice(TROUBLES)
        self._last: Choice | None = None
        self._half_written = ""
        """The node of which one stage was written in the step before."""

    def next(self) -> Choice:
        """A choice that is possible."""
        choice = self._last = self._next()
        self._half_written = choice.process if choice.act is Act.STAGE else ""
        return choice

    def _next(self) -> Choice:
        chance, last = self._chance, self._last
        if last is not None and last.act in DONE and chance.random() < CRASH_AFTER:
            process = self._cluster.processes.get(last.process)
            if process is not None and process.is_alive:
                return Choice(Act.CRASH, last.process)
        self._left -= 1
        if self._left <= 0:
            self._in_burst = not self._in_burst
            self._left = chance.randint(5, 2 * (BURST_STEPS if self._in_burst else CALM_STEPS))
        kind, probes, trouble = chance.random(), self._probes, self._troubles[self._in_burst]
        choice = None
        if self._half_written and chance.random() < 0.5:
            choice = self._probe()
        elif kind < 0.10:
            choice = self._work()
        elif kind < 0.10 + probes:
            choice = self._probe()
        elif kind < 0.10 + probes + trouble:
            choice = self._trouble()
        elif kind < 0.16 + probes + trouble:
            choice = self._mending()
        elif kind < 0.28 + probes + trouble:
            choice = self._time()
        return choice or self._progress() or self._time()

    def _pick(self, found: Weighted) -> Choice | None:
        if not found:
            return None
        weights = [weight for weight, _ in found]
        return self._chance.choices(found, weights)[0][1]

    def _progress(self) -> Choice | None:
        """Of a process that asks for something: one thing, a part of it, or all."""
        chance, cluster = self._chance, self._cluster
        ready = []
        for name, line in cluster.lines().items():
            for what in line.pending:
                operation = line.first(what)
                if operation is not None and (acts := possible(line, operation)):
                    ready.append((name, line, what, acts))
        if not ready:
            return None
        name, line, what, acts = chance.choice(ready)
        dice = chance.random()
        if Act.STAGE in acts and dice < 0.5:
            return Choice(Act.STAGE, name, what, chance.choice((1, 1, 1, 2, 4)))
        if self._in_burst and dice < 0.12:
            wrong = [act for act in (Act.FAIL, Act.LOSE, Act.LATE) if act in acts]
            if wrong:
                return Choice(chance.choice(wrong), name, what)
        if Act.SHORT in acts and dice < (0.35 if what == "tail LEDGER" else 0.15):
            return Choice(Act.SHORT, name, what, chance.choice((1, 2, 4, 8)))
        if Act.GO not in acts:
            return Choice(Act.FAIL, name, what) if dice < 0.3 and Act.FAIL in acts else None
        if dice > 0.55 and line.host.is_running:
            return Choice(Act.RUN, name)
        return Choice(Act.GO, name, what)

    def _work(self) -> Choice | None:
        words = self._cluster.work.draw(self._chance)
        return Choice(Act.WORK, "", words) if words else None

    def _probe(self) -> Choice | None:
        wire, chance = self._cluster.wire, self._chance
        if wire.under_way and chance.random() < 0.3:
            return Choice(Act.ARRIVE, "", chance.choice(list(wire.under_way)))
        words = wire.draw(chance, self._half_written)
        return Choice(Act.PROBE, "", words, int(chance.random() < 0.15)) if words else None

    def _time(self) -> Choice:
        chance = self._chance
        is_long = chance.random() < 0.03
        times = LONG_MS if is_long else TIMES_MS
        found = chance.choices(times, [weight for _, weight in times])[0][0]
        return Choice(Act.TIME, "", "", found)

    def _trouble(self) -> Choice | None:
        cluster, chance = self._cluster, self._chance
        many = len(cluster.world.faults) >= FAULTS_MAX
        found: Weighted = []
        for name, process in cluster.processes.items():
            if process.is_alive:
                found.append((3, Choice(Act.CRASH, name)))
            if process.is_alive and not process.is_paused:
                found.append((0.7, Choice(Act.STOP, name)))
            if process.is_alive and name in cluster.agents:
                found.append((0.3, Choice(Act.REBOOT, name)))
            if many:
                continue
            if process.is_alive and not process.is_paused:
                found.append((1.5, Choice(Act.PAUSE, name)))
            if not process.is_cut:
                found.append((1.5, Choice(Act.CUT, name)))
            if not process.is_slow:
                found.append((1, Choice(Act.SLOW, name)))
            if not process.disk.is_full:
                found.append((0.5, Choice(Act.FILL_DISK, name)))
            skew = chance.choice((-20_000, -2_000, 2_000, 20_000))
            found.append((0.3, Choice(Act.SKEW, name, "", skew)))
        for name in (*cluster.processes, SOURCE):
            if cluster.has_late(name):
                found.append((6, Choice(Act.LAND, name)))
        if not many:
            stream = chance.choice(("OBSERVED", "LEDGER"))
            if f"full {stream}" not in cluster.world.faults:
                found.append((0.7, Choice(Act.FULL, "", stream)))
        found.append((0.7, Choice(Act.FORGET)))
        if cluster.trimmable():
            found.append((2, Choice(Act.TRIM)))
        return self._pick(found)

    def _mending(self) -> Choice | None:
        """What ends a fault, and what comes late."""
        cluster, chance = self._cluster, self._chance
        found: Weighted = []
        for name, process in cluster.processes.items():
            if not process.is_alive:
                if process.disk.chunks:
                    kinds = (
                        ("cut", "flip", "older") if name in cluster.allocators else ("cut", "flip")
                    )
                    found.append((0.2, Choice(Act.DAMAGE, name, chance.choice(kinds))))
                found.append((4, Choice(Act.START, name)))
            if process.is_paused:
                found.append((2, Choice(Act.RESUME, name)))
            if process.is_cut:
                found.append((2, Choice(Act.MEND, name)))
            if process.is_slow:
                found.append((1, Choice(Act.QUICK, name)))
            if process.disk.is_full:
                found.append((1, Choice(Act.FREE_DISK, name)))
        for stream in sorted(cluster.store.full):
            found.append((2, Choice(Act.ROOMY, "", stream.value)))
        for name in (*cluster.processes, SOURCE):
            if cluster.has_late(name):
                found.append((2, Choice(Act.LAND, name)))
        return self._pick(found)
