import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from clusters import running
from command import Tabard
from tabard.cluster import profile


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
def cluster(tabard: Tabard, tmp_path: Path) -> profile.Profile:
    """A profile, without netns, whose agents are to be played by the test."""
    found = replace(running("a"), netns="", data=str(tmp_path / "data"))
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
