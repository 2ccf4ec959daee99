"""A new label set → its identity durable: bus with fsync on every append, a real allocator."""

import asyncio
import itertools
import time
from collections.abc import Iterator

import uvloop

from bench import population
from bench.figures import Figure, Target, Yardstick, quantile
from bench.lab import Lab
from bench.ledger_watch import LedgerWatch, watching
from bench.yardsticks import RawStream, raw
from tabard.bus.port import Bus, Outgoing, Stream
from tabard.ledger.messages import first_cause, observed

ONE_BY_ONE = 200
IN_FLIGHT = 64
FLOWING = 4_000
BURST = 4_000
RUNS = 5
PUBLISHES = 200
PIPELINED = 1_000
BATCHED = 10_000


def run(lab: Lab) -> list[Figure]:
    return uvloop.run(_run(lab))


async def _run(lab: Lab) -> list[Figure]:
    fresh = itertools.count()
    serial, flowing, bursts = [], [], []
    raw_serial, raw_pipelined, raw_batches = [], [], []
    async with (
        lab.server() as server,
        lab.bus(server.url) as bus,
        lab.allocator(server.url, bus),
        raw(server.url) as stream,
        watching(bus) as watch,
    ):
        await _one_by_one(bus, watch, fresh, lab.scaled(50, 5))  # warm
        for number in lab.runs(RUNS, 90):
            lab.tell(f"run {number + 1}")
            serial.append(await _one_by_one(bus, watch, fresh, lab.scaled(ONE_BY_ONE, 10)))
            flowing.append(await _in_flight(bus, watch, fresh, lab.scaled(FLOWING, 64)))
            bursts.append(await _burst(bus, watch, fresh, lab.scaled(BURST, 64)))
            payload = _message(next(fresh)).payload
            raw_serial.append(await stream.one_at_a_time(payload, lab.scaled(PUBLISHES, 10)))
            raw_pipelined.append(await _pipelined(stream, lab, payload))
            raw_batches.append(await stream.batches(payload, lab.scaled(BATCHED, 1000)))

    def one_by_one(share: float, target: Target | None) -> Figure:
        percentile = f"p{share * 100:.0f}"
        yardstick = tuple(quantile(took, share) for took in raw_serial)
        return Figure(
            f"allocate.serial.{percentile}",
            f"new label set durable, one at a time, {percentile}",
            "ms",
            tuple(quantile(took, share) for took in serial),
            target,
            Yardstick(f"raw publish, {percentile}", yardstick),
            means="How long the first pod with new labels waits for its identity, from its "
            "observation's publication until the identity is on disk and any node can know it.",
        )

    means = "How many pods with labels never seen before can start in a second."
    return [
        one_by_one(0.5, Target(3)),
        one_by_one(0.99, None),
        Figure(
            "allocate.flowing",
            f"new label sets durable, {IN_FLIGHT} in flight",
            "/s",
            tuple(flowing),
            Target(4000, at_least=True),
            Yardstick(f"raw publish, {IN_FLIGHT} in flight", tuple(raw_pipelined)),
            means,
        ),
        Figure(
            "allocate.burst",
            f"new label sets durable, {BURST:,} published at once",
            "/s",
            tuple(bursts),
            None,
            Yardstick("raw batches of 1000", tuple(raw_batches)),
            means,
        ),
    ]


def _message(number: int) -> Outgoing:
    event = population.pod(number, number, population.node(1 + number % 3), started_at=1)
    return observed(event, first_cause(event.uid, time.time_ns()))


def _uid(number: int) -> str:
    return population.pod(number, number, "n1").uid


async def _one_by_one(
    bus: Bus, watch: LedgerWatch, fresh: Iterator[int], count: int
) -> list[float]:
    """Milliseconds of each, from publishing to having read a whole, stored batch."""
    took = []
    for number in itertools.islice(fresh, count):
        message, uid = _message(number), _uid(number)
        begun = time.perf_counter()
        publishing = asyncio.ensure_future(bus.publish(Stream.OBSERVED, [message]))
        while uid not in watch.bound:
            await watch.moved()
        took.append((watch.bound[uid] - begun) * 1000)
        await publishing
    return took


async def _in_flight(bus: Bus, watch: LedgerWatch, fresh: Iterator[int], count: int) -> float:
    """Pods a second, as many published and not yet bound as may be."""
    messages = [_message(number) for number in itertools.islice(fresh, count)]
    before = len(watch.bound)
    sent = 0
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as publishing:
        while sent < count:
            room = IN_FLIGHT - (sent - (len(watch.bound) - before))
            if more := messages[sent : sent + room]:
                publishing.create_task(bus.publish(Stream.OBSERVED, more))
                sent += len(more)
            await watch.moved()
        await watch.until(before + count)
    return count / (time.perf_counter() - begun)


async def _burst(bus: Bus, watch: LedgerWatch, fresh: Iterator[int], count: int) -> float:
    """Pods a second, all in one publish."""
    messages = [_message(number) for number in itertools.islice(fresh, count)]
    before = len(watch.bound)
    begun = time.perf_counter()
    await bus.publish(Stream.OBSERVED, messages)
    await watch.until(before + count)
    return count / (time.perf_counter() - begun)


async def _pipelined(stream: RawStream, lab: Lab, payload: bytes) -> float:
    return await stream.pipelined([payload] * lab.scaled(PIPELINED, 64), IN_FLIGHT)
