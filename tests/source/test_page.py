"""What a source says of itself over HTTP, as a process on a real nats-server."""

import asyncio
import contextlib
from pathlib import Path

import pytest

import workloads
from gates import StubGate
from scraping import service
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Stream
from tabard.bus.server import EmbeddedServer
from tabard.events.observed import NodeJoined, ObservedEvent, WorkloadSet
from tabard.ledger.messages import first_cause, observed
from workloads import Ledger

pytestmark = pytest.mark.nats


async def test_a_sources_figures_follow_its_pods_and_its_readiness_the_bus(
    own_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    bus = await JetStreamBus.connect(own_nats_server.url, name="test")
    stub = StubGate()
    settings = {
        "NATS": own_nats_server.url,
        "CLUSTER": "test",
        "PODS": "memory",
        "NODES_DIR": str(tmp_path),
    }
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(bus.close)
        await bus.ensure_streams()
        ledger = Ledger(bus)

        async def publish(*events: ObservedEvent) -> None:
            await bus.publish(
                Stream.OBSERVED, [observed(event, first_cause("", 0)) for event in events]
            )

        async def answer() -> None:
            while True:
                await ledger.answer()
                await asyncio.sleep(0.01)

        await stack.enter_async_context(stub.serve(tmp_path, "n1"))
        stub.answer = lambda request: {"ok": False, "code": "busy", "error": "test"}
        await publish(
            NodeJoined("n1", ("192.0.2.1",), ("10.244.1.0/24",)),
            WorkloadSet(workloads.document(replicas=2)),
        )
        one = await stack.enter_async_context(service("tabard.source", tmp_path, **settings))
        assert "does not show yet" in await one.becomes(503)
        answering = asyncio.create_task(answer())
        try:
            await one.becomes(200)
            await one.shows(2, "tabard_source_pods", state="starting")
            assert await one.value("tabard_source_workloads") == 1
            assert await one.value("tabard_source_published_total", event="started") == 2

            answered = {"ok": True, **{k: 1 for k in ("identity", "sequence", "local")}}
            answered |= {"resolve_ms": 0.1, "program_ms": 0.1}
            stub.answer = lambda request: answered
            await one.shows(2, "tabard_source_pods", state="running")
            assert await one.value("tabard_source_pod_ready_seconds_count") == 2
            assert await one.value("tabard_source_pod_failures_total", attempt="start") >= 2

            # No node can take a pod that wants one which is not there.
            lost = workloads.document(name="lost", nodeName="n9")
            await publish(WorkloadSet(lost))
            await one.shows(1, "tabard_source_waiting_pods")

            await publish(WorkloadSet(workloads.document(replicas=1)))
            await one.shows(1, "tabard_source_pods", state="running")
            assert await one.value("tabard_source_published_total", event="stopped") == 1
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

        await own_nats_server.stop()
        assert (await one.becomes(503)).startswith("not connected to the bus")
        await own_nats_server.start()
        await one.becomes(200)
        assert await one.value("tabard_source_bus_connects_total") == 2
        assert await one.stop() == 0
