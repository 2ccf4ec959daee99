"""The openb trace replayed: 8,152 real pods' starts and stops, and every invariant at the end."""

from bisect import bisect_left
from collections.abc import Sequence

import uvloop

from bench import openb, replay
from bench.figures import Figure, Yardstick, quantile
from bench.lab import Lab
from bench.replay import message
from bench.yardsticks import raw

RUNS = 3
REPLAY_S = 90.0
"""How long the trace's busy days take when the time of each event counts."""
BUSY_S = 0.1


def why_not() -> str:
    return "" if openb.FILE.exists() else f"the trace is not at {openb.FILE}"


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    rows = openb.rows()
    trace = list(openb.seconds(rows[: lab.scaled(len(rows), 50)], replay.NODES))
    messages = [message(event) for second in trace for event in second.events]
    rates, yardsticks = [], []
    for number in lab.runs(RUNS, 90):
        lab.tell(f"at full speed, run {number + 1}")
        async with replay.running(lab) as world:
            rates.append(await world.at_full_speed(trace))
            lab.tell(await world.checked())
            async with raw(world.url) as stream:
                payloads = [each.payload for each in messages]
                yardsticks.append(await stream.pipelined(payloads, 256))
    lab.tell(f"in time, {REPLAY_S * lab.scale:g} s")
    async with replay.running(lab) as world:
        took = await world.in_time(trace, REPLAY_S * lab.scale)
        lab.tell(await world.checked())
    figures = [
        Figure(
            "trace.speed",
            f"{len(messages):,} events at full speed, until enforced by {replay.NODES} agents",
            "events/s",
            tuple(rates),
            None,
            Yardstick("raw publish, 256 in flight", tuple(yardsticks)),
            "How fast a past is caught up with, or a burst of any size digested: from sources to "
            "maps. All invariants held at the end, or there would be no figure.",
        )
    ]
    busiest = _busiest(took)
    for name, what, values in (
        ("all", f"its busy days in {REPLAY_S:g} s", [ms for _, ms in took]),
        ("burst", f"its busiest {BUSY_S:g} s, {len(busiest)} events", busiest),
    ):
        figures += [
            Figure(
                f"trace.{name}.p{share * 100:.0f}",
                f"{what}, p{share * 100:.0f}",
                "ms",
                (quantile(values, share),),
                means="From an event's publication until all agents enforce what follows from it.",
            )
            for share in (0.5, 0.99)
        ]
    return figures


def _busiest(took: Sequence[tuple[float, float]]) -> list[float]:
    """Latencies of the events in the `BUSY_S` seconds with most of them; `took` is in order."""
    times = [at for at, _ in took]
    counts = [bisect_left(times, at + BUSY_S) - index for index, at in enumerate(times)]
    first = counts.index(max(counts))
    return [ms for _, ms in took[first : first + counts[first]]]
