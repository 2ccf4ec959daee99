import asyncio
import itertools
import socket
from collections.abc import Iterator
from random import Random

import pytest

from tabard.chaos.faults import partitions
from tabard.chaos.faults.partitions import Flaps, Partition
from tabard.chaos.faults.ports import Way
from tabard.chaos.faults.targets import Whom
from tabard.cluster.settings import BUS_PORT
from tabard.netns import enter
from underlays import ANSWER_S, Mouth, Underlay, underlay

pytestmark = pytest.mark.ebpf


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Underlay]:
    with underlay(tmp_path_factory.mktemp("chaos")) as made:
        # Who is whose neighbour is learnt before anything is cut.
        for agent in made.agents:
            with Mouth(made, agent) as node, Mouth(made, "hub") as hub:
                node.say("hello", hub)
                assert hub.hear() == "hello"
        yield made


async def spoken(rig: Underlay, fault: Partition) -> tuple[list[str], list[str]]:
    """What a node, which the fault hits, and the hub hear of each other while it is on."""
    before = rig.state()
    node = await fault.inject(rig, Random(1))
    with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
        inside.say("from the node", outside)
        outside.say("to the node", inside)
        await fault.heal(rig)
        inside.say("healed", outside)
        outside.say("healed", inside)
        heard = inside.heard_until("healed"), outside.heard_until("healed")
    assert rig.state() == before
    return heard


async def test_a_node_that_is_cut_off_neither_hears_nor_is_heard(rig: Underlay) -> None:
    assert await spoken(rig, Partition(Whom.NODE)) == ([], [])


async def test_a_one_way_partition_cuts_its_way_alone(rig: Underlay) -> None:
    assert await spoken(rig, Partition(Whom.NODE, [Way.IN])) == ([], ["from the node"])
    assert await spoken(rig, Partition(Whom.NODE, [Way.OUT])) == (["to the node"], [])


async def test_a_node_that_is_cut_off_is_told_of_no_failure_and_keeps_its_loopback(
    rig: Underlay,
) -> None:
    fault = Partition(Whom.NODE)
    node = await fault.inject(rig, Random(2))
    try:
        namespace, address = rig.place(node)
        listener = enter.call(namespace, lambda: socket.create_server((address, 0)))
        enter.call(namespace, lambda: socket.create_connection(listener.getsockname(), ANSWER_S))
        with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
            for _ in range(10):  # EPERM of one would be raised
                inside.say("lost", outside)
    finally:
        await fault.heal(rig)


async def test_the_other_node_is_not_cut_off(rig: Underlay) -> None:
    fault = Partition(Whom.NODE)
    cut = await fault.inject(rig, Random(3))
    other = next(agent for agent in rig.agents if agent != cut)
    try:
        with Mouth(rig, other) as inside, Mouth(rig, "hub") as outside:
            inside.say("still here", outside)
            assert outside.hear() == "still here"
    finally:
        await fault.heal(rig)


async def test_a_partition_from_the_bus_cuts_the_bus_alone_and_its_connections_go_on_when_healed(
    rig: Underlay,
) -> None:
    fault = Partition(Whom.NODE, bus_alone=True)
    namespaces = {}
    for agent in rig.agents:
        namespaces[agent], _ = rig.place(agent)
    bus, address = rig.place("hub")
    with enter.call(bus, lambda: socket.create_server((address, BUS_PORT))) as listener:
        connections = {}
        for agent in rig.agents:
            client = enter.call(
                namespaces[agent],
                lambda: socket.create_connection((address, BUS_PORT), ANSWER_S),
            )
            connections[agent] = client, listener.accept()[0]
        node = await fault.inject(rig, Random(4))
        client, server = connections[node]
        server.settimeout(ANSWER_S)
        client.sendall(b"while cut off")
        with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
            inside.say("not the bus", outside)
            assert outside.hear() == "not the bus"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(100)
        server.settimeout(ANSWER_S)
        await fault.heal(rig)
        assert server.recv(100) == b"while cut off"
        for pair in connections.values():
            for end in pair:
                end.close()


async def test_a_flapping_partition_cuts_and_lets_through_in_turn(rig: Underlay) -> None:
    before = rig.state()
    fault = Partition(Whom.NODE, flaps=Flaps(cut_s=(0.01, 0.02), open_s=(0.01, 0.02)))
    node = await fault.inject(rig, Random(5))
    said, heard = 0, []
    with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
        while turns(heard, said) < 3:
            inside.say(str(said), outside)
            said += 1
            await asyncio.sleep(0)
            heard += map(int, outside.heard_by_now())
        await fault.heal(rig)
        inside.say("healed", outside)
        outside.heard_until("healed")
    assert rig.state() == before


def turns(heard: list[int], said: int) -> int:
    """How often something was heard again after something that was not."""
    return sum(later - earlier > 1 for earlier, later in itertools.pairwise(heard[:said]))


async def test_the_same_seed_cuts_off_the_same_node(rig: Underlay) -> None:
    hit = []
    for seed in (1, 1, 2, 3, 4, 5):
        fault = Partition(Whom.NODE)
        hit.append(await fault.inject(rig, Random(seed)))
        await fault.heal(rig)
    assert hit[0] == hit[1]
    assert len(set(hit)) == 2


async def test_healing_twice_or_before_or_half_way_is_healing(
    rig: Underlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rig.state()
    fault = Partition(Whom.NODE)
    await fault.heal(rig)

    def fail(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(partitions, "drop", fail)
        with pytest.raises(OSError, match="no more"):
            await fault.inject(rig, Random(6))
    await fault.heal(rig)
    await fault.inject(rig, Random(6))
    await fault.heal(rig)
    await fault.heal(rig)
    assert rig.state() == before


def test_names_say_what_is_cut_off_and_which_way() -> None:
    assert Partition(Whom.NODE).name == "partition of a node"
    assert Partition(Whom.NODE, bus_alone=True).name == "partition of a node from the bus"
    assert Partition(Whom.BUS_LEADER, [Way.IN]).name == (
        "partition of the bus's leader, which hears nothing"
    )
    assert Partition(Whom.ALLOCATOR_LEADER, [Way.OUT], flaps=Flaps()).name == (
        "flapping partition of the leading allocator, which nobody hears"
    )
