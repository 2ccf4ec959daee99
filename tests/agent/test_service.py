"""The whole agent: starting, restarting, stopping."""

import asyncio
import json
from pathlib import Path

import pytest

from agent.rig import Ledger, Recorder, bound, compiled, pod, running, settings
from tabard.agent.errors import AlreadyRunning
from tabard.agent.server import LINE_BYTES_MAX
from tabard.agent.service import Agent
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Bus
from tabard.dataplane.maps import address
from tabard.dataplane.port import DataplaneError

WEB = pod("web", "10.244.1.5", app="web")


async def test_a_restart_reads_the_tail_only_and_writes_nothing(tmp_path: Path) -> None:
    ledger, bus, dataplane = Ledger(), MemoryBus(), Recorder()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        assert (await agent.attach(WEB))["ok"]
    maps, writes = dataplane.read(), len(dataplane.changes)
    ledger.pod("default/far", {"app": "web"}, node="n2", ip="10.244.2.5")
    ledger.pod("default/farther", {"app": "web"}, node="n2", ip="10.244.2.6")
    end = await ledger.write(bus)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        status = await agent.ask("status")
        assert (status["events"], status["standing"], status["attached"]) == (2, "in_sync", ["web"])
        assert dataplane.read() == maps
        assert not any(dataplane.changes[writes:])


async def test_a_damaged_checkpoint_costs_a_full_replay_and_nothing_else(tmp_path: Path) -> None:
    ledger, bus, dataplane = Ledger(), MemoryBus(), Recorder()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        assert (await agent.attach(WEB))["ok"]
    maps = dataplane.read()
    for part in ("agent.db-wal", "agent.db-shm"):
        (tmp_path / part).unlink(missing_ok=True)
    (tmp_path / "agent.db").write_bytes(b"not a database, by far" * 500)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        assert (await agent.ask("status"))["events"] == end
        assert dataplane.read() == maps


async def test_attachments_are_recovered_though_there_is_no_checkpoint(tmp_path: Path) -> None:
    ledger, bus, dataplane = Ledger(), MemoryBus(), Recorder()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path / "a", bus, dataplane) as agent:
        await agent.enforces(end)
        assert (await agent.attach(WEB))["ok"]
    maps = dataplane.read()
    async with running(tmp_path / "b", bus, dataplane) as agent:
        await agent.enforces(end)
        assert dataplane.read() == maps


async def test_what_a_dataplane_lost_is_attached_again_from_the_checkpoint(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(end)
        assert (await agent.attach(WEB))["ok"]
        maps = agent.maps
    async with running(tmp_path, bus, Recorder()) as agent:
        await agent.enforces(end)
        assert agent.maps == maps
    async with running(tmp_path, bus, Recorder(links=())) as agent:
        await agent.enforces(end)
        assert agent.maps.endpoints == {}


async def test_a_pod_attached_ahead_of_the_ledger_survives_a_restart(tmp_path: Path) -> None:
    ledger, bus, dataplane = Ledger(), MemoryBus(), Recorder()
    ledger.identity(ledger.labels_of("default", {"app": "web"}))
    end = await ledger.write(bus)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        assert (await agent.attach(WEB))["ok"]
    maps = dataplane.read()
    for start_with_bus in (None, bus):
        async with running(tmp_path, start_with_bus, dataplane) as agent:
            assert (await agent.ask("status"))["attached"] == ["web"]
            if start_with_bus is not None:
                await agent.enforces(end)
            assert dataplane.read() == maps


async def test_while_the_agent_was_away_a_pod_stopped(tmp_path: Path) -> None:
    ledger, bus, dataplane = Ledger(), MemoryBus(), Recorder()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        assert (await agent.attach(WEB))["ok"]
    ledger.stop("web")
    end = await ledger.write(bus)
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(end)
        assert agent.maps == compiled(ledger, {})
        assert dataplane.attached().keys() == {"web"}  # guarded until it is detached


async def test_a_second_agent_of_a_node_is_refused(tmp_path: Path) -> None:
    async def connect() -> Bus:
        return MemoryBus()

    async with running(tmp_path, MemoryBus()):
        with pytest.raises(AlreadyRunning, match="n1 is held by another agent on this machine"):
            await Agent(settings(tmp_path), Recorder(), connect).run()


async def test_a_dataplane_that_does_not_open_ends_the_agent(tmp_path: Path) -> None:
    class Shut(Recorder):
        def open(self) -> None:
            raise DataplaneError("no bpf here")

    with pytest.raises(DataplaneError, match="no bpf here"):
        async with running(tmp_path, MemoryBus(), Shut()):
            pass


async def test_status_tells_what_the_contract_says(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(end)
        status = await agent.ask("status")
        assert status["ok"]
        assert (status["node"], status["sequence"], status["folded"]) == ("n1", end, end)
        assert (status["dataplane"], status["mode"], status["error"]) == ("memory", "overlay", "")
        assert status["map_writes"]["nodes"] == 2
        assert status["counters"] == {}


async def test_many_requests_on_one_connection_are_answered_by_id(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBus()) as agent:
        reader, writer = await asyncio.open_unix_connection(agent.socket)
        for number in range(600):
            writer.write(json.dumps({"id": number, "op": "status"}).encode() + b"\n")
        writer.write_eof()
        answers = [json.loads(line) async for line in reader]
        assert sorted(answer["id"] for answer in answers) == list(range(600))
        writer.close()


async def test_a_line_that_is_too_long_is_told_and_ends_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBus()) as agent:
        reader, writer = await asyncio.open_unix_connection(agent.socket)
        writer.write(b"x" * (LINE_BYTES_MAX + 1) + b"\n")
        answer = json.loads(await reader.readline())
        assert answer["code"] == "invalid"
        assert str(LINE_BYTES_MAX) in answer["error"]
        assert await reader.read() == b""
        writer.close()
        assert (await agent.ask("status"))["ok"]


async def test_a_client_that_hangs_up_stops_nothing(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        asked = asyncio.ensure_future(agent.attach(WEB))
        await asyncio.sleep(0.01)
        asked.cancel()
        bound(ledger, WEB)
        await agent.enforces(await ledger.write(bus))
        while address("10.244.1.5") not in agent.maps.endpoints:  # noqa: ASYNC110 - in 10 s
            await asyncio.sleep(0.001)
        assert (await agent.ask("status"))["endpoints"] == 1


async def test_a_packet_is_no_question_for_a_dataplane_that_cannot_judge_it(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBus()) as agent:
        answer = await agent.ask("packet", hook="from_wire")
        assert (answer["ok"], answer["code"]) == (False, "invalid")
