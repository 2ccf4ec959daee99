import asyncio
import json

import pytest

from command import Tabard
from ledgers import append, append_raw, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.bus.port import Outgoing, Stream
from tabard.events import ledger as events


@pytest.fixture(autouse=True)
def ledger(store: MemoryStore) -> None:
    async def build() -> None:
        bus = MemoryBus(store)
        await append(bus, *small())
        await say(bus, "n1", 8, endpoints=1)
        await say(bus, "n2", 6)

    asyncio.run(build())


def test_a_table_shows_the_pods(tabard: Tabard) -> None:
    result = tabard("get", "pods")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "NAMESPACE   NAME    STATUS     IDENTITY   ADDRESSES    NODE",
        "shop        web-0   Enforced   256        10.244.1.2   n1",
    ]


def test_wide_shows_more_and_name_only_names(tabard: Tabard) -> None:
    assert "Deployment/shop/web" in tabard("get", "pods", "-o", "wide").stdout
    assert tabard("get", "pods", "-o", "name").stdout == "pod/shop/web-0\n"
    assert tabard("get", "nodes", "-o", "name").stdout == "node/n1\nnode/n2\n"


def test_json_carries_the_sequence_that_it_is_true_for(tabard: Tabard) -> None:
    found = json.loads(tabard("get", "nodes", "-o", "json").stdout)
    assert found["sequence"] == 8
    assert [(node["name"], node["lag"]) for node in found["items"]] == [("n1", 0), ("n2", 2)]


def test_nothing_found_is_said_on_stderr_and_no_error(tabard: Tabard) -> None:
    result = tabard("get", "pods", "-n", "void")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no pods in namespace void\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nodes", "-l", "a=b"), "no nodes of these labels: the selector matches none of 2"),
        (
            ("policies", "-n", "shop", "-l", "app=web"),
            "no policies in namespace shop of these labels: the selector matches none of 1",
        ),
        (("policies", "-n", "void", "-l", "app=web"), "no policies in namespace void"),
    ],
)
def test_of_a_selector_that_matches_nothing_it_is_said_of_how_many(
    tabard: Tabard, words: tuple[str, ...], told: str
) -> None:
    result = tabard("get", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{told}\n")
    assert tabard("get", *words, "-o", "json").stderr == ""


def test_status_shows_every_nodes_lag(tabard: Tabard) -> None:
    result = tabard("status")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "ledger     head 8, enforced through 6" in lines
    assert [line.split()[:4] for line in lines[-2:]] == [
        ["n1", "Current", "8", "0"],
        ["n2", "Lagging", "6", "2"],
    ]


def test_status_names_lost_nodes_and_what_uses_up_the_numbers(
    tabard: Tabard, store: MemoryStore
) -> None:
    exhausted = events.NumbersExhausted(65_280, (("k8s:job-id", 65_000), ("k8s:app", 3)))
    asyncio.run(append(MemoryBus(store), events.NodeLost("n2", 6), exhausted))
    lines = tabard("status").stdout.splitlines()
    assert "ledger     head 10, enforced through 8" in lines
    assert (
        "EXHAUSTED  no identity number is free, 65280 are in use; most values: k8s:job-id (65000), "
        "k8s:app (3)"
    ) in lines
    assert lines[-1].split()[:2] == ["n2", "Lost"]
    assert lines[-1].endswith("lost at LEDGER/9, where it was at 6")


def test_status_says_what_the_allocator_stands_before(tabard: Tabard, store: MemoryStore) -> None:
    junk = Outgoing("tabard.observed.junk", b"\xc1")
    asyncio.run(MemoryBus(store).publish(Stream.OBSERVED, [junk]))
    result = tabard("status")
    assert result.exit_code == 0
    assert "           stopped before OBSERVED/1: not msgpack" in result.stdout
    assert result.stderr == "next: tabard events show 1 --stream OBSERVED\n"


def test_behind_an_unreadable_event_status_shows_what_is_known_and_get_fails(
    tabard: Tabard, store: MemoryStore
) -> None:
    asyncio.run(append_raw(MemoryBus(store), b"\xc1"))
    result = tabard("status", "-o", "json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ledger"]["sequence"], found["ledger"]["head"]) == (8, 9)
    assert found["ledger"]["digest"]
    assert "LEDGER/9" in found["error"]
    assert found["nodes"][0]["lag"] == 1
    result = tabard("get", "pods")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == "tabard: cannot get pods"
    assert result.stderr.splitlines()[-1] == "  next: tabard events show 9"
