"""How old what a node knows may be: told in memory by a clock of the test's, and by processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.rig import Bench, Ledger, ask, bound, pod, running, statuses, until
from agent.test_process import WEB, agent
from tabard.agent.freshness import ASK_S_MIN, ASKED_MAX, SECOND, Freshness
from tabard.agent.page import AgentPage
from tabard.agent.reconciler import Standing
from tabard.bus.jetstream import JetStreamBus
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Bus, Outgoing
from tabard.bus.server import EmbeddedServer
from tabard.dataplane.port import DataplaneError, MapSizes
from tabard.events.status import NodeStatus
from world import network_policy


class Told:
    """A bench in sync at the end of a ledger of four events, and a clock that stands."""

    def __init__(self, *, after_s: int = 30, denies: bool = False) -> None:
        self.bench, self.bus, self.now = Bench(), MemoryBus(), 1_000 * SECOND
        self.refreshed: list[int] = []
        self.bench.dataplane.refresh = self.refreshed.append  # type: ignore[method-assign]
        self.freshness = Freshness(
            self.bench.reconciler,
            self.bench.report,
            self.reached,
            after_s=after_s,
            denies=denies,
            clock=lambda: self.now,
        )

    def reached(self) -> Bus | None:
        return self.bus

    async def goes_on(self, seconds: float) -> NodeStatus:
        """Time goes by; then the agent asks and looks."""
        self.now += int(seconds * SECOND)
        await self.freshness.ask()
        await self.freshness.look()
        return self.bench.report.status()


@asynccontextmanager
async def told(*, after_s: int = 30, denies: bool = False) -> AsyncIterator[Told]:
    made, ledger = Told(after_s=after_s, denies=denies), Ledger()
    end = await ledger.write(made.bus)
    made.bench.reconciler.stand(Standing.IN_SYNC)
    made.bench.report.enforced(end, 0)
    yield made


async def test_a_node_is_fresh_as_of_when_it_asked() -> None:
    async with told() as node:
        word = await node.goes_on(1)
        assert node.refreshed == [1_001 * SECOND]
        assert (word.stale_since, word.lag, word.stale_after_ms) == (0, 0, 30_000)
        assert word.fresh_at > 1_600_000_000 * SECOND
        node.bench.report.sequence -= 1
        word = await node.goes_on(1)
        assert (len(node.refreshed), word.lag) == (1, 1)
        node.bench.report.sequence += 1
        node.now += 5 * SECOND
        await node.freshness.look()
        assert node.refreshed[1:] == [1_002 * SECOND], "not as of when it got there"


@pytest.mark.parametrize("what", ["bus", "backlog", "reader", "kernel", "start"])
async def test_whatever_keeps_a_node_from_the_ledgers_head_makes_it_stale(what: str) -> None:
    async with told() as node:
        before = await node.goes_on(0)
        report = node.bench.report
        match what:
            case "bus":
                await node.bus.close()
            case "backlog":
                report.sequence -= 1
            case "reader":
                report.fail("ledger", "the bus holds another ledger")
            case "kernel":

                def refuse(at: int) -> None:
                    raise DataplaneError("the kernel said no")

                node.bench.dataplane.refresh = refuse  # type: ignore[method-assign]
            case "start":
                node.bench.reconciler.standing = Standing.OFFLINE
        assert not (await node.goes_on(30)).stale_since
        word = await node.goes_on(1)
        assert word.stale_since - before.fresh_at == 30 * SECOND
        assert "does not know for more than 30 s what the ledger says; it enforces" in word.error
        assert (await node.goes_on(9)).stale_since == word.stale_since
        assert node.freshness.is_stale


async def test_the_bus_is_asked_seldom_while_the_node_is_fresh_and_often_else() -> None:
    async with told(after_s=30) as node:
        assert node.freshness.pause_s == ASK_S_MIN, "its kernel may wait for the first answer"
        await node.goes_on(0)
        assert node.freshness.pause_s == 5
        node.bench.reconciler.stale_after_s = 3
        assert node.freshness.pause_s == 0.5
        node.now += 4 * SECOND
        assert node.freshness.pause_s == ASK_S_MIN


async def test_a_node_that_is_always_as_far_behind_is_no_older_than_that() -> None:
    async with told() as node:
        head = node.bench.report.sequence
        for _ in range(4 * ASKED_MAX):
            await node.bus.append([Outgoing("tabard.ledger.it.goes_on", b"")], head)
            head += 1
            node.bench.report.sequence = max(0, head - ASKED_MAX - 16)
            await node.goes_on(0.3)
            assert not node.freshness.is_stale, "what was asked 24 s ago has been reached"
        assert node.freshness.age_s >= 0.3 * (ASKED_MAX + 16)


async def test_a_node_that_is_back_says_so_at_once() -> None:
    async with told() as node:
        await node.goes_on(0)
        node.bench.report.sequence -= 1
        assert (await node.goes_on(31)).stale_since
        node.bench.report.sequence += 1
        word = await node.goes_on(0)
        assert (word.stale_since, word.error, word.lag) == (0, "", 0)
        assert not node.freshness.is_stale


async def test_the_shorter_bound_of_agent_and_policies_is_told_and_what_follows() -> None:
    async with told(after_s=30) as node:
        node.bench.reconciler.stale_after_s = 5
        assert (await node.goes_on(0)).deny_after_ms == 5_000
        await node.bus.close()
        word = await node.goes_on(6)
        assert "more than 5 s" in word.error
        assert "new flows are denied" in word.error
    async with told(after_s=30) as node:
        node.bench.reconciler.stale_after_s = 60
        await node.goes_on(0)
        await node.bus.close()
        assert "it enforces what it has" in (await node.goes_on(31)).error
        assert "new flows are denied" in (await node.goes_on(30)).error
    async with told(after_s=30, denies=True) as node:
        assert (await node.goes_on(0)).deny_after_ms == 30_000


async def test_a_stale_agent_is_unready_and_its_page_says_so(tmp_path: Path) -> None:
    ledger, bus = Ledger(), MemoryBus()
    end = await ledger.write(bus)
    async with running(tmp_path, bus, staleness_after_ms=1_000) as client:
        await client.enforces(end)
        page = AgentPage(client.agent, MapSizes())
        await until(lambda: statuses(bus.store) and not page.unready())
        held, client.agent.reconciler.standing = client.agent.reconciler.standing, Standing.OFFLINE
        await until(lambda: "what the ledger says" in page.unready())
        shown = {sample.name: sample.value for f in await page.families() for sample in f.samples}
        assert (shown["tabard_agent_stale"], shown["tabard_agent_known_age_seconds"] > 1) == (
            1,
            True,
        )
        client.agent.reconciler.standing = held
        await until(lambda: not page.unready())


@pytest.mark.nats
async def test_beyond_its_bound_a_node_denies_new_flows_and_after_it_is_healed_passes_them(
    tmp_path: Path,
) -> None:
    """A policy bounds one pod of two; the bus goes away, and comes back."""
    server = EmbeddedServer(tmp_path / "bus")
    await server.start()
    try:
        bus = await JetStreamBus.connect([server.url], name="test")
        await bus.ensure_streams()
        ledger, other = Ledger(), pod("other", "10.244.1.6", app="other")
        bound(ledger, WEB)
        bound(ledger, other)
        policy = network_policy("p", podSelector={"matchLabels": {"app": "web"}}, ingress=[{}])
        policy["metadata"]["annotations"] = {
            "tabard.io/stale-after": "1s",
            "tabard.io/stale-then": "deny-new",
        }
        ledger.policy(policy)
        end = await ledger.write(bus)
        await bus.close()
        async with agent(tmp_path / "agent", server.url) as process:
            await process.enforces(end)
            for one in (WEB, other):
                fields = {name: getattr(one, name) for name in one.__slots__}
                answer = await process.ask(
                    "attach",
                    pod=fields,
                    interface=f"tb{one.uid}",
                    mac="02:00:00:00:00:01",
                    timeout_ms=10_000,
                )
                assert answer["ok"], answer

            async def sent(uid: str, source: str, port: int) -> str:
                told = {"source": source, "destination": "203.0.113.9", "protocol": 6}
                outcome = await process.ask(
                    "packet",
                    hook="from_pod",
                    uid=uid,
                    source_port=port,
                    destination_port=80,
                    tcp_flags=2,
                    **told,
                )
                return str(outcome["reason"])

            async def until_sent(reason: str, first: int) -> None:
                async with asyncio.timeout(20):
                    port = first
                    while await sent("web", "10.244.1.5", port) != reason:
                        await asyncio.sleep(0.05)
                        port += 1

            await until_sent("allowed_no_policy", 10_000)
            assert await sent("web", "10.244.1.5", 9_999) == "allowed_no_policy"
            await server.stop()
            await until_sent("denied_stale", 20_000)
            assert await sent("web", "10.244.1.5", 9_999) == "allowed_established"
            assert await sent("other", "10.244.1.6", 9_999) == "allowed_no_policy"
            await server.start()
            await until_sent("allowed_no_policy", 30_000)
            assert (await ask(process.socket, "status"))["counters"]["egress"]["denied_stale"]
    finally:
        await server.stop()
