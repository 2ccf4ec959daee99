"""Every reading command prints every form: table, wide, json, yaml and names."""

import asyncio
import itertools
import json
from dataclasses import replace

import pytest
import yaml

from clusters import running
from command import Tabard
from ledgers import append, append_raw, bound, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli.documents import COMMANDS
from tabard.cli.printing import Output
from tabard.cluster import profile

WRITES = tuple((name, 100_000) for name in ("identities", "policies", "prefixes", "hosts"))


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    """The small ledger, with 30 pods more; both nodes enforce it all."""

    async def build() -> None:
        bus = MemoryBus(store)
        pods = (bound(f"web-{n}", address=f"10.244.1.{n + 2}") for n in range(1, 31))
        await append(bus, *small(), *pods)
        for node in ("n1", "n2"):
            await say(bus, node, 38, endpoints=31, map_writes=WRITES)

    asyncio.run(build())


NAMES = {
    "status": ["node/n1", "node/n2"],
    "describe pod shop/web-3": ["pod/shop/web-3"],
    "describe identity 256": ["identity/256"],
    "describe workload web": ["workload/shop/web"],
    "describe stream ledger": ["stream/LEDGER"],
    "events show 7": ["LEDGER/7"],
    "events verify": ["LEDGER/38"],
    "wait --sequence 8": ["node/n1", "node/n2"],
    "explain": list(COMMANDS),
    "get nodes": ["node/n1", "node/n2"],
}


@pytest.mark.parametrize("command", NAMES)
def test_a_command_prints_every_form(tabard: Tabard, command: str) -> None:
    printed = {}
    for form in Output:
        result = tabard(*command.split(), "-o", form)
        assert result.exit_code == 0, (form, result.stderr)
        printed[form] = result.stdout
    assert printed[Output.NAME].splitlines() == NAMES[command]
    assert yaml.safe_load(printed[Output.YAML]) == json.loads(printed[Output.JSON])
    said_on_stderr = command == "events verify"
    for form in (Output.TABLE, Output.WIDE):
        assert bool(printed[form]) is not said_on_stderr, form


def test_a_status_fits_a_terminal_and_wide_tells_the_rest(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = {"allocator": "http://127.0.0.1:1", "agent.n1": "http://127.0.0.1:2"}
    alone = replace(running("a"), netns="", http=http, monitoring=())
    monkeypatch.delenv("TABARD_NATS")
    profile.claim(alone, profile.run_directory())
    narrow, wide = tabard("status").stdout, tabard("status", "-o", "wide").stdout
    assert max(map(len, narrow.splitlines())) <= 120
    assert "MAP-WRITES" not in narrow
    assert "http" not in narrow
    for told in ("hosts=100000", "198.18.0.11", "1970-01-01T00:00:00", "data       /tmp/a"):
        assert told in wide, told
    assert "service    agent.n1    http://127.0.0.1:2" in wide.splitlines()


def test_a_status_is_of_the_nodes_that_a_selector_takes(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(say(MemoryBus(store), "n1", 7))
    chosen = ("status", "-l", "kubernetes.io/hostname=n2")
    found = json.loads(tabard(*chosen, "-o", "json").stdout)
    assert ([row["name"] for row in found["nodes"]], found["enforced"]) == (["n2"], 38)
    assert json.loads(tabard("status", "-o", "json").stdout)["enforced"] == 7
    assert tabard(*chosen, "-o", "name").stdout == "node/n2\n"
    assert tabard(*chosen, "-w", "--timeout", "0", "-o", "name").stdout == "node/n2\n"
    assert tabard("status", "-l", "a in").exit_code == 2


def test_what_is_described_wide_is_whole(tabard: Tabard) -> None:
    narrow = tabard("describe", "identity", "256").stdout
    wide = tabard("describe", "identity", "256", "-o", "wide").stdout
    assert "… and 11 more; -o wide has all" in narrow
    assert "…" not in wide
    assert wide.count("10.244.1.") == 31
    assert "uid-web-30" in wide
    pod = ("describe", "pod", "shop/web-0")
    assert "…" in tabard(*pod).stdout
    assert "owner=Deployment/shop/web" in tabard(*pod, "-o", "wide").stdout


def test_an_event_is_a_key_a_line(tabard: Tabard) -> None:
    shown = tabard("events", "show", "6", "-o", "table").stdout
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines()[1:] if "  " in line.strip())
    assert lines["type"] == "policy.accepted"
    assert lines["document"] == "NetworkPolicy shop/web"
    assert lines["origin"] == "shop.yaml:20"
    wide = tabard("events", "show", "6", "-o", "wide").stdout
    assert "policyTypes:" in wide
    assert "policyTypes:" not in shown


def test_an_unreadable_event_is_a_table_too(tabard: Tabard, store: MemoryStore) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1"))
    result = tabard("events", "show", "39", "-o", "table")
    assert result.exit_code == 1
    assert "  raw       c1" in result.stdout.splitlines()
    assert "quarantine 39" in result.stderr


def test_the_last_event_of_a_time_is_shown(tabard: Tabard, store: MemoryStore) -> None:
    store.clock = itertools.count(1_000_000_000, 1_000_000_000).__next__
    asyncio.run(append(MemoryBus(store), *(bound(f"late-{n}", address="") for n in range(3))))

    def shown(*words: str) -> str:
        result = tabard("events", "show", "-o", "name", *words)
        return result.stdout + result.stderr

    assert shown("--at", "1970-01-01T00:00:02.5Z") == "LEDGER/40\n"
    assert shown("--at", "1970-01-01T00:00:00.5Z") == "LEDGER/38\n"
    assert shown("--at", "7") == "LEDGER/7\n"
    assert "nothing was stored by 1970" in shown("--at", "1970-01-01", "--stream", "flows")
    assert "nothing was stored by 1969" in shown("--at", "1969-01-01")
    assert "either a sequence or --at" in shown("7", "--at", "-5m")
    assert "either a sequence or --at" in shown()


def test_a_wait_tells_each_node_and_its_prose_beside(tabard: Tabard) -> None:
    result = tabard("wait", "--sequence", "8", "-o", "json")
    assert json.loads(result.stdout) == {
        "sequence": 8,
        "nodes": [
            {"name": "n1", "watermark": 38, "live": True},
            {"name": "n2", "watermark": 38, "live": True},
        ],
    }
    assert result.stderr == "2 nodes enforce LEDGER/8\n"
    assert [line.split() for line in tabard("wait", "--sequence", "8").stdout.splitlines()] == [
        ["NODE", "WATERMARK", "LIVE"],
        ["n1", "38", "yes"],
        ["n2", "38", "yes"],
    ]


def test_each_name_that_explain_gives_can_be_explained(tabard: Tabard) -> None:
    for name in tabard("explain", "-o", "name").stdout.splitlines():
        assert name in tabard("explain", name, "-o", "name").stdout.splitlines()
