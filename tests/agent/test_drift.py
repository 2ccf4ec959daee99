from pathlib import Path

from agent.rig import Bench, Ledger, bound, compiled, pod, running, until
from tabard.agent.attachments import Held
from tabard.agent.drift import LISTED_MAX, Drift, DriftCheck, compare
from tabard.agent.reconciler import Standing
from tabard.bus.memory import MemoryBus
from tabard.dataplane.maps import Maps, address
from tabard.dataplane.port import Change
from world import attachment, network_policy

WEB = pod("web", "10.244.1.5", app="web")


def test_equal_maps_have_not_drifted() -> None:
    maps = Maps(identities=frozenset({5}), hosts={address("10.0.0.1"): 5})
    assert compare(9, maps, maps) == Drift(9)


def test_every_difference_is_named_readably() -> None:
    ledger = Ledger()
    bound(ledger, WEB)
    ledger.policy(network_policy("p", ingress=[{"ports": [{"port": 80}]}]))
    desired = compiled(ledger, {"web": attachment("web", 7)})
    drift = compare(9, Maps(), desired)
    assert (
        drift.count
        == len(drift.missing)
        == sum(len(getattr(desired, name)) for name in desired.__slots__)
    )
    text = "\n".join(drift.missing)
    assert "endpoints 10.244.1.5: identity 256 policy" in text
    assert "ingress peer 0 tcp port 80/16" in text
    assert "prefixes 10.244.2.0 (/120 of 128): identity 9 flags 1 by 192.168.9.2" in text
    assert "nodes 192.168.9.1" in text
    assert "identities 256" in text
    assert compare(9, desired, Maps()).extra == drift.missing
    here, there = {address("10.0.0.1"): 5}, {address("10.0.0.1"): 6}
    assert compare(9, Maps(hosts=here), Maps(hosts=there)) == Drift(
        9, different=("hosts 10.0.0.1: 5, desired 6",), count=1
    )


def test_a_list_names_no_more_than_its_most_and_all_are_counted() -> None:
    most = compare(9, Maps(), Maps(identities=frozenset(range(LISTED_MAX))))
    assert len(most.missing) == most.count == LISTED_MAX
    more = compare(9, Maps(), Maps(identities=frozenset(range(LISTED_MAX + 1))))
    assert (len(more.missing), more.count) == (LISTED_MAX, LISTED_MAX + 1)


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
    assert drift.extra == ("hosts 203.0.113.9: 256",)
    assert len(drift.missing) == 1
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
            "missing": [],
            "extra": ["hosts 203.0.113.9: 256"],
            "different": [],
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
