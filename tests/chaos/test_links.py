import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from clusters import remains
from tabard.chaos.faults.links import Delay, Loss
from tabard.chaos.faults.ports import Way
from tabard.chaos.faults.relay import Lateness
from tabard.chaos.faults.targets import Whom
from tabard.cluster import pids
from tabard.cluster.errors import ClusterError
from tabard.cluster.sweep import notes
from tabard.netns import enter
from underlays import ANSWER_S, Mouth, Underlay, underlay

pytestmark = pytest.mark.ebpf


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Underlay]:
    with underlay(tmp_path_factory.mktemp("chaos")) as made:
        yield made


def round_trips_ms(here: Mouth, there: Mouth, count: int = 5) -> list[float]:
    took = []
    for number in range(count):
        began = time.monotonic()
        here.say(f"ping {number}", there)
        there.say(there.hear(), here)
        assert here.hear() == f"ping {number}"
        took.append((time.monotonic() - began) * 1000)
    return took


async def test_packets_are_lost_in_the_share_that_was_asked_for_and_no_longer_once_healed(
    rig: Underlay,
) -> None:
    before = rig.state()
    fault = Loss(Whom.NODE, 0.3, [Way.OUT])
    node = await fault.inject(rig, Random(1))
    with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
        for here, there in ((inside, outside), (outside, inside)):
            for _ in range(2000):
                here.say("lost?", there)
        await fault.heal(rig)
        for here, there in ((inside, outside), (outside, inside)):
            for _ in range(2000):
                here.say("kept", there)
            here.say("last", there)
        there, back = (Counter(mouth.heard_until("last")) for mouth in (outside, inside))
    assert 1200 < there["lost?"] < 1600  # 1400, by ten times its deviation
    assert back == Counter({"lost?": 2000, "kept": 2000})
    assert there["kept"] == 2000
    assert rig.state() == before


async def test_every_packet_is_held_for_its_time_both_ways(rig: Underlay) -> None:
    before = rig.state()
    fault = Delay(Whom.NODE, Lateness(delay_ms=20))
    with Mouth(rig, "agent.n1") as inside, Mouth(rig, "hub") as outside:
        plain = min(round_trips_ms(inside, outside))
    node = await fault.inject(rig, Random(2))
    try:
        other = next(agent for agent in rig.agents if agent != node)
        with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
            held = min(round_trips_ms(inside, outside))
        with Mouth(rig, other) as inside, Mouth(rig, "hub") as outside:
            spared = min(round_trips_ms(inside, outside))
    finally:
        await fault.heal(rig)
    assert rig.state() == before
    with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
        healed = min(round_trips_ms(inside, outside))
    assert held >= 40 > max(plain, spared, healed)
    left = remains(rig.run, rig.data, rig.data)
    assert not [what for what in left if what.startswith("process")]


async def test_a_connection_with_large_segments_goes_through_the_relay_and_outlives_it(
    rig: Underlay,
) -> None:
    hub, address = rig.place("hub")
    sent = Random(3).randbytes(1 << 20)
    fault = Delay(Whom.NODE, Lateness(delay_ms=1, jitter_ms=2, shuffled=0.1))
    node = await fault.inject(rig, Random(3))
    try:
        with enter.call(hub, lambda: socket.create_server((address, 0))) as listener:
            where = listener.getsockname()
            client = enter.call(
                rig.namespace(node), lambda: socket.create_connection(where, ANSWER_S)
            )
            server, _ = listener.accept()
        with client, server:
            for end in (client, server):
                end.settimeout(ANSWER_S)
            assert carried(client, server, sent) == sent
            await fault.heal(rig)
            assert carried(server, client, sent) == sent
    finally:
        await fault.heal(rig)


def carried(here: socket.socket, there: socket.socket, data: bytes) -> bytes:
    """What came of `data` at the other end."""
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(here.sendall, data)
        came = bytearray()
        while len(came) < len(data):
            came += there.recv(1 << 16)
        sent.result()
    return bytes(came)


async def test_what_is_shuffled_overtakes(rig: Underlay) -> None:
    fault = Delay(Whom.NODE, Lateness(delay_ms=30, shuffled=0.5))
    node = await fault.inject(rig, Random(4))
    try:
        with Mouth(rig, node) as inside, Mouth(rig, "hub") as outside:
            for number in range(40):
                inside.say(str(number), outside)
            came = [int(outside.hear()) for _ in range(40)]
    finally:
        await fault.heal(rig)
    assert sorted(came) == list(range(40))
    assert any(later < earlier for earlier, later in pairwise(came))


async def test_a_relay_that_ended_is_told_and_leaves_nothing(rig: Underlay) -> None:
    before = rig.state()
    fault = Delay(Whom.NODE, Lateness(delay_ms=1))
    await fault.inject(rig, Random(5))
    (pid,) = pids.recorded(notes(rig.data)).values()
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    await fault._relay.wait()
    os.close(descriptor)
    with pytest.raises(ClusterError, match="ended before it was healed"):
        await fault.heal(rig)
    assert rig.state() == before
    await fault.heal(rig)


async def test_a_delay_that_is_injected_half_way_is_healed(
    rig: Underlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rig.state()

    def fail(path: Path, pid: int) -> None:
        raise ProcessLookupError("no more")

    fault = Delay(Whom.NODE, Lateness(delay_ms=1))
    await fault.heal(rig)
    monkeypatch.setattr(pids, "record", fail)
    with pytest.raises(ProcessLookupError, match="no more"):
        await fault.inject(rig, Random(6))
    await fault.heal(rig)
    assert rig.state() == before
    with Mouth(rig, "agent.n1") as one, Mouth(rig, "agent.n2") as two:
        one.say("still joined", two)
        assert two.hear() == "still joined"


def test_names_say_how_bad_the_link_is() -> None:
    assert Loss(Whom.BUS_LEADER, 0.1).name == "10% of the packets of the bus's leader lost"
    late = Delay(Whom.NODE, Lateness(delay_ms=20, jitter_ms=30, shuffled=0.1))
    assert late.name == "20 ms to 50 ms of delay, but for 10%, to and from a node"
    assert Delay(Whom.NODE, Lateness(5)).name == "5 ms of delay to and from a node"


def test_a_share_is_of_one() -> None:
    with pytest.raises(ValueError, match="cannot be lost"):
        Loss(Whom.NODE, 10)
    with pytest.raises(ValueError, match="share is of 1"):
        Lateness(5, shuffled=2)
