"""What a node's dataplane holds now against what the ledger said then, on a real agent."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.rig import Client, Ledger, bound, pod, running
from clusters import running as profile_of
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import since
from tabard.cluster.profile import Profile
from tabard.events import ledger as events
from world import network_policy

A, B = pod("a", "10.244.1.5", app="a"), pod("b", "10.244.1.6", app="b")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return replace(profile_of("a"), netns="", data=str(tmp_path))


@pytest.fixture
async def agent(profile: Profile, bus: MemoryBus) -> AsyncIterator[Client]:
    async with running(profile.socket("n1").parent, bus) as client:
        yield client


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(MemoryStore())


async def held(bus: MemoryBus, profile: Profile, through: int) -> Any:
    (row,) = await since.compared(bus, profile, ("n1",), through)
    assert json.loads(json.dumps(row)) == row
    assert row["error"] == ""
    return row


async def test_at_the_present_nothing_differs(
    agent: Client, bus: MemoryBus, profile: Profile
) -> None:
    ledger = Ledger()
    bound(ledger, A)
    ledger.policy(network_policy("p", ingress=[{}]))
    # The ledger has a pod here that no interface stands for: that is no change.
    bound(ledger, B)
    end = await ledger.write(bus)
    await agent.attach(A)
    await agent.enforces(end)
    row = await held(bus, profile, end)
    assert (row["sequence"], row["count"], row["entries"]) == (end, 0, [])


async def test_what_has_changed_since_is_named(
    agent: Client, bus: MemoryBus, profile: Profile
) -> None:
    ledger = Ledger()
    bound(ledger, A)
    then = await ledger.write(bus)
    await agent.attach(A)
    bound(ledger, B)
    ledger.policy(network_policy("p", ingress=[{"ports": [{"port": 80}]}]))
    end = await ledger.write(bus)
    await agent.attach(B)
    await agent.enforces(end)
    row = await held(bus, profile, then)
    assert row["missing"] == []
    changed = {(each["map"], each["key"]) for each in row["entries"]}
    identity = str(ledger.state.endpoints["b"].identity)
    assert {("identities", identity), ("endpoints", "10.244.1.6")} <= changed
    assert [each.split(":")[0] for each in row["different"]] == ["endpoints 10.244.1.5"]
    assert any(" ingress peer 0 tcp port 80/16" in key for _, key in changed)
    assert row["count"] == len(row["entries"])
    assert (await held(bus, profile, end))["count"] == 0


async def test_a_pod_that_has_gone_since_is_missed(
    agent: Client, bus: MemoryBus, profile: Profile
) -> None:
    ledger = Ledger()
    bound(ledger, A)
    then = await ledger.write(bus)
    await agent.attach(A)
    ledger.emit(events.EndpointUnbound("a"))
    end = await ledger.write(bus)
    await agent.ask("detach", uid="a")
    await agent.enforces(end)
    row = await held(bus, profile, then)
    (missing,) = row["missing"]
    assert missing.startswith("endpoints 10.244.1.5: identity 256 ")
    assert " ifindex 0 mac 00:00:00:00:00:00 " in missing
    assert row["count"] == 1
    # Before it was bound nothing of it was wanted.
    assert not (await held(bus, profile, 3))["missing"]


async def test_a_node_that_cannot_be_asked_or_holds_too_much_is_told(
    agent: Client, bus: MemoryBus, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = await Ledger().write(bus)
    await agent.enforces(end)
    monkeypatch.setattr("tabard.agent.drift.CONTENTS_ENTRIES_MAX", 2)
    one, other = await since.compared(bus, profile, ("n1", "n2"), end)
    assert "entries, and at most 2 are handed out" in one["error"]
    assert "cannot be asked" in other["error"]
    assert (one["sequence"], one["count"]) == (None, 0)
