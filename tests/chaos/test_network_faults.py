"""Partitions and forged packets on a real cluster, whose tests each leave it as it was."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from random import Random
from urllib.request import urlopen

import pytest
import pytest_asyncio

from serving import until
from tabard.chaos import rig as rigs
from tabard.chaos.converging import Convergence
from tabard.chaos.faults.forgeries import Forger, allowed_flow
from tabard.chaos.faults.partitions import Partition
from tabard.chaos.faults.ports import Way, run
from tabard.chaos.faults.spoofing import ELSEWHERE, Spoofing, Who
from tabard.chaos.faults.targets import Whom
from tabard.chaos.faults.volley import Volley, fire
from tabard.chaos.record import Packet, Record
from tabard.chaos.rig import ClusterRig
from tabard.chaos.workload import Workload
from tabard.cluster import network
from tabard.cluster.errors import ClusterError
from tabard.cluster.publish import outcome, publish
from tabard.cluster.supervisor import Cluster
from tabard.cluster.watermarks import watermarks
from tabard.demo.session import Session
from tabard.events.observed import NamespaceLabelsSet
from tabard.netns import enter
from tabard.netns.names import hub_namespace
from tabard.policy.engine import Engine

pytestmark = [pytest.mark.nats, pytest.mark.ebpf, pytest.mark.asyncio(loop_scope="module")]

Leader = Callable[[], Awaitable[str]]
ROUNDS = 8
"""Of forgeries: enough to meet both address families and all kinds of liars."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterRig]:
    directory = tmp_path_factory.mktemp("run")
    async with Cluster(rigs.settings(f"t{secrets.token_hex(4)}"), directory=directory) as cluster:
        yield ClusterRig(cluster)


async def decided(rig: ClusterRig) -> int:
    """Have something decided; the ledger's sequence of that."""
    asked = NamespaceLabelsSet("faults", (("round", secrets.token_hex(4)),))
    found = await outcome(rig.bus, await publish(rig.bus, [asked]), 30)
    assert found.ledger is not None
    return found.ledger


async def test_where_the_leaders_are_cut_off_others_lead_give_them_up_and_go_on(
    rig: ClusterRig,
) -> None:
    leaders = (Whom.BUS_LEADER, rig.bus_leader), (Whom.ALLOCATOR_LEADER, rig.allocator_leader)
    faults = []
    for whom, leader in leaders:
        faults.append(Partition(whom))
        hit = await faults[-1].inject(rig, Random(1))

        async def another_leads(leader: Leader = leader, hit: str = hit) -> bool:
            return await leader() != hit

        await until(another_leads)
    await rig.cluster.wait_enforced(await decided(rig))

    async def is_given_up() -> bool:
        return await asyncio.to_thread(connected, rig) == {2}

    await until(is_given_up, 0.1)
    for fault in faults:
        await fault.heal(rig)
    await rig.cluster.wait_enforced(await decided(rig))


def connected(rig: ClusterRig) -> set[int]:
    """Of how many servers of the bus those that can be asked say that they are connected."""

    def ask(url: str) -> int:
        try:
            with urlopen(f"{url}/routez", timeout=1) as answer:
                routes = json.load(answer)["routes"]
        except OSError:
            return 2
        return 1 + len({route["remote_id"] for route in routes})

    hub = hub_namespace(rig.run)
    return {enter.call(hub, partial(ask, url)) for url in rig.cluster.profile.monitoring}


async def test_a_node_that_hears_nothing_of_the_bus_stays_behind_until_it_is_healed(
    rig: ClusterRig,
) -> None:
    fault = Partition(Whom.NODE, [Way.IN], bus_alone=True)
    hit = (await fault.inject(rig, Random(2))).removeprefix("agent.")
    head = await decided(rig)
    others = [node.name for node in rig.cluster.nodes if node.name != hit]

    async def others_are_there() -> bool:
        return min(await at(rig, others)) >= head

    await until(others_are_there)
    assert await at(rig, [hit]) < [head]
    await fault.heal(rig)
    await rig.cluster.wait_enforced(head)


async def at(rig: ClusterRig, nodes: list[str]) -> list[int]:
    words = await watermarks(rig.bus, nodes)
    return [words[name].status.sequence for name in nodes]


async def test_forging_where_no_packet_is_allowed_proves_nothing_and_says_so(
    rig: ClusterRig,
) -> None:
    fault = Spoofing(Who.POD)
    await fault.inject(rig, Random(3))
    with pytest.raises(ClusterError, match="prove nothing"):
        await fault.heal(rig)
    assert fault.packets == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods(rig: ClusterRig) -> Session:
    work = Workload(rig, Record(seed=4, scenarios=(), mode="overlay", began=0), Random(4))
    await work.begin()
    session = Session(rig.cluster)
    await Convergence(rig, session, work, Random(4)).come()
    return session


async def forged_by(rig: ClusterRig, who: Who) -> list[Packet]:
    hub = hub_namespace(rig.run)
    before = network.names_of(rig.run), run("ip", "-n", hub, "-brief", "link", "show")
    fault = Spoofing(who)
    await fault.inject(rig, Random(5))

    async def enough() -> bool:
        return sum(packet.how == "by hand" for packet in fault.packets) >= 2 * ROUNDS

    await until(enough, 0.1)
    await fault.heal(rig)
    assert (network.names_of(rig.run), run("ip", "-n", hub, "-brief", "link", "show")) == before
    return fault.packets


async def test_nothing_that_a_stranger_forges_reaches_a_pod_and_the_true_packet_beside_it_does(
    rig: ClusterRig, pods: Session
) -> None:
    packets = await forged_by(rig, Who.STRANGER)
    assert {packet.how for packet in packets if packet.passed} == {
        "by hand",
        "by hand, in its node's tunnel",
    }
    forged = [packet for packet in packets if packet.kind == "stranger"]
    assert not any(packet.passed for packet in forged)
    own = {
        "in a tunnel, with an allowed pod's identity",
        "in a tunnel, with the receiver's node's identity",
    }
    elsewhere = ("", ", from 198.18.0.251", ", from fd00:c612::fb", f", from {ELSEWHERE}")
    assert {packet.how for packet in forged} == {how + where for how in own for where in elsewhere}


async def test_nothing_that_a_pod_forges_reaches_another_and_the_true_packet_beside_it_does(
    rig: ClusterRig, pods: Session
) -> None:
    packets = await forged_by(rig, Who.POD)
    forged = [packet for packet in packets if packet.kind == "forger"]
    assert not any(packet.passed for packet in forged)
    assert all(packet.passed for packet in packets if packet.kind == "pod")
    tunnels = [
        f"in a tunnel of its own, with {whose} identity{where}"
        for whose in ("an allowed pod's", "the receiver's node's")
        for where in ("", ", from another node's address")
    ]
    assert {packet.how for packet in forged} == {
        "from an allowed pod's address",
        "from an address of no pod",
        "from its own node's address",
        "from the receiver's node's address",
        *tunnels,
    }


async def test_what_reaches_a_pod_is_seen_by_its_token_however_it_came(
    rig: ClusterRig, pods: Session
) -> None:
    chance = Random(6)
    flow = allowed_flow(pods.state, Engine(pods.state), chance)
    assert flow is not None
    forger = Forger(rig.run, flow, chance)
    first, between, last = (forger.controls(tunnels=True) for _ in range(3))
    packets = await asyncio.to_thread(fire, Volley(rig.run, flow, first, between, last))
    assert len(packets) == 3 * len(first)
    assert all(packet.passed for packet in packets)


async def test_what_does_not_arrive_is_not_told_where_the_true_packet_does_not_either(
    rig: ClusterRig, pods: Session
) -> None:
    chance = Random(7)
    flow = allowed_flow(pods.state, Engine(pods.state), chance)
    assert flow is not None
    forger = Forger(rig.run, flow, chance)
    liar = next(
        pod
        for pod in pods.state.endpoints.values()
        if pod.uid not in (flow.source.uid, flow.target.uid)
    )
    lies = forger.liars(liar, pods.state.nodes[liar.node], [])
    volley = Volley(rig.run, flow, forger.controls(tunnels=False), lies, lies[:1])
    packets = await asyncio.to_thread(fire, volley)
    assert [packet.how for packet in packets] == ["by hand"]
