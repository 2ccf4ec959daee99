"""Real damage to one replica of three: who finds it, who believes it, and how it is mended."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import damage
from tabard.allocator.writer import append
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Outgoing, Stream
from tabard.bus.replicas import Replica, Server, Standing
from tabard.bus.server import EmbeddedServer
from tabard.cli.documents import COMMANDS
from tabard.cluster import repair
from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.events.envelope import Envelope
from tabard.events.ledger import CursorAdvanced
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up, follow
from tabard.ledger.messages import sealed
from tabard.ledger.replicas import Survey, examine, read_all, survey
from tabard.ledger.state import State
from tabard.process import replicas as process_replicas
from tabard.process.replicas import ReplicaWatch

pytestmark = pytest.mark.nats

EVENTS = 2000
READS = 20
"""With two whole replicas of three: a reader that believed the third would be caught."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[damage.Cluster]:
    made = damage.Cluster(tmp_path)
    yield made
    await made.stop()


@pytest.fixture
async def bus(cluster: damage.Cluster) -> AsyncIterator[JetStreamBus]:
    """With EVENTS events on LEDGER, and as many messages on OBSERVED."""
    made = await cluster.start()
    await fill(made)
    yield made
    await made.close()


async def fill(bus: JetStreamBus, changed: int = 0) -> None:
    """The ledger's events are the same on each call, but for a bit of the one at `changed`."""
    events = [
        (CursorAdvanced("OBSERVED", sequence), Envelope(uuid.UUID(int=sequence).bytes, "key", 1))
        for sequence in range(1, EVENTS + 1)
    ]
    messages, _ = sealed(State().chain, events)
    if changed:
        payload = bytearray(messages[changed - 1].payload)
        payload[10] ^= 4
        messages[changed - 1] = replace(messages[changed - 1], payload=bytes(payload))
    for last in range(0, EVENTS, 500):
        await bus.append(messages[last : last + 500], last)
    await bus.publish(
        Stream.OBSERVED, [Outgoing("tabard.observed.x", b"%d" % n) for n in range(1, EVENTS + 1)]
    )


async def follower(cluster: damage.Cluster, stream: Stream = Stream.LEDGER) -> str:
    found = await cluster.told(lambda found: bool(found.leader(stream)))
    return next(each.server for each in found.of(stream) if each.server != found.leader(stream))


async def folded(bus: JetStreamBus) -> set[tuple[int, bytes]]:
    """Where READS readers come to that begin at nothing: sequence and digest of each."""
    states = [await catch_up(bus, State()) for _ in range(READS)]
    return {(state.sequence, digest(state)) for state in states}


async def test_a_flipped_bit_shows_when_replicas_are_read_and_a_metric_says_so(
    cluster: damage.Cluster, bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_replicas, "COUNT_INTERVAL_S", 0.05)
    monkeypatch.setattr(process_replicas, "AGAIN_S", 0.5)
    watch = ReplicaWatch(cluster.monitoring, read_s=3600)
    async with watch.looking(bus):
        await shown(watch, lambda figures: len(figures["tabard_bus_replica_holes"]) == 12)
        victim = await follower(cluster)
        counted = await cluster.harm(victim, partial(damage.flip, sequence=700))
        assert [each.faults for each in counted.of(Stream.LEDGER)] == [(), (), ()]

        found = await examine(bus, cluster.monitoring)
        hurt = [each for each in found.standings if each.faults]
        assert [(each.server, each.stream) for each in hurt] == [(victim, Stream.LEDGER)]
        assert (hurt[0].holes, hurt[0].faults) == (1, ("1 messages are missing: 700",))
        # Not after an hour: a server was started again.
        figures = await shown(
            watch, lambda figures: any(figures["tabard_bus_replica_holes"].values())
        )
        assert {place for place, holes in figures["tabard_bus_replica_holes"].items() if holes} == {
            (victim, "LEDGER")
        }
        async with cluster.down(victim):
            figures = await shown(
                watch, lambda figures: not figures["tabard_bus_replica_reachable"][(victim,)]
            )
        assert sum(figures["tabard_bus_replica_reachable"].values()) == 2


async def shown(
    watch: ReplicaWatch, enough: Callable[[dict[str, dict[tuple[str, ...], float]]], bool]
) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric → labels' values → figure, once there are some and `enough` of them."""
    async with asyncio.timeout(30):
        while True:
            figures = {
                family.name: {tuple(each.labels.values()): each.value for each in family.samples}
                for family in watch.families()
            }
            if figures and enough(figures):
                return figures
            await asyncio.sleep(0.01)


async def test_who_reads_and_appends_while_a_damaged_replica_leads_knows_the_true_ledger(
    cluster: damage.Cluster, bus: JetStreamBus
) -> None:
    truth = await folded(bus)
    victim = await follower(cluster)
    await cluster.harm(victim, partial(damage.flip, sequence=700))
    await cluster.give_lead(bus, Stream.LEDGER, victim)
    assert await folded(bus) == truth
    assert {(await bus.read(Stream.LEDGER, 700, 1))[0].sequence for _ in range(READS)} == {700}

    for _ in range(3):  # as agents do
        state = State()
        async with aclosing(follow(bus, state)) as batches:
            async for _records in batches:
                if state.sequence == EVENTS:
                    break
        assert {(state.sequence, digest(state))} == truth

    state = await catch_up(bus, State())
    event = (CursorAdvanced("OBSERVED", 1), Envelope(bytes(16), "key", 1))
    messages, chain = sealed(state.chain, [event])
    await append(bus, messages, EVENTS, lambda attempt: asyncio.sleep(0.05))
    assert {each[0] for each in await folded(bus)} == {EVENTS + 1}
    assert (await catch_up(bus, State())).chain == chain
    found = await cluster.told(
        lambda found: all(each.replica and not each.behind for each in found.of(Stream.LEDGER))
    )
    audits = await read_all(bus, found, Stream.LEDGER)
    whole = {audited.digest for server, audited in audits.items() if server != victim}
    assert len(whole) == 1
    assert all(not each.unchained for each in audits.values())


async def test_a_hole_is_counted_repaired_from_the_others_and_refused_without_a_majority(
    cluster: damage.Cluster, bus: JetStreamBus
) -> None:
    truth = await folded(bus)
    victim = await follower(cluster)
    found = await cluster.harm(victim, partial(damage.cut, sequence=700))
    hurt = [each for each in found.standings if each.faults]
    assert [(each.server, each.stream) for each in hurt] == [(victim, Stream.LEDGER)]
    assert hurt[0].holes > 1000
    assert "are missing" in hurt[0].faults[0]
    # The worst case: what is to be repaired leads.
    await cluster.give_lead(bus, Stream.LEDGER, victim)

    other = next(server for server in cluster.servers if server != victim)
    found = await cluster.harm(other, partial(damage.flip, sequence=3), Stream.OBSERVED)
    found = await examine(bus, cluster.monitoring)
    assert repair.damaged(found, victim) == (Stream.LEDGER,)
    assert repair.damaged(found, other) == (Stream.OBSERVED,)
    repair.check(found, victim, [Stream.LEDGER])
    with pytest.raises(ClusterError, match="of 3 replicas of OBSERVED 1 are whole beside"):
        repair.check(found, victim, [Stream.OBSERVED])
    with pytest.raises(ClusterError, match=r"no server 'nats\.9' answers"):
        repair.check(found, "nats.9", [Stream.LEDGER])

    after = await repair.repair(
        bus, cluster.monitoring, found, victim, [Stream.LEDGER], cluster, print
    )
    assert all(each.good for each in after.of(Stream.LEDGER))
    await follow_what_is_printed(cluster, other)
    await cluster.told(
        lambda found: all(each.replica and not each.behind for each in found.of(Stream.OBSERVED))
    )
    found = await examine(bus, cluster.monitoring)
    assert all(each.good for each in found.standings)
    (aside,) = (cluster.root / victim / "aside").glob("LEDGER-*")
    assert damage.blocks(aside / "stream")
    assert (aside / "log").is_dir()
    assert await folded(bus) == truth


async def follow_what_is_printed(cluster: damage.Cluster, server: str) -> None:
    """Type what `tabard bus repair` prints for a bus that no `tabard up` of this machine runs."""
    options = ("--nats", ",".join(cluster.urls), "--monitoring", ",".join(cluster.monitoring))
    code, printed, said = await tabard("bus", "repair", server, *options)
    again = f"next: tabard bus check --monitoring {options[3]} --nats {options[1]}"
    assert (code, said.splitlines()[-1]) == (0, again)
    before, _, rest = printed.partition("systemctl stop tabard-nats\n")
    moves, _, after = rest.partition("systemctl start tabard-nats\n")
    assert all(line.startswith("#") for line in (before + after).splitlines())
    async with cluster.down(server):
        await asyncio.to_thread(subprocess.run, ["sh", "-ec", moves], check=True)


async def tabard(*words: str, run_directory: Path | None = None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command in a process of its own."""
    chosen = {} if run_directory is None else {"TABARD_RUN_DIR": str(run_directory)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tabard.cli",
        *words,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | chosen,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_an_observed_event_that_a_replica_lost_is_read_from_another(
    cluster: damage.Cluster, bus: JetStreamBus
) -> None:
    victim = await follower(cluster, Stream.OBSERVED)
    await cluster.harm(victim, partial(damage.cut, sequence=700), Stream.OBSERVED)
    await cluster.give_lead(bus, Stream.OBSERVED, victim)
    for _ in range(3):
        heard: list[bytes] = []
        async for batch in bus.tail(Stream.OBSERVED, 1):
            heard += [message.payload for message in batch]
            if batch[-1].sequence == EVENTS:
                break
        assert heard == [b"%d" % n for n in range(1, EVENTS + 1)]


async def test_an_event_that_a_replica_holds_otherwise_is_told_by_its_chain_and_not_believed(
    cluster: damage.Cluster, bus: JetStreamBus, tmp_path: Path
) -> None:
    """Its checksum is right: so it comes from another bus, whose ledger is the same but for it."""
    truth = await folded(bus)
    other = EmbeddedServer(tmp_path / "other")
    await other.start()
    try:
        forger = await JetStreamBus.connect(other.url, name="forger")
        await forger.ensure_streams()
        await fill(forger, changed=700)
        await forger.close()
    finally:
        await other.stop()

    def forge(stream: Path) -> None:
        shutil.rmtree(stream / "msgs")
        shutil.copytree(damage.folder(tmp_path / "other") / "msgs", stream / "msgs")

    victim = await follower(cluster)
    await cluster.harm(victim, forge)
    assert (await bus.read(Stream.LEDGER, EVENTS, 1))[0].sequence == EVENTS
    found = await examine(bus, cluster.monitoring)
    (hurt,) = (each for each in found.standings if each.faults)
    assert (hurt.server, hurt.faults) == (
        victim,
        ("1 events do not follow from the one before: LEDGER/700",),
    )
    assert await folded(bus) == truth


def test_nothing_outside_of_the_clusters_data_is_moved_at_a_monitors_word(tmp_path: Path) -> None:
    def told(store: Path, account: str, group: str) -> Survey:
        counts = (False, 1, 9, 9, 0, 9, 0, 0.0)
        replica = Replica("nats.2", account, Stream.LEDGER, *counts, group, frozenset(), 3)
        server = Server("http://127.0.0.1:1", "nats.2", str(store), (replica,))
        standing = Standing("nats.2", account, Stream.LEDGER, replica)
        return Survey((server,), (standing,))

    hands = repair.SupervisedHands(tmp_path / "data")
    inside = tmp_path / "data" / "bus" / "nats.2" / "jetstream"
    hands.check(told(inside, "$G", "S-R3F-x"), "nats.2")
    with pytest.raises(ClusterError, match="no server of this cluster"):
        hands.check(told(tmp_path / "data" / ".." / "elsewhere", "$G", "S-R3F-x"), "nats.2")
    repair.folders(told(inside, "TABARD", "S-R3F-x"), "nats.2", Stream.LEDGER)
    for account, group in (("..", "S-R3F-x"), ("TABARD", "../../../etc"), ("TABARD", "*")):
        with pytest.raises(ClusterError, match="which is no folder"):
            repair.folders(told(inside, account, group), "nats.2", Stream.LEDGER)


async def test_a_running_clusters_server_is_examined_and_repaired_by_commands(
    tmp_path: Path,
) -> None:
    settings = Settings(
        name=f"t{secrets.token_hex(4)}", nodes=1, dataplane="memory", pods="none", bus_servers=3
    )
    async with Cluster(settings, directory=tmp_path) as cluster:
        head, monitoring = (
            await cluster.bus.last_sequence(Stream.LEDGER),
            cluster.profile.monitoring,
        )
        run = partial(tabard, run_directory=tmp_path)
        async with repair.SupervisedHands(cluster.data).down("nats.2"):
            assert not cluster.pid("nats.2")
            damage.cut(damage.folder(cluster.data / "bus" / "nats.2"), head // 2)
        async with asyncio.timeout(60):
            while not any(each.holes for each in (await survey(monitoring)).standings):
                pass
        code, told, said = await run("bus", "status", "-o", "json")
        keys = {field.name for field in COMMANDS["bus status"]}
        assert json.loads(told).keys() == keys
        assert [
            (row["server"], row["stream"], row["holes"])
            for row in json.loads(told)["replicas"]
            if row["holes"]
        ] == [("nats.2", "LEDGER", head - head // 2 + 1)]
        assert (code, said.splitlines()[-1]) == (1, "next: tabard bus repair nats.2")
        _, told, said = await run("status")
        assert "3 of 3 servers answer, DAMAGED" in told
        assert "next: tabard bus check" in said.splitlines()
        assert f"nats.2 LEDGER: {head - head // 2 + 1} of" in (await run("doctor"))[1]

        exits = cluster.exits("nats.2")
        code, _, said = await run("bus", "repair", "nats.2")
        assert (code, said.splitlines()[-1]) == (0, "repaired: nats.2 holds what the others hold")
        assert cluster.exits("nats.2") == exits  # it was not taken for a crash, nor started early
        code, _, said = await run("bus", "repair", "nats.2")
        assert (code, said.splitlines()[-1]) == (
            0,
            "the replica of any stream at nats.2 is whole: nothing to repair",
        )
        code, told, _ = await run("bus", "check", "-o", "json")
        assert (code, json.loads(told).keys()) == (0, keys)
