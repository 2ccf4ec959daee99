from pathlib import Path

import pytest

from agent.rig import Bench, Ledger, bound, pod, running, until
from tabard.agent import drift as drifting
from tabard.agent.attachments import Held
from tabard.agent.drift import DriftCheck
from tabard.agent.reconciler import Standing
from tabard.bus.memory import MemoryBus
from tabard.dataplane.maps import address
from tabard.dataplane.plain import maps_of
from tabard.dataplane.port import Change
from world import attachment

WEB = pod("web", "10.244.1.5", app="web")


async def test_tampering_is_found_told_and_repaired() -> None:
    bench, ledger = Bench(), Ledger()
    bound(ledger, WEB)
    bench.reconciler.state = ledger.state
    bench.reconciler.attachments.put(Held(attachment("web"), "tbweb"))
    bench.reconciler.stand(Standing.IN_SYNC)
    await bench.reconciler.tick()
    check = DriftCheck(bench.reconciler, bench.report, 60)
    assert (await check.check()).count == 0
    maps = bench.dataplane.read()
    stranger = address("203.0.113.9")
    bench.dataplane.write(
        Change(hosts_set={stranger: 256}, endpoints_removed=frozenset(maps.endpoints))
    )
    drift = await check.check()
    assert [(each.kind, each.map) for each in drift.entries] == [
        ("extra", "hosts"),
        ("missing", "endpoints"),
    ]
    assert str(drift.entries[0]) == "hosts 203.0.113.9: 256"
    assert bench.report.status().drift == 2
    await bench.reconciler.tick()
    assert bench.dataplane.read() == maps
    assert (await check.check()).count == 0
    assert bench.report.status().drift == 0


async def test_drift_is_told_on_demand(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(end)
        agent.dataplane.write(Change(hosts_set={address("203.0.113.9"): 256}))
        assert await agent.ask("drift") == {
            "ok": True,
            "sequence": end,
            "entries": [{"map": "hosts", "key": "203.0.113.9", "held": "256", "wanted": None}],
            "count": 1,
        }


async def test_drift_is_looked_for_from_time_to_time(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path, bus, drift_interval_ms=5) as agent:
        await agent.enforces(end)
        maps = agent.maps
        agent.dataplane.write(Change(hosts_set={address("203.0.113.9"): 256}))
        await until(lambda: agent.maps == maps)


async def test_what_is_held_is_handed_out_whole(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.attach(WEB)
        await agent.enforces(end)
        answer = await agent.ask("contents")
        assert (answer["ok"], answer["sequence"]) == (True, end)
        assert maps_of(answer["maps"]) == agent.maps
        assert len(agent.maps.endpoints) == 1
        (entry,) = agent.maps.endpoints.values()
        macs = [entry.mac.hex(), entry.host_mac.hex()]
        assert answer["attached"] == [["web", entry.ifindex, *macs]]


async def test_more_than_the_most_is_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, bus = Ledger(), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as agent:
        await agent.enforces(end)
        count = sum(len(getattr(agent.maps, name)) for name in agent.maps.__slots__)
        monkeypatch.setattr(drifting, "CONTENTS_ENTRIES_MAX", count)
        assert (await agent.ask("contents"))["ok"]
        # One more than the agent itself expects is found by reading.
        agent.dataplane.write(Change(hosts_set={address("203.0.113.9"): 256}))
        answer = await agent.ask("contents")
        assert (answer["ok"], answer["code"]) == (False, "refused")
        assert f"holds {count + 1} entries, and at most {count}" in answer["error"]
        monkeypatch.setattr(drifting, "CONTENTS_ENTRIES_MAX", count - 1)
        assert f"holds {count} entries" in (await agent.ask("contents"))["error"]
