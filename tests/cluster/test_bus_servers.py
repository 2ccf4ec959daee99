"""A cluster whose bus is held by three servers, and what happens to it when they are lost."""

import asyncio
import itertools
import os
import secrets
import signal
import time
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

import scraping
from deciding import started, stopped
from servers import leader_of, until
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import BusUnavailable, Outgoing, Stream
from tabard.cluster.bus import led, names, servers
from tabard.cluster.errors import ClusterError, NotReached
from tabard.cluster.settings import Settings, apart_hosts, bus_hosts
from tabard.cluster.supervisor import Cluster
from tabard.cluster.watermarks import watermarks
from tabard.events.ledger import EndpointBound, EndpointTombstoned, EndpointUnbound
from tabard.ledger.digest import digest
from tabard.ledger.follow import follow
from tabard.ledger.messages import first_cause, observed
from tabard.ledger.state import State


class Churn:
    """Pods that come and, one in three, go: all of it published, however often that takes."""

    def __init__(self, bus: JetStreamBus) -> None:
        self._bus = bus
        self.pods = 0
        self.ended = False
        self.through = 0
        """OBSERVED's sequence of the last event that was acknowledged."""

    async def run(self) -> None:
        for number in itertools.count():
            if self.ended:
                return
            pod = started(f"p{number}", {"app": f"a{number % 7}"})
            events = [pod] if number % 3 else [pod, stopped(f"p{number}")]
            at = time.time_ns()
            await self._publish([observed(event, first_cause(f"{number}", at)) for event in events])
            self.pods += 1

    async def _publish(self, messages: list[Outgoing]) -> None:
        while True:
            try:
                self.through = (await self._bus.publish(Stream.OBSERVED, messages))[-1]
                return
            except BusUnavailable:
                await asyncio.sleep(0.05)


@pytest.mark.nats
@pytest.mark.timeout(180)
async def test_whatever_servers_are_lost_or_stand_still_each_event_has_its_effect_once(
    tmp_path: Path,
) -> None:
    wanted = Settings(
        name=f"t{secrets.token_hex(4)}",
        nodes=2,
        dataplane="memory",
        pods="none",
        bus_servers=3,
        restart_delay_ms=1,
    )
    told: list[str] = []
    state, bound, unbound = State(), Counter[str](), Counter[str]()
    never_ran = Counter[str]()
    """Pods whose stop waited with their start."""

    async def fold(bus: JetStreamBus) -> None:
        async with aclosing(follow(bus, state)) as batches:
            async for records in batches:
                for record in records:
                    if isinstance(record.event, EndpointBound):
                        bound[record.event.uid] += 1
                    elif isinstance(record.event, EndpointUnbound):
                        unbound[record.event.uid] += 1
                    elif isinstance(record.event, EndpointTombstoned):
                        never_ran[record.event.uid] += 1

    async with Cluster(wanted, directory=tmp_path, tell=told.append) as cluster:
        names = [f"nats.{number}" for number in (1, 2, 3)]
        assert len(cluster.profile.nats) == len(cluster.profile.monitoring) == 3

        async def well() -> bool:
            return await cluster.out_of_step() == []

        await scraping.until(well)
        bus = await JetStreamBus.connect(cluster.profile.nats, name="churn")
        churn = Churn(bus)
        folding = asyncio.create_task(fold(bus))
        churning = asyncio.create_task(churn.run())

        async def goes_on() -> None:
            """What is published from now on is decided."""
            before = churn.pods
            await until(lambda: churn.pods > before + 1)
            through = churn.through
            await until(lambda: state.cursors.get(Stream.OBSERVED, 0) >= through)

        await goes_on()
        leader = await leader_of(bus)
        cluster.kill(leader)
        await goes_on()
        leader = await leader_of(bus)
        stood = cluster.pid(leader)
        cluster.kill(leader, signal.SIGSTOP)
        assert leader in await cluster.out_of_step()
        await goes_on()
        os.kill(stood, signal.SIGCONT)
        for name in names:
            cluster.kill(name)
        await goes_on()
        # One that came back before its port was free has ended once more.
        assert sum(cluster.exits(name) for name in names) >= 4

        churn.ended = True
        await churning
        await until(lambda: state.cursors.get(Stream.OBSERVED, 0) >= churn.through)
        await cluster.wait_enforced()
        pods = {f"p{number}" for number in range(churn.pods)}
        assert bound + never_ran == dict.fromkeys(pods, 1)
        assert unbound + never_ran == dict.fromkeys((f"p{n}" for n in range(0, churn.pods, 3)), 1)

        async with asyncio.timeout(30):
            while True:
                words = await watermarks(bus, ("n1", "n2"))
                if {word.status.digest_at for word in words.values()} == {state.sequence}:
                    break
                await asyncio.sleep(0.1)
        assert {word.status.digest for word in words.values()} == {digest(state)}
        folding.cancel()
        await asyncio.gather(folding, return_exceptions=True)
        await bus.close()


def test_kept_data_comes_back_with_as_many_servers_or_says_how(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "bus" / "jetstream").mkdir(parents=True)
    with pytest.raises(ClusterError, match="of 1 server, not of 3") as caught:
        servers(3, "demo", old, "", {})
    assert caught.value.next == f"tabard up --data {old} --bus-servers 1"
    assert list(servers(1, "demo", old, "", {})) == ["nats"]

    new = tmp_path / "new"
    new.mkdir()
    assert list(servers(3, "demo", new, "", {})) == ["nats.1", "nats.2", "nats.3"]
    for count in (1, 5):
        with pytest.raises(ClusterError, match="of 3 servers, not") as caught:
            servers(count, "demo", new, "", {})
    assert caught.value.next == f"tabard up --data {new} --bus-servers 3"


@pytest.mark.nats
async def test_a_bus_without_a_majority_of_its_servers_is_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    made = servers(3, "demo", tmp_path, "", {})
    first = made["nats.1"]
    await first.start()
    bus = await JetStreamBus.connect(first.url, name="test")
    with pytest.raises(NotReached, match=r"no leader within 0\.5 s: most servers"):
        await led(bus, made.values(), 3, 0.5, lambda: None)
    with pytest.raises(NotReached, match=r"no leader within 0\.5 s: JetStream"):
        await led(bus, (), 3, 0.5, lambda: None)
    await bus.close()
    await first.stop()


def test_two_clusters_on_one_loopback_share_no_port(tmp_path: Path) -> None:
    made = [servers(3, f"c{n}", tmp_path, "", {}) for n in range(2)]
    urls = [server.url for each in made for server in each.values()]
    assert len(set(urls)) == 6


def test_in_a_namespace_each_server_has_an_address_and_the_usual_port(tmp_path: Path) -> None:
    made = servers(3, "demo", tmp_path, "tb-demo-hub", {})
    assert [server.url for server in made.values()] == [
        f"nats://{host}:4222" for host in bus_hosts(3)
    ]


def test_a_server_that_is_apart_is_monitored_where_others_reach_it(tmp_path: Path) -> None:
    for count in (1, 3):
        apart = apart_hosts(names(count))
        data = tmp_path / f"{count}"
        data.mkdir()
        made = servers(count, "demo", data, "tb-demo-hub", {}, apart)
        for name, server in made.items():
            assert server.url == f"nats://{apart[name]}:4222"
            assert server.monitoring_url.startswith(f"http://{apart[name]}:")


def test_services_are_apart_only_where_the_cluster_has_namespaces_and_a_bus_of_its_own() -> None:
    for values in ({"dataplane": "memory"}, {"nats": ("nats://127.0.0.1:4222",)}):
        with pytest.raises(ClusterError, match="namespaces of their own"):
            Settings(apart=True, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"bus_servers": 2}, {"bus_servers": 0}, {"replicas": 4}])
def test_a_number_of_servers_that_gains_nothing_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ClusterError, match="1, 3 or 5"):
        Settings(**values)  # type: ignore[arg-type]


def test_a_bus_of_several_servers_is_made_or_used_not_both() -> None:
    with pytest.raises(ClusterError, match="existing bus"):
        Settings(bus_servers=3, nats=("nats://127.0.0.1:4222",))
    assert Settings(replicas=3, nats=("nats://127.0.0.1:4222",)).stream_replicas == 3
    assert Settings(bus_servers=3).stream_replicas == 3
