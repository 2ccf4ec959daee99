"""A pod started → enforced on three real nodes: agents, kernel maps, namespaces, bus with fsync."""

import uvloop

from bench import nodes as real
from bench.figures import Figure, Target, Yardstick, quantile
from bench.lab import Lab
from bench.nodes import Took
from bench.yardsticks import raw

NEEDS_KERNEL = True
SLOW, FAST = 10, 200
"""Pods a second."""
PODS_SLOW, PODS_BURST, PODS_REMOTE = 60, 200, 600
RUNS = 3
PUBLISHES = 200

ALL = (
    "From a pod's start until every node's kernel enforces it: its own judges its traffic, and the "
    "others, which all run a peer, know its address."
)
MEANS = {
    "known": ALL,
    "new": ALL,
    "burst": "The same under a storm of starts, three nodes on one kernel and two cores.",
    "remote": "The same without interfaces: until three nodes know a pod that started elsewhere.",
}


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    trials: dict[str, list[list[Took]]] = {"known": [], "new": [], "burst": [], "remote": []}
    publishes = []
    slow, burst = lab.scaled(PODS_SLOW, 5), lab.scaled(PODS_BURST, 20)
    remote = lab.scaled(PODS_REMOTE, 20)
    async with (
        real.running(lab) as nodes,
        raw(nodes.bus_url) as stream,
    ):
        await nodes.start(slow, SLOW)  # warm
        for number in lab.runs(RUNS, 120):
            lab.tell(f"run {number + 1}")
            trials["known"].append(await nodes.start(slow, SLOW))
            trials["new"].append(await nodes.start(slow, SLOW, new=True))
            trials["burst"].append(await nodes.start(burst, FAST))
            trials["remote"].append(await nodes.start(remote, FAST, remote=True))
            publishes.append(await stream.one_at_a_time(b"x" * 300, lab.scaled(PUBLISHES, 10)))
    figures = []
    for trial, what, most in (
        ("known", f"known labels, {SLOW} a second", 50),
        ("new", f"new labels each, {SLOW} a second", 50),
        ("burst", f"known labels, {PODS_BURST} at {FAST} a second", 100),
        ("remote", f"known labels, on a fourth node, {FAST} a second", 100),
    ):
        for share in (0.5, 0.99):
            percentile = f"p{share * 100:.0f}"
            figures.append(
                Figure(
                    f"start.{trial}.{percentile}",
                    f"{what}, {percentile}",
                    "ms",
                    tuple(quantile([t.enforced for t in run], share) for run in trials[trial]),
                    Target(most) if share == 0.99 else None,
                    Yardstick(
                        f"raw publish, {percentile}",
                        tuple(quantile(took, share) for took in publishes),
                    ),
                    MEANS[trial],
                )
            )
    for field, what, means in (
        ("up", "its own node alone", "How long the pod itself waits, its interface guarded."),
        ("told", "until STATUS says so", "What `tabard apply --wait` waits for."),
    ):
        values = [[getattr(t, field) for t in run] for run in trials["known"]]
        p99 = tuple(quantile(run, 0.99) for run in values)
        figures.append(
            Figure(f"start.known.{field}", f"known labels, {what}, p99", "ms", p99, means=means)
        )
    return figures
