"""Made-up runs for tests of what judges and tells them."""

from collections.abc import Mapping, Sequence
from random import Random

from tabard.chaos.judge.figures import Lag, Traffic
from tabard.chaos.record import Acknowledged, Injected, Packet, Phase, Record
from tabard.chaos.report.outcome import Outcome
from tabard.invariants.verdict import Invariant, Verdict, Violation

BEGAN = 1_795_000_000_000_000_000
"""Some day in 2026, Unix nanoseconds."""
SECOND = 1_000_000_000
FAULTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "bus-leader-killed": (("kill -9 of the bus's leader", "nats.2"),),
    "allocator-stopped": (("SIGSTOP of the leading allocator", "allocator.1"),),
    "node-cut-off": (("partition of a node", "agent.n1"), ("one way", "agent.n3")),
    "checkpoint-damaged": (("a flipped bit", "agent.n2"),),
}
UNITS: Mapping[Invariant, str] = {
    Invariant.NEVER_OPEN: "packets",
    Invariant.FOLD: "kernel dumps",
    Invariant.CONVERGENCE: "faults",
}


def at(seconds: float) -> int:
    return BEGAN + int(seconds * SECOND)


def record(seed: int = 7, each_s: float = 10.0, rounds: int = 1) -> Record:
    """A run of the scenarios of FAULTS, each held 3 s and converged 2 s after its heal; a packet
    every tenth of a second, every third of them denied, and two acknowledged events a second."""
    length = 5 + each_s * len(FAULTS) * rounds
    made = Record(seed, tuple(FAULTS), "overlay", BEGAN, at(length))
    made.versions, made.rate_per_s = {"kernel": "6.18"}, 6.0
    begun = 5.0
    for _ in range(rounds):
        for name, faults in FAULTS.items():
            made.phases.append(Phase(name, at(begun), at(begun + 6)))
            for fault, target in faults:
                made.injected.append(
                    Injected(name, fault, target, at(begun + 1), at(begun + 4), "", at(begun + 6))
                )
            begun += each_s
    for tenth in range(int(length * 10)):
        began = at(tenth / 10)
        made.packets.append(
            Packet("uid", "10.244.1.2", "10.244.2.2", 80, "TCP", began, began + 1, tenth % 3 != 0)
        )
    for half in range(int(length * 2)):
        made.acknowledged.append(Acknowledged(half + 1, "id", "hash", "pod.started", at(half / 2)))
    return made


def outcome(made: Record | None = None, **broken: Sequence[Violation]) -> Outcome:
    """`made` judged: all held but for those in `broken`, by the invariant's name with _ for -."""
    made = record() if made is None else made
    chance = Random(made.seed)
    seconds = range((made.ended - made.began) // SECOND)
    verdicts = []
    for invariant in Invariant:
        told = tuple(broken.get(invariant.replace("-", "_"), ()))
        unit = UNITS.get(invariant, "ledger events")
        verdicts.append(Verdict(invariant, 1234, unit, len(told), told))
    return Outcome(
        made,
        tuple(verdicts),
        {
            node: [Lag(at(s), chance.choice((0, 0, 0, 1, 40)), 0.0) for s in seconds]
            for node in ("n1", "n2", "n3")
        },
        [Traffic(at(s), chance.randrange(200, 260), chance.randrange(80, 120)) for s in seconds],
        dict.fromkeys(FAULTS, "What it does to the cluster, in one line."),
    )
