"""What of a backlog is passed over, and that this leaves states out and makes none."""

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deciding import Desk, joined, namespace, relabelled, started, stopped
from scenarios import well_formed
from serving import (
    FAST,
    allocator,
    caught_up,
    cursor,
    effects,
    folded,
    ledger,
    publish,
    until,
)
from tabard.allocator.inbox import INBOX_MESSAGES_MAX
from tabard.allocator.service import Allocator
from tabard.bus.memory import MemoryBus
from tabard.bus.port import READ_MESSAGES_MAX, Stream
from tabard.events.ledger import (
    CursorAdvanced,
    EndpointBound,
    EndpointTombstoned,
    IdentityAllocated,
    LedgerEvent,
    PolicyAccepted,
)
from tabard.events.observed import (
    NamespaceRemoved,
    NodeJoined,
    NodeLeft,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)
from tabard.ledger.messages import recorded
from tabard.ledger.reader import take
from tabard.ledger.state import State
from world import network_policy

STILL = dataclasses.replace(FAST, tick_s=3_600.0)
"""Nothing is done but what is observed asks for."""


async def told(*story: Any) -> tuple[MemoryBus, Allocator]:
    """The ledger of an allocator that found all of `story` waiting."""
    bus = MemoryBus()
    await publish(bus, *story)
    one = allocator(bus, pace=STILL)
    task = asyncio.create_task(one.run())
    await caught_up(bus, task)
    one.stop()
    await task
    return bus, one


def policy(*cidrs: str, wrong: bool = False) -> PolicySet:
    peers = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    document = network_policy("p", "shop", ingress=[{"from": peers}])
    if wrong:
        document["spec"]["oops"] = 1
    return PolicySet(document, f"{cidrs}")


def workload(replicas: int) -> WorkloadSet:
    metadata = {"name": "web", "namespace": "shop"}
    return WorkloadSet({"kind": "Deployment", "metadata": metadata, "spec": {"n": replicas}})


N1, N2 = NodeJoined("n1", ("192.0.2.1",), ()), NodeJoined("n2", ("192.0.2.2",), ())
TWIN = NodeJoined("n1", ("192.0.2.2",), ())
"""Refused beside `N2`."""
WEB = started("w", {"app": "web"}, "10.0.0.1")
POLICY_GONE = PolicyRemoved("NetworkPolicy", "shop", "p")
WORKLOAD_GONE = WorkloadRemoved("Deployment", "shop", "web")


@pytest.mark.parametrize(
    "story",
    [
        [WEB, relabelled("w", app="api"), relabelled("w", app="db")],
        [WEB, relabelled("w", app="api"), stopped("w"), relabelled("w", app="x")],
        [policy("10.0.0.0/8"), policy("10.0.0.0/9")],
        [policy("10.0.0.0/8"), POLICY_GONE],
        [policy("10.0.0.0/8"), stopped("x"), POLICY_GONE, policy("10.0.0.0/9")],
        [namespace("default", team="red"), namespace("default", team="blue")],
        [WEB, namespace("default", team="red"), NamespaceRemoved("default")],
        [joined("n1"), NodeJoined("n1", ("192.0.2.1",), ())],
        [joined("n1"), NodeLeft("n1")],
        [workload(1), workload(2)],
        [workload(1), stopped("x"), WORKLOAD_GONE, workload(2)],
        [started("p", {"app": "web"}, "10.0.0.1"), joined("n1"), stopped("p")],
        [started("p"), relabelled("p", app="api"), policy("10.0.0.0/8"), stopped("p")],
    ],
    ids=str,
)
async def test_an_event_that_a_later_one_undoes_has_no_effect(story: list[Any]) -> None:
    bus, one = await told(*story)
    assert one.figures.superseded == 1
    assert await cursor(bus) == len(story)
    desk = Desk()
    assert len(await effects(bus)) < 1 + sum(len(desk.observe(event)) for event in story)


@pytest.mark.parametrize(
    "story",
    [
        # What stands between would meet a state that never was.
        [WEB, relabelled("w", app="api"), policy("10.0.0.0/8"), relabelled("w", app="db")],
        [policy("10.0.0.0/8"), WEB, POLICY_GONE],
        # The later one may be refused: then what the earlier one did stands.
        [policy("10.0.0.0/8"), policy(wrong=True)],
        [policy(wrong=True), policy("10.0.0.0/8")],
        [policy(wrong=True), stopped("x"), policy("10.0.0.0/8"), policy(wrong=True)],
        [WEB, relabelled("w", app="api"), relabelled("w", app="no value!")],
        [N1, NodeJoined("n2", ("192.0.2.1",), ())],
        [N1, N2, TWIN, stopped("x"), joined("n1"), TWIN],
        # About different subjects, or of no effect.
        [WEB, started("v"), relabelled("w", app="a"), relabelled("v", app="a")],
        [stopped("w"), WEB, relabelled("w", app="a")],
        [workload(1), WorkloadRemoved("Deployment", "shop", "other")],
        # Somebody else loses an address to it, or stands against it for one.
        [WEB, started("p", {}, "10.0.0.1", at=1), stopped("p")],
        [started("p", {}, "10.0.0.1", at=1), WEB, stopped("p")],
        [started("p"), started("p", {}, "10.0.0.1"), stopped("p")],
    ],
    ids=str,
)
async def test_an_event_that_anything_may_hang_on_has_its_effect(story: list[Any]) -> None:
    desk = Desk()
    expected = [event for said in story for event in desk.observe(said)]
    bus, one = await told(*story)
    assert one.figures.superseded == 0
    assert (await effects(bus))[1:] == expected


async def test_what_takes_a_pod_from_an_identity_at_once_is_not_left_out_for_what_waits() -> None:
    """`web` is known to all nodes and `new` to none, so the first change is done and the second
    planned: passed over, the first would leave the pod its rights meanwhile."""
    bus = MemoryBus()
    one = allocator(bus, pace=STILL)
    task = asyncio.create_task(one.run())
    await publish(bus, WEB, started("a", {"app": "api"}))
    await caught_up(bus, task)
    await publish(bus, joined("n1"))
    await caught_up(bus, task)
    assert one.leader is not None
    end = await bus.last_sequence(Stream.LEDGER)
    one.leader._hear({"n1": end})
    await publish(bus, relabelled("w", app="api"), relabelled("w", app="new"))
    await caught_up(bus, task)
    said = [type(event).__name__ for event in (await ledger(bus))[end:]]
    assert said == ["EndpointRelabelled", "IdentityAllocated", "RelabelPlanned", "CursorAdvanced"]
    one.stop()
    await task


async def test_a_pod_that_never_ran_costs_no_number_and_its_stop_tells_of_it() -> None:
    bus, _ = await told(started("p", {"app": "job"}, "10.0.0.9"), stopped("p"), WEB)
    said = await effects(bus)
    kinds = [type(event) for event in said[1:]]
    assert kinds == [EndpointTombstoned, IdentityAllocated, EndpointBound]
    # A start that is told again, or late, revives nothing.
    await publish(bus, started("p", {"app": "job"}, "10.0.0.9"))
    one = allocator(bus, holder="two", pace=STILL)
    task = asyncio.create_task(one.run())
    await caught_up(bus, task)
    one.stop()
    await task
    assert (await folded(bus)).endpoints.keys() == {"w"}


async def test_each_effect_names_the_event_that_it_answers() -> None:
    bus, _ = await told(
        WEB, relabelled("w", app="api"), relabelled("w", app="db"), policy("10.0.0.0/8"), policy()
    )
    causes = {}
    for message in bus.store.logs[Stream.LEDGER].messages:
        record = recorded(Stream.LEDGER, message)
        causes[type(record.event).__name__] = record.envelope.cause
    assert causes["EndpointRelabelled"] == "OBSERVED/3"
    assert causes["PolicyAccepted"] == "OBSERVED/5"
    accepted = [event for event in await effects(bus) if isinstance(event, PolicyAccepted)]
    assert [event.document for event in accepted] == [policy().document]


class Slow(MemoryBus):
    """Takes one batch each time that it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = asyncio.Event()

    async def append(self, messages: Any, expected_last: int) -> int:
        await self.turn.wait()
        self.turn.clear()
        return await super().append(messages, expected_last)


async def test_what_comes_faster_than_it_is_decided_waits_on_the_bus_and_none_is_dropped() -> None:
    bus = Slow()
    bus.turn.set()
    one = allocator(bus, pace=STILL)
    task = asyncio.create_task(one.run())
    flood = 2 * INBOX_MESSAGES_MAX
    most = 0
    for start in range(0, flood, READ_MESSAGES_MAX):
        pods = [started(f"p{start + number}") for number in range(READ_MESSAGES_MAX)]
        await publish(bus, *pods)

    async def taken() -> bool:
        nonlocal most
        most = max(most, 0 if one.leader is None else one.leader.waiting)
        bus.turn.set()
        return await cursor(bus) == flood

    await until(taken)
    one.stop()
    bus.turn.set()
    await task
    assert READ_MESSAGES_MAX < most <= INBOX_MESSAGES_MAX
    bound = [event.uid for event in await effects(bus) if isinstance(event, EndpointBound)]
    assert bound == [f"p{number}" for number in range(flood)]


def view(state: State, never_ran: set[str]) -> dict[str, Any]:
    """What the ledger says, but for numbers, sequences, who never ran, and what is planned of pods
    that leaves them their identity."""

    def stands_for(number: int) -> Any:
        return state.identities[number].labels if number in state.identities else number

    return {
        "endpoints": {
            uid: (pod.labels, pod.addresses, pod.node, stands_for(pod.identity))
            for uid, pod in state.endpoints.items()
            if uid not in never_ran
        },
        "relabels": {
            uid: (plan.labels, stands_for(plan.identity))
            for uid, plan in state.relabels.items()
            if uid not in never_ran and plan.identity != state.endpoints[uid].identity
        },
        "bindings": {key: uid for key, uid in state.bindings.items() if uid not in never_ran},
        "namespaces": dict(state.namespaces),
        "nodes": dict(state.nodes),
        "refused_nodes": dict(state.refused_nodes),
        "policies": {key: accepted.document for key, accepted in state.policies.items()},
        "refused_policies": {key: each.reason for key, each in state.refused_policies.items()},
        "workloads": {key: accepted.document for key, accepted in state.workloads.items()},
        "names": {name: dict(held) for name, held in state.names.items()},
        "refused": {
            uid: each.reason for uid, each in state.refused_pods.items() if uid not in never_ran
        },
        "tombstones": state.tombstones.keys() - never_ran,
        "quarantined": dict(state.quarantined),
    }


def stepped(messages: list[Any], never_ran: set[str]) -> list[dict[str, Any]]:
    """The view after each decision."""
    state, views, before = State(), [], ""
    for message in messages:
        record = take(state, message)
        assert record is not None
        if isinstance(record.event, CursorAdvanced):
            continue
        if record.envelope.cause == before and views:
            views.pop()
        before = record.envelope.cause
        views.append(view(state, never_ran))
    return views


labels = st.dictionaries(st.just("app"), st.sampled_from("abc"))
about_one = st.one_of(
    *(
        st.lists(each, min_size=2, max_size=3)
        for each in (
            labels.map(lambda given: relabelled("pod-1", **given)),
            st.one_of(
                st.builds(policy, st.just("10.0.0.0/8"), wrong=st.booleans()),
                st.just(POLICY_GONE),
            ),
            st.one_of(
                labels.map(lambda given: namespace("shop", **given)),
                st.just(NamespaceRemoved("shop")),
            ),
            st.one_of(
                st.builds(
                    NodeJoined,
                    st.just("n1"),
                    st.sampled_from([(), ("192.0.2.1",), ("192.0.2.2",)]),
                    st.just(()),
                ),
                st.just(NodeLeft("n1")),
            ),
        )
    ),
    st.tuples(
        st.builds(started, st.just("pod-1"), labels, st.just("10.0.0.1"), at=st.integers(0, 3)),
        well_formed,
        st.just(stopped("pod-1")),
    ),
)
backlogs = st.lists(st.one_of(well_formed.map(lambda event: [event]), about_one), max_size=15).map(
    lambda parts: [event for part in parts for event in part]
)


@given(story=backlogs.filter(bool))
@settings(deadline=None, max_examples=60)
def test_a_backlog_passes_through_states_that_each_event_would_have_made_and_ends_in_the_same(
    story: list[Any],
) -> None:
    bus, _ = asyncio.run(told(*story))
    said: list[LedgerEvent] = asyncio.run(ledger(bus))
    ran = {event.uid for event in said if isinstance(event, EndpointBound)}
    stops = {event.uid for event in story if event == stopped(getattr(event, "uid", ""))}
    never_ran = stops - ran
    desk = Desk(checked=False)
    history = [view(desk.state, never_ran)]
    for event in story:
        desk.observe(event)
        history.append(view(desk.state, never_ran))
    found = stepped(bus.store.logs[Stream.LEDGER].messages, never_ran)
    assert found[-1] == history[-1]
    through = iter(history)
    for each in found:
        assert any(each == known for known in through), "a state that never was"
