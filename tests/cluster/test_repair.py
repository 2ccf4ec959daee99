"""Real damage to one replica of three: who finds it, who believes it, and how it is mended."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

import damage
from tabard.allocator.writer import append
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Outgoing, Stream
from tabard.bus.server import EmbeddedServer
from tabard.cluster import repair
from tabard.cluster.errors import ClusterError
from tabard.events.envelope import Envelope
from tabard.events.ledger import CursorAdvanced
from tabard.ledger.digest import digest
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import sealed
from tabard.ledger.replicas import examine, read_all
from tabard.ledger.state import State

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


async def fill(bus: JetStreamBus, forged: int = 0) -> None:
    """The ledger's events are the same on each call, but the one at `forged`."""
    chain, last = State().chain, 0
    while last < EVENTS:
        batch = [
            (
                CursorAdvanced("OBSERVED", sequence + (sequence == forged)),
                Envelope(uuid.UUID(int=sequence).bytes, "key", 1),
            )
            for sequence in range(last + 1, last + 501)
        ]
        messages, chain = sealed(chain, batch)
        last = await bus.append(messages, last)
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


async def test_a_flipped_bit_shows_when_replicas_are_read_and_no_reader_believes_it(
    cluster: damage.Cluster, bus: JetStreamBus
) -> None:
    truth = await folded(bus)
    victim = await follower(cluster)
    counted = await cluster.harm(victim, partial(damage.flip, sequence=700))
    assert [each.faults for each in counted.of(Stream.LEDGER)] == [(), (), ()]
    await cluster.give_lead(bus, Stream.LEDGER, victim)

    assert await folded(bus) == truth
    assert {(await bus.read(Stream.LEDGER, 700, 1))[0].sequence for _ in range(READS)} == {700}

    found = await examine(bus, cluster.monitoring)
    hurt = [each for each in found.standings if each.faults]
    assert [(each.server, each.stream, each.holes) for each in hurt] == [(victim, Stream.LEDGER, 1)]
    assert hurt[0].faults == ("1 messages are missing: 700",)


async def test_who_appends_while_a_damaged_replica_leads_appends_to_the_true_ledger(
    cluster: damage.Cluster, bus: JetStreamBus
) -> None:
    victim = await follower(cluster)
    await cluster.harm(victim, partial(damage.cut, sequence=700))
    await cluster.give_lead(bus, Stream.LEDGER, victim)
    state = await catch_up(bus, State())
    assert state.sequence == EVENTS
    messages, chain = sealed(
        state.chain, [(CursorAdvanced("OBSERVED", 1), Envelope(bytes(16), "key", 1))]
    )
    await append(bus, messages, EVENTS, lambda attempt: asyncio.sleep(0.05))
    assert {each[0] for each in await folded(bus)} == {EVENTS + 1}
    assert (await catch_up(bus, State())).chain == chain
    found = await cluster.told(
        lambda found: all(each.behind == 0 for each in found.of(Stream.LEDGER))
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

    told: list[str] = []
    for server, stream in ((victim, Stream.LEDGER), (other, Stream.OBSERVED)):
        found = await examine(bus, cluster.monitoring)
        repair.check(found, server, [stream])
        after = await repair.repair(
            bus, cluster.monitoring, found, server, [stream], cluster, told.append
        )
        assert all(each.good for each in after.of(stream))
    found = await examine(bus, cluster.monitoring)
    assert all(each.good for each in found.standings)
    (aside,) = (cluster.root / victim / "aside").glob("LEDGER-*")
    assert damage.blocks(aside / "stream")
    assert (aside / "log").is_dir()
    assert await folded(bus) == truth


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
        await fill(forger, forged=700)
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
    assert repair.damaged(found, victim) == (Stream.LEDGER,)
    assert await folded(bus) == truth
