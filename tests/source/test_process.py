"""The source as a process on a real nats-server."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import workloads
from gates import StubGate
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.port import Stream
from tabard.events.observed import NodeJoined, WorkloadSet
from tabard.ledger.messages import first_cause, observed
from tabard.source.pods.measurements import FILE
from workloads import Ledger

pytestmark = pytest.mark.nats


async def process(directory: Path, **settings: str) -> asyncio.subprocess.Process:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TABARD_")}
    with (directory / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tabard.source",
            env=inherited | {f"TABARD_{key}": value for key, value in settings.items()},
            stdout=log,
            stderr=log,
        )


async def ended(running: asyncio.subprocess.Process, number: signal.Signals) -> int:
    running.send_signal(number)
    async with asyncio.timeout(20):
        return await running.wait()


async def pods(ledger: Ledger, count: int) -> None:
    """Answer until the ledger has so many pods."""
    async with asyncio.timeout(30):
        while not await ledger.answer() or len(ledger.state.endpoints) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_process_starts_pods_survives_sigkill_and_ends_on_sigterm(
    nats_bus: JetStreamBus, nats_url: str, tmp_path: Path
) -> None:
    settings = {
        "NATS": nats_url,
        "CLUSTER": "test",
        "DATA": str(tmp_path / "data"),
        "PODS": "memory",
        "NODES_DIR": str(tmp_path),
    }
    ledger, stub = Ledger(nats_bus), StubGate()

    async def publish(*events: NodeJoined | WorkloadSet) -> None:
        messages = [observed(event, first_cause("", 0)) for event in events]
        await nats_bus.publish(Stream.OBSERVED, messages)

    async with stub.serve(tmp_path, "n1"):
        await publish(
            NodeJoined("n1", ("192.0.2.1",), ("10.244.1.0/24",)),
            WorkloadSet(workloads.document(replicas=2)),
        )
        first = await process(tmp_path, **settings)
        await pods(ledger, 2)
        log = tmp_path / "data" / FILE
        await workloads.until(lambda: log.exists() and log.read_text().count("\n") == 2)
        await ended(first, signal.SIGKILL)

        second = await process(tmp_path, **settings)
        await publish(WorkloadSet(workloads.document(replicas=3)))
        await pods(ledger, 3)
        await workloads.until(lambda: len({r["pod"]["uid"] for r in stub.asked("attach")}) == 3)
        assert await ended(second, signal.SIGTERM) == 0
        assert len(stub.asked("detach")) == 3


async def test_wrong_settings_are_named_and_end_it_with_2(tmp_path: Path) -> None:
    wrong = await process(tmp_path, CLUSTER="-", DATA=str(tmp_path), NATS="x", PODS="some")
    async with asyncio.timeout(20):
        assert await wrong.wait() == 2
    said = (tmp_path / "log").read_text()
    assert "TABARD_CLUSTER" in said
    assert "TABARD_PODS" in said
