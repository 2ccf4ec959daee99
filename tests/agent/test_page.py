"""What an agent says of itself over HTTP: in memory, and as a process whose bus comes and goes."""

import asyncio
import contextlib
import re
import threading
from pathlib import Path
from typing import Any

import pytest

import scraping
from agent.rig import NODE, Ledger, ask, attaching, bound, pod, running, statuses, until
from scraping import service
from tabard.agent import freshness
from tabard.agent.page import PARTS, AgentPage
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.memory import MemoryBus
from tabard.bus.server import EmbeddedServer
from tabard.dataplane.maps import address
from tabard.dataplane.port import Change, DataplaneError, MapSizes
from tabard.process import bus as process_bus

WEB = pod("web", "10.244.1.5", app="web")


async def shown(page: AgentPage) -> dict[str, float]:
    """`name{label value,…}` → value."""
    return {
        name + "".join(f"{{{value}}}" for _, value in labels): value
        for (name, labels), value in scraping.shown(await page.families()).items()
    }


async def test_figures_are_those_of_the_agents_own_records(tmp_path: Path) -> None:
    bus, ledger = MemoryBus(), Ledger()
    bound(ledger, WEB)
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as client:
        page = AgentPage(client.agent, MapSizes(hosts=77))
        await client.enforces(end)
        assert (await client.attach(WEB))["ok"]
        assert page.unready() == ""
        figures = await shown(page)
        assert figures["tabard_agent_watermark_sequence"] == end
        assert figures["tabard_agent_lag_events"] == 0
        assert figures["tabard_agent_events_total"] == end
        assert figures["tabard_agent_endpoints"] == figures["tabard_agent_attached_pods"] == 1
        assert figures["tabard_agent_attach_seconds_count"] == 1
        assert figures["tabard_agent_map_entries{endpoints}"] == 1
        assert figures["tabard_agent_map_entries_max{hosts}"] == 77
        assert figures["tabard_agent_tick_seconds_count"] >= 1
        # Replayed at the start: it tells nothing of how long an event takes.
        assert figures["tabard_agent_decided_to_enforced_seconds_count"] == 0

        written = figures["tabard_agent_map_writes_total{identities}"]
        bound(ledger, pod("two", "10.244.1.6", app="two"))
        await client.enforces(await ledger.write(bus))
        enforced = "tabard_agent_decided_to_enforced_seconds_count"

        async def timed() -> bool:
            return (await shown(page))[enforced] >= 1

        await scraping.until(timed)
        figures = await shown(page)
        assert figures["tabard_agent_map_writes_total{identities}"] > written

        client.dataplane.write(Change(hosts_set={address("10.9.9.9"): 5}))
        await client.ask("drift")
        assert (await shown(page))["tabard_agent_drift_entries"] == 1


async def test_a_trouble_makes_the_agent_unready_and_names_itself(tmp_path: Path) -> None:
    bus, ledger = MemoryBus(), Ledger()
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as client:
        page = AgentPage(client.agent, MapSizes())
        await client.enforces(end)
        client.dataplane.fail = DataplaneError("the kernel said no")
        bound(ledger, WEB)
        ledger.pod("other/x", {"app": "x"}, ip="10.244.1.9")
        await ledger.write(bus)
        assert not (await client.attach(WEB, timeout_ms=500))["ok"]
        assert "the kernel said no" in page.unready()
        figures = await shown(page)
        assert figures["tabard_agent_trouble{dataplane}"] == 1
        assert figures["tabard_agent_tick_failures_total"] >= 1
        assert sum(v for k, v in figures.items() if "attach_failures" in k) == 1
        client.dataplane.fail = None
        await until(lambda: not page.unready())
        assert (await shown(page))["tabard_agent_trouble{dataplane}"] == 0


async def test_a_scrape_during_a_write_is_answered_without_what_only_the_dataplane_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_bus, "ANSWER_S_MAX", 0.05)
    bus, ledger = MemoryBus(), Ledger()
    end = await ledger.write(bus)
    async with running(tmp_path, bus) as client:
        page = AgentPage(client.agent, MapSizes())
        await client.enforces(end)
        begun, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            go_on.wait(10)

        client.dataplane.before_write = hold
        try:
            bound(ledger, WEB)
            await ledger.write(bus)
            await asyncio.to_thread(begun.wait, 10)
            figures = await shown(page)
            assert figures["tabard_agent_map_entries{identities}"] > 0
            assert not any("verdict" in name for name in figures)
        finally:
            go_on.set()
        await until(lambda: client.agent.reconciler.lock.locked() is False)
        assert page.unready() == ""


async def test_without_a_bus_an_agent_with_nothing_saved_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, None) as client:
        page = AgentPage(client.agent, MapSizes())
        assert "not connected to the bus" in page.unready()
        assert "not in sync with the ledger: waiting" in page.unready()
        figures = await shown(page)
        assert figures["tabard_agent_bus_connected"] == figures["tabard_agent_in_sync"] == 0
    assert statuses(MemoryBus().store) == []


@pytest.mark.nats
async def test_an_agents_readiness_follows_its_bus(
    own_nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    url = own_nats_server.url
    await own_nats_server.stop()
    settings = {
        "NATS": url,
        "CLUSTER": "test",
        "NODE": NODE,
        "UNDERLAY": "192.168.9.1",
        "POD_CIDRS": "10.244.1.0/24",
        "DATAPLANE": "memory",
        "ENDPOINTS_MAX": "1",
    }
    socket = tmp_path / "tabard.agent" / "agent.sock"

    async def told(op: str, **fields: Any) -> dict[str, Any]:
        return await ask(socket, op, **fields)

    async with service("tabard.agent", tmp_path, **settings) as agent:
        assert "not connected to the bus" in await agent.becomes(503)
        assert (await agent.value("tabard_agent_bus_connected")) == 0

        await own_nats_server.start()
        bus = await JetStreamBus.connect(url, name="test")
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(bus.close)
            await bus.ensure_streams()
            ledger = Ledger()
            bound(ledger, WEB)
            end = await ledger.write(bus)
            await agent.becomes(200)
            await agent.shows(end, "tabard_agent_watermark_sequence")
            assert (await told("attach", **attaching(WEB), timeout_ms=10_000))["ok"]
            await told(
                "packet",
                hook="from_pod",
                uid="web",
                source="10.244.1.5",
                destination="10.244.2.5",
                protocol=6,
                destination_port=80,
            )
            found = await agent.scrape()
            verdicts = {
                labels: value for (name, labels), value in found.items() if "verdict" in name
            }
            assert sum(verdicts.values()) >= 1
            assert all(set(dict(labels)) == {"direction", "reason"} for labels in verdicts)
            assert await agent.value("tabard_agent_map_entries_max", map="endpoints") == 1

            # One pod more than the map has room for.
            two = pod("two", "10.244.1.6", app="two")
            bound(ledger, two)
            await ledger.write(bus)
            assert not (await told("attach", **attaching(two), timeout_ms=300))["ok"]
            assert (await agent.value("tabard_agent_map_full_total", map="endpoints")) >= 1
            assert (await agent.value("tabard_agent_attached_pods")) == 1
            await agent.becomes(200)

            await own_nats_server.stop()
            assert own_nats_server.url.removeprefix("nats://") in await agent.becomes(503)
            await own_nats_server.start()
            await agent.becomes(200)
            assert (await agent.value("tabard_agent_bus_connects_total")) == 2
        assert await agent.stop() == 0


def test_every_part_that_can_be_in_trouble_is_among_the_metrics() -> None:
    sources = Path(freshness.__file__).parent.rglob("*.py")
    told = [re.findall(r"\.fail\(\s*\"(\w+)\"", each.read_text()) for each in sources]
    assert {part for parts in told for part in parts} == set(PARTS)
