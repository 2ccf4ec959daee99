import asyncio
from pathlib import Path

from agent.rig import running, until
from tabard.agent.flows import FLOWS_BATCH_MAX, FLOWS_WAITING_MAX, Flows
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.dataplane.maps import Direction, Reason, address
from tabard.dataplane.packet import Packet
from tabard.dataplane.port import Verdict
from tabard.events.status import FlowSeen, FlowsSeen
from tabard.ledger.messages import recorded


def verdict(at: int = 1) -> Verdict:
    return Verdict(
        at=at,
        direction=Direction.INGRESS,
        reason=Reason.DENIED_POLICY,
        source=address("10.244.1.5"),
        destination=address("fd00::7"),
        source_identity=256,
        destination_identity=257,
        protocol=6,
        source_port=40_000,
        destination_port=80,
    )


def test_a_verdict_becomes_a_flow_record() -> None:
    flows = Flows("n1", 0)
    flows.deliver([verdict()])
    batch = flows.batch()
    assert batch is not None
    assert list(batch.each()) == [
        FlowSeen(
            node="n1",
            at=1,
            direction="ingress",
            verdict="denied",
            reason="denied_policy",
            source="10.244.1.5",
            destination="fd00::7",
            source_identity=256,
            destination_identity=257,
            protocol=6,
            source_port=40_000,
            destination_port=80,
        )
    ]
    assert flows.batch() is None


def test_a_full_queue_keeps_all_and_one_more_drops_the_oldest_and_counts_it() -> None:
    flows = Flows("n1", 0)
    flows.deliver([verdict(at) for at in range(FLOWS_WAITING_MAX)])
    assert flows.lost == 0
    flows.deliver([verdict(FLOWS_WAITING_MAX)])
    assert flows.lost == 1
    batch = flows.batch()
    assert batch is not None
    assert len(batch.flows) == FLOWS_BATCH_MAX
    assert (batch.lost, batch.flows[0][0]) == (1, 1)


def test_more_at_once_than_the_queue_holds_is_counted_too() -> None:
    flows = Flows("n1", 0)
    flows.deliver([verdict(at) for at in range(FLOWS_WAITING_MAX + 5)])
    assert flows.lost == 5


async def test_what_the_bus_does_not_take_is_lost_and_counted() -> None:
    flows, bus = Flows("n1", 0), MemoryBus()
    await bus.close()
    flows.deliver([verdict(), verdict()])
    run = asyncio.ensure_future(flows.run(bus))
    await until(lambda: flows.lost == 2)
    run.cancel()


async def test_what_the_dataplane_sees_is_published(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with running(tmp_path, bus) as agent:
        packet = Packet(address("10.244.1.5"), address("10.244.1.6"), 6, 1, 2)
        agent.dataplane.from_pod(1, packet)
        await until(lambda: bus.store.logs[Stream.FLOWS].messages)
        [message] = await bus.read(Stream.FLOWS, 1)
        event = recorded(Stream.FLOWS, message).event
        assert message.subject == "tabard.flows.n1"
        assert isinstance(event, FlowsSeen)
        [flow] = event.each()
        assert (flow.verdict, flow.reason) == ("denied", "denied_unknown_endpoint")
