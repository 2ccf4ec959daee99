"""Each fault on a real cluster: it does what it says, and its healing leaves nothing behind."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from tabard.chaos import rig as rigs
from tabard.chaos.faults import victims
from tabard.chaos.faults.processes import Kill, Pause
from tabard.chaos.rig import ClusterRig
from tabard.cluster.publish import outcome, publish
from tabard.cluster.supervisor import Cluster
from tabard.events.observed import NamespaceLabelsSet

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
    published = await publish(rig.bus, [asked])
    decided = await outcome(rig.bus, published, 30)
    await rig.cluster.wait_enforced(decided.ledger)


async def test_what_is_killed_is_down_until_it_is_healed(rig: ClusterRig, chance: Random) -> None:
    before = pids(rig)
    fault = Kill("kill -9 of the leading allocator", victims.allocator_leader)
    killed = await fault.inject(rig, chance)
    assert {name for name, pid in pids(rig).items() if not pid} == {killed}
    await fault.heal(rig)
    assert {name for name, pid in pids(rig).items() if pid == before[name]} == before.keys() - {
        killed
    }
    await working(rig)


async def test_everything_is_killed_at_once_and_comes_back(rig: ClusterRig, chance: Random) -> None:
    fault = Kill("kill -9 of everything", victims.everything)
    await fault.inject(rig, chance)
    assert not any(pids(rig).values())
    await fault.heal(rig)
    assert all(pids(rig).values())
    await working(rig)


async def test_the_buss_leader_is_paused_until_another_leads(
    rig: ClusterRig, chance: Random
) -> None:
    before = pids(rig)
    fault = Pause("the bus's leader stands still", victims.bus_leader)
    told = await fault.inject(rig, chance)
    paused = told.partition(";")[0]
    assert state(before[paused]) == "T"
    assert await rig.bus_leader() != paused
    await fault.heal(rig)
    assert state(before[paused]) != "T"
    assert pids(rig) == before
    await working(rig)


def state(pid: int) -> str:
    """The letter that proc(5) gives."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
