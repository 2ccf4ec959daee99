import asyncio

import pytest

from ledgers import POLICY, Answering, append, append_raw
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.cluster.errors import ClusterError, NotReached
from tabard.cluster.publish import key_of, outcome, publish
from tabard.events import observed as events
from tabard.events.ledger import (
    EndpointRelabelled,
    EndpointsRebound,
    EndpointUnbound,
    LedgerEvent,
    PolicyRefused,
    RebindPlanned,
    RelabelPlanned,
)

REFUSED = PolicyRefused("NetworkPolicy", "shop", "web", "spec.ingress[0].ports: …", "")


async def test_published_events_stand_in_order() -> None:
    bus = MemoryBus()
    published = await publish(bus, [events.PodStopped("a"), events.PodStopped("b")])
    assert published.sequences == (1, 2)
    assert published.ledger == 0
    assert await bus.last_sequence(Stream.OBSERVED) == 2


async def test_a_refusal_is_found_by_its_cause() -> None:
    bus = Answering()
    bus.answers = [REFUSED]
    published = await publish(bus, [events.PolicySet(POLICY)])
    found = await outcome(bus, published, timeout_s=5)
    assert found.refused == (REFUSED,)
    assert found.ledger == 2


PLANS = [
    (RelabelPlanned("uid-a", 256, ()), EndpointRelabelled("uid-a", 256, ())),
    (RelabelPlanned("uid-a", 256, ()), EndpointUnbound("uid-a")),
    (RelabelPlanned("uid-a", 256, ()), EndpointsRebound("shop", (("uid-a", 256),))),
    (RebindPlanned("shop", (("uid-a", 256),)), EndpointsRebound("shop", (("uid-a", 256),))),
    (RebindPlanned("shop", (("uid-a", 256),)), RelabelPlanned("uid-a", 257, ())),
]


@pytest.mark.parametrize(("plan", "end"), PLANS)
async def test_what_is_planned_is_waited_for_until_it_is_carried_out_or_overtaken(
    plan: LedgerEvent, end: LedgerEvent
) -> None:
    bus = Answering()
    bus.answers = [plan]
    published = await publish(bus, [events.PodLabelsChanged("uid-a", ())])
    with pytest.raises(NotReached, match="allocator did not carry it out"):
        await outcome(bus, published, timeout_s=0.01)
    waiting = asyncio.create_task(outcome(bus, published, timeout_s=5))
    await append(bus, EndpointRelabelled("uid-b", 256, ()))
    assert (await append(bus, end)) == (await waiting).ledger


async def test_somebody_elses_plan_is_not_waited_for() -> None:
    bus = Answering()
    bus.answers = [RelabelPlanned("uid-a", 256, ())]
    await publish(bus, [events.PodLabelsChanged("uid-a", ())])
    published = await publish(bus, [events.PodStopped("b")])
    assert (await outcome(bus, published, timeout_s=5)).refused == ()


async def test_somebody_elses_refusal_is_not_ours() -> None:
    bus = Answering()
    bus.answers = [REFUSED]
    await publish(bus, [events.PolicySet(POLICY)])
    published = await publish(bus, [events.PodStopped("a")])
    assert (await outcome(bus, published, timeout_s=5)).refused == ()


async def test_nothing_published_is_taken_at_once() -> None:
    bus = MemoryBus()
    assert (await outcome(bus, await publish(bus, []), timeout_s=0)).refused == ()


async def test_without_an_allocator_the_wait_ends_in_time() -> None:
    bus = MemoryBus()
    published = await publish(bus, [events.PodStopped("a")])
    with pytest.raises(NotReached, match="allocator did not take it"):
        await outcome(bus, published, timeout_s=0.01)


async def test_an_unreadable_ledger_is_told_and_not_waited_for() -> None:
    bus = MemoryBus()
    published = await publish(bus, [events.PodStopped("a")])
    await append_raw(bus, b"\xc1")
    with pytest.raises(ClusterError, match="LEDGER/1"):
        await outcome(bus, published, timeout_s=5)


def test_keys_name_what_an_event_is_about() -> None:
    assert key_of(events.PodStopped("u")) == "u"
    assert key_of(events.PolicySet(POLICY)) == "NetworkPolicy/shop/web"
    clusterwide = {"kind": "CiliumCIDRGroup", "metadata": {"name": "g"}}
    assert key_of(events.PolicySet(clusterwide)) == "CiliumCIDRGroup//g"
    assert key_of(events.PolicyRemoved("CiliumCIDRGroup", "", "g")) == "CiliumCIDRGroup//g"
    assert key_of(events.WorkloadRemoved("Pod", "shop", "x")) == "Pod/shop/x"
    assert key_of(events.NamespaceRemoved("shop")) == "Namespace//shop"
    assert key_of(events.NodeLeft("n1")) == "Node//n1"
    assert key_of(events.QuarantineRequested("LEDGER", 7, "why")) == "LEDGER/7"
