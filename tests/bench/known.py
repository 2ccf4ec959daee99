"""A known label set → identity, on the node's own cache: what a pod's start waits for at best."""

import time

from bench import population
from bench.figures import Figure, Target, Yardstick, quantile
from bench.lab import Lab
from bench.yardsticks import map_updates
from tabard.agent.resolution import resolve
from tabard.events import ledger
from tabard.ledger.fold import apply
from tabard.ledger.state import State
from world import World

IDENTITIES = 10_000
RESOLUTIONS = 20_000
RUNS = 5


def run(lab: Lab) -> list[Figure]:
    identities = lab.scaled(IDENTITIES, 10)
    state = _state(identities)
    resolutions = lab.scaled(RESOLUTIONS, 100)
    pods = [population.pod(n, n * 7919 % identities, "n1") for n in range(resolutions)]
    runs = [_resolutions(state, pods) for _ in range(RUNS)]
    yardsticks = [map_updates(resolutions) for _ in range(RUNS)] if lab.real else []

    def figure(share: float, target: Target | None) -> Figure:
        percentile = f"p{share * 100:.0f}"
        yardstick = tuple(quantile(took, share) for took in yardsticks)
        return Figure(
            f"known.{percentile}",
            f"identity of a known label set, {percentile}",
            "µs",
            tuple(quantile(took, share) for took in runs),
            target,
            Yardstick(f"raw map update, {percentile}", yardstick) if yardstick else None,
            means="How long a starting pod waits for its identity on a node that has seen its "
            "labels before: no bus, no other node.",
        )

    return [figure(0.5, None), figure(0.99, Target(50))]


def _state(identities: int) -> State:
    """A ledger that knows the identities of so many label sets."""
    world = World(nodes=1)
    state = world.state
    apply(state, ledger.SettingsAdopted("default", 0, 8, (), (), (), 0), 1, 0)
    for number in range(identities):
        labels = world.labels_of(population.namespace(number), dict(population.labels(number)))
        apply(state, ledger.IdentityAllocated(256 + number, labels), number + 2, 0)
    return state


def _resolutions(state: State, pods: list) -> list[float]:
    """Microseconds of each."""
    took = []
    for pod in pods:
        begun = time.perf_counter_ns()
        identity = resolve(state, pod)
        took.append((time.perf_counter_ns() - begun) / 1000)
        assert identity is not None
    return took
