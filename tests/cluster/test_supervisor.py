import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import scraping
from clusters import remains
from scraping import get
from tabard.bus.port import Stream
from tabard.cluster import profile, supervisor
from tabard.cluster.allocators import Allocators
from tabard.cluster.errors import ClusterError
from tabard.cluster.gate import ask
from tabard.cluster.processes import Program
from tabard.cluster.publish import publish
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.events.observed import NamespaceLabelsSet, PodStopped
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State
from tabard.process.privileges import KERNEL, effective

pytestmark = pytest.mark.nats


def settings(**values: object) -> Settings:
    known = {
        "name": f"t{secrets.token_hex(4)}",
        "nodes": 2,
        "dataplane": "memory",
        "pods": "none",
        "restart_delay_ms": 1,
    }
    return Settings(**(known | values))  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition of the world outside, which tells nobody when it changes."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def readied(url: str) -> None:
    async def has() -> bool:
        return await get(f"{url}/readyz") == (200, "ok\n")

    await scraping.until(has)


async def test_a_cluster_is_ready_inside_the_block_and_gone_after_it(tmp_path: Path) -> None:
    told: list[str] = []
    async with Cluster(settings(), directory=tmp_path, tell=told.append) as cluster:
        assert profile.find("", tmp_path) == cluster.profile
        assert "MEMORY" in told[0].upper()
        head = await cluster.bus.last_sequence(Stream.LEDGER)
        for node in cluster.profile.nodes:
            answer = await ask(cluster.socket(node), "status", 5)
            assert answer["sequence"] >= head - 1
        data = cluster.data

        urls = cluster.profile.http
        assert urls.keys() == {"allocator", "source", "agent.n1", "agent.n2"}
        assert len(set(urls.values())) == 4
        for url in urls.values():
            await readied(url)

        if os.geteuid() == 0:
            held = {name: effective(cluster.pid(name)) for name in cluster.children}
            assert held == dict.fromkeys(cluster.children, frozenset()), "no kernel, no pods"

        killed = cluster.pid("agent.n1")
        cluster.kill("agent.n1", signal.SIGKILL)
        await until(lambda: cluster.pid("agent.n1") not in (0, killed))
        await readied(urls["agent.n1"])  # found again where it was
        assert cluster.exits("agent.n1") == 1

        stopped = cluster.pid("nats")
        cluster.kill("nats", signal.SIGKILL, hold=True)
        await until(lambda: cluster.pid("nats") == 0)
        await cluster.restart("nats")
        await until(lambda: cluster.pid("nats") not in (0, stopped))
        assert cluster.exits("nats") == 0
        await cluster.wait_enforced()
        with pytest.raises(ClusterError, match="there are nats, "):
            cluster.pid("nobody")
    assert remains(cluster.name, tmp_path, data) == []


async def test_of_several_allocators_the_next_leads_when_one_is_killed(tmp_path: Path) -> None:
    async with Cluster(settings(nodes=1, allocators=2), directory=tmp_path) as cluster:
        urls = cluster.profile.http
        for name in ("allocator.1", "allocator.2"):
            await readied(urls[name])

        async def roles() -> dict[str, str]:
            said = await Allocators().heard(cluster.bus)
            return {name: word.status.role for name, word in said.items()}

        before = await roles()
        assert sorted(before.values()) == ["following", "leading"]
        leader = next(name for name, role in before.items() if role == "leading")
        (other,) = before.keys() - {leader}
        cluster.kill(leader.replace("-", "."), signal.SIGKILL, hold=True)

        async def taken_over() -> bool:
            return (await roles())[other] == "leading"

        await scraping.until(taken_over)
        await publish(cluster.bus, [PodStopped("x")])
        await cluster.restart(leader.replace("-", "."))
        await readied(urls[leader.replace("-", ".")])
        assert await roles() == {leader: "following", other: "leading"}


async def test_a_name_that_is_in_use_is_refused(tmp_path: Path) -> None:
    wanted = settings(nodes=1)
    async with Cluster(wanted, directory=tmp_path) as first:
        with pytest.raises(ClusterError, match="runs already"):
            await Cluster(wanted, directory=tmp_path).__aenter__()
        assert profile.read(wanted.name, tmp_path) == first.profile
        assert first.pid("agent.n1")


async def test_a_dead_run_of_the_name_is_swept_first(tmp_path: Path) -> None:
    wanted = settings(nodes=1)
    old = tmp_path / "old"
    old.mkdir()
    dead = profile.Profile(
        wanted.name, os.getpid(), 1, (), "", str(old), False, (), "overlay", "memory", "none"
    )
    profile.claim(dead, tmp_path / "run")
    async with Cluster(wanted, directory=tmp_path / "run"):
        assert not old.exists()


async def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "print('no such bus'); raise SystemExit(3)"
    broken = Program((sys.executable, "-c", code), dict(os.environ))
    monkeypatch.setattr(supervisor, "allocator", lambda place, netns, name: broken)
    wanted = settings(nodes=1)
    with pytest.raises(ClusterError, match="no such bus"):
        await Cluster(wanted, directory=tmp_path).__aenter__()
    assert remains(wanted.name, tmp_path, tmp_path / "absent") == []


@pytest.mark.parametrize("line", ["cluster", "bus"])
async def test_a_start_that_is_interrupted_leaves_nothing(tmp_path: Path, line: str) -> None:
    """Cancelled right after a step of the start told of itself."""
    wanted = settings(nodes=1)
    starting: asyncio.Task[Cluster] | None = None

    def tell(text: str) -> None:
        if text.startswith(line) and starting is not None:
            starting.cancel()

    cluster = Cluster(wanted, directory=tmp_path, tell=tell)
    starting = asyncio.ensure_future(cluster.__aenter__())
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert remains(wanted.name, tmp_path, Path(cluster.profile.data)) == []


async def test_a_start_that_is_interrupted_while_it_takes_its_name_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(nodes=1)
    claim, loop = profile.claim, asyncio.get_running_loop()

    def claim_and_be_interrupted(claimed: profile.Profile, directory: Path) -> None:
        claim(claimed, directory)
        loop.call_soon_threadsafe(starting.cancel)

    monkeypatch.setattr(supervisor.profile, "claim", claim_and_be_interrupted)
    starting = asyncio.ensure_future(Cluster(wanted, directory=tmp_path).__aenter__())
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert remains(wanted.name, tmp_path, tmp_path / "absent") == []


async def test_kept_data_is_the_same_cluster_again_with_fewer_nodes(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    async with Cluster(settings(name="", data=data), directory=run) as first:
        head = await first.wait_enforced()
    assert data.exists()
    assert remains(first.name, run, tmp_path / "absent") == []
    async with Cluster(settings(name="", data=data, nodes=1), directory=run) as second:
        assert second.name == first.name
        assert await second.bus.last_sequence(Stream.LEDGER) > head


async def test_data_is_not_kept_where_others_can_write(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    with pytest.raises(ClusterError, match="only this user can write"):
        await Cluster(settings(data=data), directory=tmp_path / "run").__aenter__()
    assert not any(data.iterdir())


def test_a_data_directory_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)

    async def start() -> None:
        await Cluster(settings(data=deep), directory=tmp_path / "run").__aenter__()

    with pytest.raises(ClusterError, match="socket paths"):
        asyncio.run(start())
    assert not list((tmp_path / "run").glob("*"))


@pytest.mark.ebpf
async def test_each_process_of_a_cluster_in_the_kernel_has_what_it_needs_and_no_more(
    tmp_path: Path,
) -> None:
    wanted = settings(nodes=1, dataplane="ebpf", pods="netns")
    async with Cluster(wanted, directory=tmp_path) as cluster:
        held = {name: effective(cluster.pid(name)) for name in cluster.children}
        assert held == {
            "nats": frozenset(),
            "allocator": frozenset(),
            "source": {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"},
            "agent.n1": KERNEL,
        }
        answer = await ask(cluster.socket("n1"), "status", 5)
        assert (answer["dataplane"], answer["error"]) == ("ebpf", "")


async def test_a_node_that_was_lost_reads_on_and_is_taken_back(tmp_path: Path) -> None:
    """Its agent stands still for longer than the limit, while there is something to enforce."""
    wanted = settings(nodes=2, extra={"NODE_LOST_MS": "1000"})
    async with Cluster(wanted, directory=tmp_path) as cluster:
        state = await catch_up(cluster.bus, State())
        cluster.kill("agent.n1", signal.SIGSTOP)
        await publish(cluster.bus, [NamespaceLabelsSet("late", (("a", "b"),))])

        async def knows(lost: bool) -> bool:
            await catch_up(cluster.bus, state)
            return ("n1" in state.lost) is lost

        await scraping.until(lambda: knows(True))
        cluster.kill("agent.n1", signal.SIGCONT)
        await scraping.until(lambda: knows(False))
        await cluster.wait_enforced()
        assert cluster.exits("agent.n1") == 0
        log = (cluster.data / "logs" / "agent.n1.log").read_text()
        assert "agent.refolding" in log
        assert "agent.refolded" in log
