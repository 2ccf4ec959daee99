"""The fold invariant: a node's maps equal compile(fold(ledger, watermark)), whatever came when."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.rig import NODE, WAIT_S, Bench, Ledger
from tabard.agent.attachments import Held
from tabard.bus.memory import MemoryBus
from tabard.bus.port import BATCH_MESSAGES_MAX, Bus, Stream
from tabard.dataplane.maps import Mode
from tabard.events import ledger as events
from tabard.events.chain import GENESIS
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import sealed
from tabard.ledger.state import State
from tabard.policy.compile import Compiler, Provisional
from world import attachment, network_policy

APPS = st.sampled_from(("web", "db", "job"))
PODS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), PODS, APPS),
        st.tuples(st.just("relabel"), PODS, APPS),
        st.tuples(st.just("stop"), PODS, APPS),
        st.tuples(st.just("attach"), PODS, APPS),
        st.tuples(st.just("detach"), PODS, APPS),
        st.tuples(st.just("policy"), PODS, APPS),
        st.tuples(st.just("forget"), PODS, APPS),
        st.tuples(st.just("namespace"), PODS, APPS),
        st.tuples(st.just("retire"), PODS, APPS),
        st.tuples(st.just("inert"), PODS, APPS),
        st.tuples(st.just("tick"), PODS, APPS),
    ),
    max_size=40,
)


class Story:
    """A ledger told step by step, with the pods' interfaces coming and going in between."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ledger = Ledger()
        self.lives = [0] * 6

    def uid(self, number: int) -> str:
        return f"p{number}-{self.lives[number]}"

    def step(self, what: str, number: int, app: str) -> None:
        ledger, attachments, uid = self.ledger, self.bench.reconciler.attachments, self.uid(number)
        node = NODE if number < 3 else "n2"
        address = f"10.244.{1 if number < 3 else 2}.{number + 5}"
        is_bound = uid in ledger.state.endpoints
        match what:
            case "start" if not is_bound:
                ledger.pod(f"default/p{number}", {"app": app}, node=node, ip=address, uid=uid)
            case "relabel" if is_bound:
                ledger.relabel(uid, {"app": app})
            case "stop" if is_bound:
                ledger.stop(uid)
                self.lives[number] += 1
            case "attach" if number < 3:
                labels = ledger.labels_of("default", {"app": app})
                known = ledger.state.numbers.get(labels)
                provisional = None if known is None else Provisional(known, (address,))
                at = 0 if known is None else ledger.state.identities[known].allocated_at
                attachments.put(Held(attachment(uid, 100 + number, provisional), "", at))
            case "detach":
                attachments.remove(uid)
            case "policy":
                ledger.policy(_policy(number, app))
            case "forget" if ("NetworkPolicy", "default", f"p{number}") in ledger.state.policies:
                ledger.forget("default", f"p{number}")
            case "namespace":
                ledger.namespace("default", {"team": app})
            case "retire":
                if ledger.state.idle:
                    ledger.retire(next(iter(ledger.state.idle)))
            case "inert":
                ledger.emit(events.CursorAdvanced("OBSERVED", 1))


def _policy(number: int, app: str) -> dict[str, Any]:
    peer = [{"podSelector": {"matchLabels": {"app": app}}}]
    spec: dict[str, Any] = [
        {"ingress": [{"from": peer}]},
        {"policyTypes": ["Egress"], "egress": [{"to": peer, "ports": [{"port": 80}]}]},
        {"podSelector": {"matchLabels": {"app": app}}},
    ][number % 3]
    return network_policy(f"p{number}", **spec)


async def told(steps: list[tuple[str, int, str]], mode: Mode) -> None:
    bench, bus = Bench(mode=mode), MemoryBus()
    story = Story(bench)
    await story.ledger.write(bus)
    follower = asyncio.ensure_future(bench.follower.run(bus))
    await bench.reconciler.in_sync.wait()
    try:
        for what, number, app in steps:
            if what == "tick":
                end = await story.ledger.write(bus)
                while bench.reconciler.state.sequence < end:
                    await bench.follower.folded()
                assert await bench.reconciler.tick()
                await holds(bench, bus, mode)
            else:
                story.step(what, number, app)
        await story.ledger.write(bus)
        while bench.reconciler.state.sequence < story.ledger.written:
            await bench.follower.folded()
        assert await bench.reconciler.tick()
        await holds(bench, bus, mode)
        assert bench.report.sequence == story.ledger.written
    finally:
        follower.cancel()
        bench.worker.close()


async def holds(bench: Bench, bus: Bus, mode: Mode) -> None:
    state = await catch_up(bus, State(), bench.report.sequence)
    attached = bench.reconciler.attachments.attached
    assert bench.dataplane.read() == Compiler().compile(state, NODE, mode, attached)


@given(steps=STEPS, mode=st.sampled_from(Mode))
@settings(max_examples=60, deadline=None)
def test_the_maps_equal_the_compiled_fold_at_the_watermark(
    steps: list[tuple[str, int, str]], mode: Mode
) -> None:
    asyncio.run(asyncio.wait_for(told(steps, mode), WAIT_S))


async def ended(ledger: Ledger, batches: list[int], mode: Mode) -> Any:
    """The maps after the ledger came in batches of these sizes, with a tick after each."""
    bench, bus = Bench(mode=mode), MemoryBus()
    for uid, one in ledger.attachments(NODE).items():
        bench.reconciler.attachments.put(Held(one, uid))
    follower = asyncio.ensure_future(bench.follower.run(bus))
    chain, written = GENESIS, 0
    while written < len(ledger.events):
        size = min(batches.pop(0) if batches else BATCH_MESSAGES_MAX, BATCH_MESSAGES_MAX)
        messages, chain = sealed(chain, ledger.events[written : written + size])
        written = await bus.append(messages, written)
        while bench.reconciler.state.sequence < written:
            await bench.follower.folded()
        assert await bench.reconciler.tick()
    follower.cancel()
    bench.worker.close()
    assert bench.report.sequence == await bus.last_sequence(Stream.LEDGER)
    return bench.dataplane.read()


@given(steps=STEPS, batches=st.lists(st.integers(1, 5), max_size=30), mode=st.sampled_from(Mode))
@settings(max_examples=30, deadline=None)
def test_however_the_ledger_is_cut_into_batches_the_maps_end_the_same(
    steps: list[tuple[str, int, str]], batches: list[int], mode: Mode
) -> None:
    bench = Bench(mode=mode)
    story = Story(bench)
    bench.worker.close()
    for what, number, app in steps:
        story.step(what, number, app)

    async def both() -> None:
        assert await ended(story.ledger, batches, mode) == await ended(story.ledger, [], mode)

    asyncio.run(asyncio.wait_for(both(), WAIT_S))
