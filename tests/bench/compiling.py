"""New identities, or another policy → what changes in a node's maps: compiled, not written."""

import gc
import itertools
import random
import statistics
import time
from collections.abc import Iterator, Mapping

from bench import population
from bench.figures import Figure, Target, Yardstick
from bench.lab import Lab
from bench.yardsticks import map_updates
from tabard.dataplane.maps import Maps, Mode
from tabard.dataplane.port import Change
from tabard.policy.compile import Attachment, Compiler
from tabard.policy.diff import diff
from world import World

NODE = "n1"
RULES = 10_000
IDENTITIES = 10_000
LOCAL = 1_000
LOCAL_IDENTITIES = 100
RUNS = 5
STEPS = 20
AT_ONCE = 1_000


class Step:
    """What the agent's tick does between folding and writing; the one place that knows how."""

    def __init__(self, attachments: Mapping[str, Attachment]) -> None:
        self._compiler = Compiler()
        self._attachments = attachments

    @property
    def maps(self) -> Maps:
        return self._compiler.maps

    def change(self, world: World) -> Change:
        self._compiler.note(world.untold)
        world.untold.clear()
        change = self._compiler.update(world.state, NODE, Mode.OVERLAY, self._attachments)
        return diff(Maps(), self.maps) if change is None else change


def run(lab: Lab) -> list[Figure]:
    world = _world(lab.scaled(RULES, 4), lab.scaled(IDENTITIES, 10), lab.scaled(LOCAL, 5))
    step = Step(world.attachments(NODE))
    step.change(world)
    gc.collect()
    gc.freeze()  # as an agent that has run for long; what a step makes is still collected
    cold = [_cold(world)]
    fresh = iter(range(1 << 20, 1 << 21))
    steps, at_once = lab.scaled(STEPS, 3), lab.scaled(AT_ONCE, 10)
    singles, writes = [], []
    for _ in range(RUNS):
        took = []
        for _ in range(steps):
            _start(world, fresh, 1)
            spent, change = _timed(step, world)
            took.append(spent)
            writes.append(sum(change.counts().values()))
        singles.append(statistics.median(took))
    storms = []
    for _ in range(RUNS):
        _start(world, fresh, at_once)
        storms.append(_timed(step, world)[0])
    edits = [_edited(world, step, run) for run in range(RUNS)]
    # What was remembered must not show in the result.
    assert step.maps == Compiler().compile(world.state, NODE, Mode.OVERLAY, world.attachments(NODE))
    each = sum(writes) / len(writes)
    yardstick = None
    if lab.real:
        updates = tuple(sum(map_updates(1000)) / 1000 * each / 1000 for _ in range(RUNS))
        yardstick = Yardstick(f"raw update of its {each:.3g} entries", updates)
    what = f"{RULES:,} rules, {IDENTITIES:,} identities, {LOCAL:,} local pods"
    return [
        Figure(
            "compiling.identity",
            f"one more identity; {what}",
            "ms CPU",
            tuple(singles),
            Target(1),
            yardstick,
            means="What a label set that is new to the cluster costs each node before it can "
            "write its maps.",
        ),
        Figure(
            "compiling.at_once",
            f"{AT_ONCE:,} more identities in one step",
            "ms CPU",
            tuple(storms),
            Target(200),
            means="The same when many come together, as at a large roll-out.",
        ),
        Figure(
            "compiling.policy",
            "one policy changed",
            "ms CPU",
            tuple(edits),
            means="What an edited policy costs a node that runs pods which it selects.",
        ),
        Figure(
            "compiling.all",
            "all of it, from nothing",
            "ms CPU",
            tuple(cold),
            means="What a node computes at its start.",
        ),
    ]


def _start(world: World, fresh: Iterator[int], count: int) -> None:
    """Pods elsewhere, each with labels that nobody had."""
    for number in itertools.islice(fresh, count):
        key = f"{population.namespace(number)}/new-{number}"
        world.pod(key, _labels(number), node="n2")


def _timed(step: Step, world: World) -> tuple[float, Change]:
    """Milliseconds of CPU time, and what changed."""
    begun = time.process_time_ns()
    change = step.change(world)
    took = (time.process_time_ns() - begun) / 1e6
    assert change, "what is new must reach the node"
    return took, change


def _edited(world: World, step: Step, run: int) -> float:
    """The median of some policies that get a rule more, each in a step of its own."""
    took = []
    documents = [accepted.document for accepted in world.state.policies.values()]
    for number in range(STEPS):
        document = documents[(run * STEPS + number) * 7 % len(documents)]
        spec = document["spec"]
        more = {"ports": [{"protocol": "TCP", "port": 9000 + run}]}
        world.policy({**document, "spec": {**spec, "ingress": [*spec["ingress"], more]}})
        begun = time.process_time_ns()
        step.change(world)
        took.append((time.process_time_ns() - begun) / 1e6)
    return statistics.median(took)


def _labels(number: int) -> dict[str, str]:
    return dict(population.labels(number))


def _world(rules: int, identities: int, local: int) -> World:
    world = World(nodes=2)
    for document in population.policies(rules):
        world.policy(document)
    chosen = random.Random(7).sample(range(identities), min(identities, LOCAL_IDENTITIES))
    for number in range(identities):
        key = f"{population.namespace(number)}/remote-{number}"
        world.pod(key, _labels(number), node="n2", ip=population.address(number))
    for number in range(local):
        label_set = chosen[number % len(chosen)]
        key = f"{population.namespace(label_set)}/local-{number}"
        address = population.address(number, base=11)
        world.pod(key, _labels(label_set), node=NODE, ip=address)
    return world


def _cold(world: World) -> float:
    step = Step(world.attachments(NODE))
    begun = time.process_time_ns()
    step.change(world)
    return (time.process_time_ns() - begun) / 1e6
