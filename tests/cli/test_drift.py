import asyncio
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusters import running
from command import Tabard
from ledgers import append, say, small
from tabard.bus.memory import MemoryBus, MemoryStore
from tabard.cli import drift
from tabard.cli.printing import Output
from tabard.cluster import profile
from tabard.cluster.errors import ClusterError
from tabard.dataplane.maps import Maps
from tabard.dataplane.plain import plain


@contextmanager
def agent(socket: Path, **answer: object) -> Iterator[None]:
    """An agent that answers everything with `answer`."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    socket.parent.mkdir(parents=True)
    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


SAME = {"ok": True, "sequence": 7, "entries": [], "count": 0}
MISSING = {"map": "hosts", "key": "10.244.1.2", "held": None, "wanted": "256"}


@pytest.fixture
def cluster(tabard: Tabard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> profile.Profile:
    """A profile, without netns, whose agents are to be played by the test."""
    found = replace(running("a"), netns="", data=str(tmp_path / "data"))
    monkeypatch.delenv("TABARD_NATS")
    profile.claim(found, profile.run_directory())
    return found


def test_no_drift_exits_with_zero(tabard: Tabard, cluster: profile.Profile) -> None:
    with agent(cluster.socket("n1"), **SAME), agent(cluster.socket("n2"), **SAME):
        result = tabard("drift")
    assert result.exit_code == 0
    assert [line.split()[:5] for line in result.stdout.splitlines()[1:]] == [
        ["n1", "7", "0", "0", "0"],
        ["n2", "7", "0", "0", "0"],
    ]


def test_drift_is_named_entry_by_entry_and_exits_with_one(
    tabard: Tabard, cluster: profile.Profile
) -> None:
    drifted = SAME | {"entries": [MISSING], "count": 1}
    with agent(cluster.socket("n1"), **SAME), agent(cluster.socket("n2"), **drifted):
        result = tabard("drift")
        one = tabard("drift", "--node", "n1", "-o", "json")
    assert result.exit_code == 1
    assert "n2: missing: hosts 10.244.1.2: 256" in result.stderr
    assert one.exit_code == 0
    assert [each["node"] for each in json.loads(one.stdout)["nodes"]] == ["n1"]


def test_a_node_that_cannot_be_asked_is_no_success(
    tabard: Tabard, cluster: profile.Profile
) -> None:
    with agent(cluster.socket("n1"), **SAME):
        result = tabard("drift")
    assert result.exit_code == 1
    assert "cannot be asked" in result.stdout
    assert tabard("drift", "--node", "n9").exit_code == 1


def test_without_a_cluster_on_this_machine_nobody_can_be_asked(tabard: Tabard) -> None:
    result = tabard("drift")
    assert result.exit_code == 1
    assert "on their own machine" in result.stderr


def test_wide_is_a_row_for_each_entry_and_names_are_of_nodes_that_differ(
    tabard: Tabard, cluster: profile.Profile
) -> None:
    other = {"map": "identities", "key": "300", "held": "present", "wanted": None}
    drifted = SAME | {"entries": [MISSING, other], "count": 9}
    with agent(cluster.socket("n1"), **SAME), agent(cluster.socket("n2"), **drifted):
        wide = tabard("drift", "-o", "wide")
        assert tabard("drift", "-o", "name").stdout == "node/n2\n"
        found = json.loads(tabard("drift", "-o", "json").stdout)["nodes"][1]
        told = tabard("drift").stderr
    assert [line.split() for line in wide.stdout.splitlines()] == [
        ["NODE", "MAP", "KEY", "HELD", "WANTED"],
        ["n2", "hosts", "10.244.1.2", "-", "256"],
        ["n2", "identities", "300", "present", "-"],
    ]
    assert wide.exit_code == 1
    assert "n1: no entry differs at 7" in wide.stderr
    assert (found["missing"], found["extra"]) == (["hosts 10.244.1.2: 256"], ["identities 300"])
    assert "n2: 9 entries differ; not all are listed" in told


def test_nodes_are_chosen_by_their_label(tabard: Tabard, cluster: profile.Profile) -> None:
    with agent(cluster.socket("n1"), **SAME):
        result = tabard("drift", "-l", "kubernetes.io/hostname notin (n2)", "-o", "json")
    assert [each["node"] for each in json.loads(result.stdout)["nodes"]] == ["n1"]
    assert result.exit_code == 0


def test_drift_of_then_says_of_when_it_is(
    tabard: Tabard, cluster: profile.Profile, store: MemoryStore
) -> None:
    asyncio.run(append(MemoryBus(store), *small()))
    contents = {"ok": True, "sequence": 8, "maps": plain(Maps()), "attached": []}
    with agent(cluster.socket("n1"), **contents), agent(cluster.socket("n2"), **contents):
        result = tabard("drift", "--at", "2", "-o", "wide")
        found = json.loads(tabard("drift", "--at", "2", "-o", "json").stdout)
    assert result.exit_code == 1
    assert result.stderr.startswith("as of LEDGER/2, stored ")
    assert ["n1", "nodes", "198.18.0.11", "-", "present"] in [
        line.split() for line in result.stdout.splitlines()
    ]
    assert (found["sequence"], found["nodes"][0]["sequence"]) == (2, 8)


async def test_a_node_is_asked_again_when_its_watermark_moves(
    cluster: profile.Profile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bus, answers, asked = MemoryBus(), {"n1": SAME, "n2": SAME}, []

    async def ask(socket: Path, operation: str, timeout_s: float) -> dict[str, Any]:
        asked.append(socket.parent.name)
        if asked == ["n1", "n2", "n1"]:
            raise ClusterError("it is away")
        return answers[socket.parent.name]

    monkeypatch.setattr(drift, "ask", ask)
    monkeypatch.setattr(drift, "SPACING_S", 0.0)
    watching = asyncio.create_task(
        drift._watch(bus, cluster, cluster.nodes, None, Output.TABLE)  # type: ignore[arg-type]
    )

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while len(asked) < count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)

    await until(2)
    await say(bus, "n1", 8)
    await until(3)
    await say(bus, "n1", 8)  # a heartbeat of one that could not be asked
    await until(4)
    answers["n2"] = SAME | {"entries": [MISSING], "count": 1}
    await say(bus, "n1", 8)  # a heartbeat: nobody is asked
    await say(bus, "n2", 8)
    await until(5)
    await say(bus, "n2", 8, drift=1)
    await until(6)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert asked == ["n1", "n2", "n1", "n1", "n2", "n2"]
    out, err = capsys.readouterr()
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["NODE", "SEQUENCE", "MISSING"],
        ["n1", "7", "0"],
        ["n2", "7", "0"],
        ["n1", "-", "-"],
        ["n1", "7", "0"],
        ["n2", "7", "1"],
    ]
    assert err == "n2: missing: hosts 10.244.1.2: 256\n"


def test_a_watch_of_drift_in_json_is_a_document_a_line(
    tabard: Tabard, cluster: profile.Profile, store: MemoryStore
) -> None:
    with agent(cluster.socket("n1"), **SAME), agent(cluster.socket("n2"), **SAME):
        result = tabard("drift", "-w", "--timeout", "0.05", "-o", "json")
    (line,) = result.stdout.splitlines()
    assert [each["sequence"] for each in json.loads(line)["nodes"]] == [7, 7]
    assert result.exit_code == 0
