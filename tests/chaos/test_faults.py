"""Each fault on a real cluster: it does what it says, and its healing leaves nothing behind."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from tabard.allocator.allowance import EVENTS_MAX, REFUSAL_COST
from tabard.auth.roles import Role
from tabard.bus.port import BusUnavailable, Stream
from tabard.chaos import rig as rigs
from tabard.chaos.faults.checkpoints import DamagedCheckpoint
from tabard.chaos.faults.clocks import ClockJump
from tabard.chaos.faults.disks import FullDisk, stored
from tabard.chaos.faults.floods import Flood
from tabard.chaos.faults.harms import Harm, flipped, truncated
from tabard.chaos.faults.maps import NEWER_FORMAT, FullMap, OtherMaps, said, schemas
from tabard.chaos.faults.processes import Kill, Pause
from tabard.chaos.faults.snapshots import DamagedSnapshot
from tabard.chaos.faults.streams import DamagedStream
from tabard.chaos.faults.targets import Whom
from tabard.chaos.rig import ClusterRig
from tabard.cluster import guard, mounts
from tabard.cluster.publish import outcome, publish
from tabard.cluster.repair import damaged
from tabard.cluster.supervisor import Cluster
from tabard.events.observed import NamespaceLabelsSet, Pairs
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import allocator_subject, recorded, status_subject
from tabard.ledger.replicas import examine
from tabard.ledger.state import State

pytestmark = [pytest.mark.nats, pytest.mark.ebpf, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ClusterRig]:
    """One cluster for all: each test leaves it as it was."""
    directory = tmp_path_factory.mktemp("run")
    async with Cluster(rigs.settings(f"t{secrets.token_hex(4)}"), directory=directory) as cluster:
        yield ClusterRig(cluster)


@pytest.fixture
def chance() -> Random:
    return Random(6)


def pids(rig: ClusterRig) -> dict[str, int]:
    return {name: rig.cluster.pid(name) for name in rig.cluster.children}


async def working(rig: ClusterRig) -> None:
    """The bus takes an event, an allocator decides on it, and all nodes enforce what it said."""
    asked = NamespaceLabelsSet("faults", (("round", secrets.token_hex(4)),))
    async with asyncio.timeout(60):
        while True:
            try:
                published = await publish(rig.bus, [asked])
                decided = await outcome(rig.bus, published, 30)
                await rig.cluster.wait_enforced(decided.ledger)
                return
            except BusUnavailable:  # no stream's leader hangs on another's
                await asyncio.sleep(0.1)


async def test_what_is_killed_is_down_until_it_is_healed(rig: ClusterRig, chance: Random) -> None:
    before = pids(rig)
    fault = Kill(Whom.ALLOCATOR_LEADER)
    killed = await fault.inject(rig, chance)
    assert {name for name, pid in pids(rig).items() if not pid} == {killed}
    await fault.heal(rig)
    assert {name for name, pid in pids(rig).items() if pid == before[name]} == before.keys() - {
        killed
    }
    await working(rig)


async def test_everything_is_killed_at_once_and_comes_back(rig: ClusterRig, chance: Random) -> None:
    fault = Kill(Whom.EVERYTHING)
    await fault.inject(rig, chance)
    assert not any(pids(rig).values())
    await fault.heal(rig)
    assert all(pids(rig).values())
    await working(rig)


async def test_the_buss_leader_is_paused_until_another_leads(
    rig: ClusterRig, chance: Random
) -> None:
    before = pids(rig)
    fault = Pause(Whom.BUS_LEADER)
    told = await fault.inject(rig, chance)
    paused = told.partition(";")[0]
    assert state(before[paused]) == "T"
    assert await rig.bus_leader() != paused
    await fault.heal(rig)
    assert state(before[paused]) != "T"
    assert pids(rig) == before
    await working(rig)


@pytest.mark.parametrize("whom", [Whom.BUS_FOLLOWER, Whom.AGENT, Whom.ALLOCATOR_LEADER])
async def test_a_full_disk_has_no_room_and_its_healing_keeps_what_was_stored(
    rig: ClusterRig, chance: Random, whom: Whom
) -> None:
    fault = FullDisk(whom)
    process = (await fault.inject(rig, chance)).partition(":")[0]
    place = stored(rig, process)
    assert place in mounts.below(rig.data)
    assert shutil.disk_usage(place).free == 0
    await working(rig)
    if whom is Whom.AGENT:
        await said(rig, process, "agent.db: cannot be written")
    await fault.heal(rig)
    assert not mounts.below(rig.data)
    assert place.joinpath("agent.db" if whom is Whom.AGENT else "").exists()
    await working(rig)


@pytest.mark.parametrize(
    ("whom", "harm"), [(Whom.AGENT, flipped), (Whom.ALLOCATOR_LEADER, truncated)]
)
async def test_a_damaged_checkpoint_is_refused_and_made_anew(
    rig: ClusterRig, chance: Random, whom: Whom, harm: Harm
) -> None:
    await working(rig)
    fault = DamagedCheckpoint(whom, harm)
    await fault.inject(rig, chance)
    await fault.heal(rig)
    await working(rig)


@pytest.mark.parametrize("harm", [flipped, truncated])
async def test_a_damaged_snapshot_is_refused_by_name(
    rig: ClusterRig, chance: Random, harm: Harm
) -> None:
    fault = DamagedSnapshot(harm)
    name = (await fault.inject(rig, chance)).split(",")[0].removeprefix("snapshot ")
    assert name in {info.name for info in await rig.bus.objects.listed()}
    await fault.heal(rig)
    assert name not in {info.name for info in await rig.bus.objects.listed()}
    await working(rig)


@pytest.mark.parametrize("harm", [flipped, truncated])
async def test_a_damaged_stream_file_is_whole_again_once_it_is_healed(
    rig: ClusterRig, chance: Random, harm: Harm
) -> None:
    fault = DamagedStream(Whom.BUS_FOLLOWER, harm)
    server = (await fault.inject(rig, chance)).partition(":")[0]
    await working(rig)
    async with guard.connected(rig.cluster.profile.nats, None, Role.ADMIN) as bus:
        found = await examine(bus, rig.cluster.profile.monitoring)
        assert damaged(found, server) == (Stream.LEDGER,)
        await fault.heal(rig)
        found = await examine(bus, rig.cluster.profile.monitoring)
    assert not [each for each in found.standings if each.faults]
    await working(rig)


@pytest.mark.parametrize(("whom", "seconds"), [(Whom.AGENT, 90), (Whom.ALLOCATOR_LEADER, -86_400)])
async def test_one_service_believes_another_time(
    rig: ClusterRig, chance: Random, whom: Whom, seconds: int
) -> None:
    fault = ClockJump(whom, seconds)
    process = (await fault.inject(rig, chance)).partition(":")[0]
    if whom is Whom.ALLOCATOR_LEADER:
        assert await rig.allocator_leader() == process
    await skewed(rig, process, seconds)
    await working(rig)
    await fault.heal(rig)
    await skewed(rig, process, 0)
    await working(rig)
    assert not list(rig.data.glob("clock-*"))
    assert not [name for name in os.listdir("/dev/shm") if "faketime" in name]


async def test_a_map_without_room_is_named_in_the_status(rig: ClusterRig, chance: Random) -> None:
    fault = FullMap("identities", -1)
    process = (await fault.inject(rig, chance)).partition(":")[0]
    assert len(schemas(rig, process)) == 2  # the programs read the old ones still
    await fault.heal(rig)
    await working(rig)
    assert len(schemas(rig, process)) == 1


@pytest.mark.parametrize(
    "fault",
    [OtherMaps({"TABARD_POLICIES_MAX": "70000"}), OtherMaps({}, NEWER_FORMAT)],
    ids=["sizes", "format"],
)
async def test_an_agent_goes_on_to_maps_of_another_schema_and_back(
    rig: ClusterRig, chance: Random, fault: OtherMaps
) -> None:
    told = await fault.inject(rig, chance)
    process, before, _, after = told.replace(":", "").split()
    assert schemas(rig, process) == [after] != [before]
    await working(rig)
    await fault.heal(rig)
    assert schemas(rig, process) == [before]
    assert not list(rig.data.glob("code-*"))
    await working(rig)


async def test_a_flood_is_taken_in_its_order_and_only_what_one_node_may_not_is_passed_over(
    rig: ClusterRig, chance: Random
) -> None:
    fault = Flood()
    await fault.inject(rig, chance)
    await working(rig)
    kept: dict[str, Pairs] = {}
    junk = 0
    for each in rig.acknowledged:
        (message,) = await rig.bus.read(Stream.OBSERVED, each.sequence, 1)
        assert blake2b(message.payload, digest_size=16).hexdigest() == each.payload_hash
        if each.kind == "junk":
            junk += 1
        elif isinstance(event := recorded(Stream.OBSERVED, message).event, NamespaceLabelsSet):
            kept[event.name] = event.labels
    state = await catch_up(rig.bus, State())
    assert kept == {name: tuple(state.namespaces[name].items()) for name in kept}
    refused = sum(stream == Stream.OBSERVED for stream, _ in state.quarantined)
    assert 0 < refused <= EVENTS_MAX / REFUSAL_COST + 5 < junk
    assert any(name.startswith("flood-") for _, _, name in state.refused_policies)
    await fault.heal(rig)
    await working(rig)
    state = await catch_up(rig.bus, State())
    assert not [name for name in state.namespaces if name.startswith("flood-")]
    assert not state.refused_policies


async def skewed(rig: ClusterRig, process: str, seconds: int) -> None:
    """Wait until a process's words are that far from the bus's time."""
    kind, _, rest = process.partition(".")
    subject = status_subject(rest) if kind == "agent" else allocator_subject(f"{kind}-{rest}")
    async with asyncio.timeout(20):
        while True:
            found = await rig.bus.last_on_subject(Stream.STATUS, subject)
            assert found is not None
            at = recorded(Stream.STATUS, found).envelope.occurred_at
            if abs((at - found.stored_at) / 1e9 - seconds) < 5:
                return
            await asyncio.sleep(0.05)


def state(pid: int) -> str:
    """The letter that proc(5) gives."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
