"""Pods through the gate of a whole agent, on a bus and a dataplane in memory."""

import asyncio
import json
from pathlib import Path

import pytest

from agent.rig import Bench, Client, Ledger, Recorder, attaching, bound, pod, running, until
from tabard.agent.errors import Code, GateError
from tabard.agent.gate import ATTACHES_MAX, Gate
from tabard.agent.reconciler import Standing
from tabard.agent.requests import Attach
from tabard.bus.memory import MemoryBus
from tabard.dataplane.maps import address
from tabard.dataplane.port import MapSizes
from tabard.events import ledger as events

WEB = pod("web", "10.244.1.5", app="web")


def known(ledger: Ledger, **labels: str) -> int:
    return ledger.identity(ledger.labels_of("default", labels or {"app": "web"}))


async def test_a_known_label_set_is_up_without_a_word_from_the_bus(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    number = known(ledger)
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(end)
        answer = await agent.attach(WEB)
        assert answer["ok"]
        assert (answer["identity"], answer["local"], answer["sequence"]) == (number, True, end)
        assert answer["resolve_ms"] < 50
        entry = agent.maps.endpoints[address("10.244.1.5")]
        assert entry.identity == number
        assert entry.mac == bytes.fromhex("020000000001")
        assert agent.dataplane.calls == ["write", "attach web", "write"]


async def test_when_the_ledger_binds_the_pod_otherwise_it_switches(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        await agent.attach(WEB)
        bound(ledger, pod("web", "10.244.1.5", app="db"))
        await agent.enforces(await ledger.write(bus))
        assert agent.maps.endpoints[address("10.244.1.5")].identity == known(ledger, app="db")


async def test_an_unknown_label_set_waits_for_the_ledger(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        asked = asyncio.ensure_future(agent.attach(WEB))
        await until(lambda: "attach web" in agent.dataplane.calls)
        assert agent.maps.endpoints == {}
        bound(ledger, WEB)
        await ledger.write(bus)
        answer = await asked
        assert answer["ok"]
        assert not answer["local"]
        assert answer["identity"] == known(ledger)
        assert agent.maps.endpoints[address("10.244.1.5")].identity == known(ledger)


async def test_an_identity_that_never_comes_is_a_timeout_and_the_pod_stays_closed(
    tmp_path: Path,
) -> None:
    ledger, bus = Ledger(), MemoryBus()
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        answer = await agent.attach(WEB, timeout_ms=50)
        assert (answer["ok"], answer["code"]) == (False, "timeout")
        assert "waited 50 ms for an identity for its label set" in answer["error"]
        assert f"LEDGER/{ledger.written}" in answer["error"]
        assert agent.dataplane.attached().keys() == {"web"}  # guarded
        assert len(agent.agent.reconciler.attachments) == 0
        # Bound too late, it is not let in behind its caller's back.
        bound(ledger, WEB)
        await agent.enforces(await ledger.write(bus))
        assert agent.maps.endpoints == {}
        assert (await agent.attach(WEB))["ok"]


async def test_before_the_agent_is_in_sync_a_pod_waits(tmp_path: Path) -> None:
    async with running(tmp_path) as agent:
        answer = await agent.attach(WEB, timeout_ms=50)
        assert answer["code"] == "timeout"
        assert "to be in sync with the ledger" in answer["error"]
        assert agent.dataplane.calls == ["attach web"]


async def test_a_refusal_in_the_ledger_is_told_at_once(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        asked = asyncio.ensure_future(agent.attach(WEB))
        await until(lambda: "attach web" in agent.dataplane.calls)
        ledger.emit(
            events.PodRefused(
                "web", "default", "web", "too odd", False, "n1", (), (), 0, "", (), "", False
            )
        )
        await ledger.write(bus)
        answer = await asked
        assert (answer["ok"], answer["code"]) == (False, "refused")
        assert "too odd" in answer["error"]


async def test_a_refusal_after_the_pod_came_up_closes_it(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        assert (await agent.attach(WEB))["ok"]
        ledger.emit(
            events.PodRefused(
                "web", "default", "web", "too odd", True, "n1", (), (), 0, "", (), "", False
            )
        )
        await agent.enforces(await ledger.write(bus))
        assert agent.maps.endpoints == {}
        assert agent.dataplane.attached().keys() == {"web"}


async def test_an_identity_that_retires_before_the_pod_is_bound_closes_it(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    number = known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        assert (await agent.attach(WEB))["ok"]
        ledger.retire(number)
        await agent.enforces(await ledger.write(bus))
        assert agent.maps.endpoints == {}
        assert number not in agent.maps.identities


async def test_an_interface_that_is_not_there_is_named(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus, Recorder(links=("eth0",))) as agent:
        answer = await agent.attach(WEB)
        assert (answer["ok"], answer["code"]) == (False, "link")
        assert "tbweb" in answer["error"]


async def test_a_full_map_is_told_and_the_pod_stays_closed(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus, Recorder(sizes=MapSizes(endpoints=1))) as agent:
        await agent.enforces(ledger.written)
        assert (await agent.attach(WEB))["ok"]
        answer = await agent.attach(pod("two", "10.244.1.6", app="web"))
        assert (answer["ok"], answer["code"]) == (False, "dataplane")
        assert "is full (1 of 1)" in answer["error"]
        assert agent.maps.endpoints.keys() == {address("10.244.1.5")}
        # Without the pod that does not fit, the agent goes on.
        await until(lambda: agent.agent.report.error == "")


async def test_a_wrong_request_is_answered_with_its_field(tmp_path: Path) -> None:
    async with running(tmp_path, MemoryBus()) as agent:
        answer = await agent.ask("attach", **(attaching(WEB) | {"mac": "?"}))
        assert (answer["ok"], answer["code"]) == (False, "invalid")
        assert answer["error"].startswith("mac is")


async def test_a_hundred_pods_at_once_share_ticks(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    pods = [pod(f"p{n}", f"10.244.1.{n}", app="web") for n in range(1, 101)]
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        before = agent.agent.reconciler.ticks
        answers = await asyncio.gather(*map(agent.attach, pods))
        assert all(answer["ok"] and answer["local"] for answer in answers)
        assert len(agent.maps.endpoints) == 100
        assert agent.agent.reconciler.ticks - before <= 30
        assert (await agent.ask("status"))["endpoints"] == 100


async def test_one_attach_more_than_the_most_is_told_busy() -> None:
    bench = Bench()
    gate = Gate(bench.reconciler, bench.follower, attaches_max=2)

    def attach(uid: str) -> Attach:
        return Attach(pod(uid), "eth0", "02:00:00:00:00:01", 60_000)

    waiting = [asyncio.ensure_future(gate.attach(attach(uid))) for uid in ("a", "b")]
    await until(lambda: len(bench.dataplane.calls) == 2)
    with pytest.raises(GateError, match="2 pods are being attached") as caught:
        await gate.attach(attach("c"))
    assert caught.value.code is Code.BUSY
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    bench.reconciler.stand(Standing.OFFLINE)
    last = asyncio.ensure_future(gate.attach(attach("c")))  # there is room again
    await until(lambda: "attach c" in bench.dataplane.calls)
    last.cancel()
    assert ATTACHES_MAX == 256


async def test_a_pod_is_not_attached_twice_at_once_nor_detached_meanwhile(tmp_path: Path) -> None:
    bus = MemoryBus()
    async with running(tmp_path, bus) as agent:
        asked = asyncio.ensure_future(agent.attach(WEB, timeout_ms=200))
        await until(lambda: "attach web" in agent.dataplane.calls)
        assert (await agent.attach(WEB))["code"] == "busy"
        assert (await agent.ask("detach", uid="web"))["code"] == "busy"
        assert (await asked)["code"] == "timeout"
        assert "detach web" not in agent.dataplane.calls


async def test_a_pod_is_not_attached_while_it_is_detached(tmp_path: Path) -> None:
    async with running(tmp_path) as agent:
        reader, writer = await asyncio.open_unix_connection(agent.socket)
        detach = {"id": 1, "op": "detach", "uid": "web", "timeout_ms": 50}
        for request in (detach, {"id": 2, "op": "attach", **attaching(WEB)}):
            writer.write(json.dumps(request).encode() + b"\n")
        answers = [json.loads(await reader.readline()) for _ in range(2)]
        assert {one["id"]: one["code"] for one in answers} == {1: "timeout", 2: "busy"}
        assert agent.dataplane.calls == []
        writer.close()


async def test_attaching_again_is_no_error_and_failing_to_leaves_the_pod_up(
    tmp_path: Path,
) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        assert (await agent.attach(WEB))["ok"]
        maps = agent.maps
        assert (await agent.attach(WEB))["ok"]
        assert agent.maps == maps
        unknown = pod("web", "10.244.1.5", app="nobody knows")
        assert (await agent.attach(unknown, timeout_ms=20))["code"] == "timeout"
        assert agent.maps == maps


async def test_the_endpoint_leaves_before_the_guard(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        await agent.attach(WEB)
        assert await agent.ask("detach", uid="web") == {"ok": True}
        assert agent.maps.endpoints == {}
        assert agent.dataplane.calls[-2:] == ["write", "detach web"]
        assert await agent.ask("detach", uid="web") == {"ok": True}


async def serves_without_a_bus(agent: Client) -> None:
    answer = await agent.attach(pod("new", "10.244.1.9", app="web"))
    assert (answer["ok"], answer["local"]) == (True, True)
    waits = await agent.attach(pod("odd", "10.244.1.10", app="odd"), timeout_ms=30)
    assert waits["code"] == "timeout"


async def test_known_label_sets_start_pods_when_the_bus_is_lost(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(ledger.written)
        await agent.lose_bus()
        await serves_without_a_bus(agent)


async def test_known_label_sets_start_pods_of_an_agent_that_never_saw_the_bus(
    tmp_path: Path,
) -> None:
    ledger, bus = Ledger(), MemoryBus()
    known(ledger)
    bound(ledger, WEB)
    await ledger.write(bus)
    dataplane = Recorder()
    async with running(tmp_path, bus, dataplane) as agent:
        await agent.enforces(ledger.written)
        await agent.attach(WEB)
    stood = dataplane.read()
    async with running(tmp_path, None, dataplane) as agent:
        assert agent.maps == stood
        await serves_without_a_bus(agent)
        assert agent.maps.endpoints.items() > stood.endpoints.items()
        assert (await agent.ask("detach", uid="new"))["ok"]
        assert agent.maps.endpoints == stood.endpoints
        assert (await agent.ask("status"))["standing"] == "offline"
