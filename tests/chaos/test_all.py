"""Every scenario on one real cluster, as a user runs it: all of it holds, and nothing stays."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import remains
from tabard.chaos.scenarios import SCENARIOS
from tabard.invariants.verdict import Invariant

SEED = 1
UNJUDGED = {Invariant.ORDER}
"""What no packet, event or kernel tells afterwards: the simulator looks at each write."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of a short name: paths of sockets have a bound."""
    with tempfile.TemporaryDirectory(prefix="chaos") as made:
        yield Path(made)


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.ebpf
@pytest.mark.nats
@pytest.mark.timeout(900)
def test_all_scenarios_hold_on_a_real_cluster_and_leave_nothing_but_the_report(
    place: Path,
) -> None:
    temporary, running, report = place / "tmp", place / "run", place / "report"
    temporary.mkdir()
    memory = set(os.listdir("/dev/shm"))
    command = ["chaos", "run", "all", "--seed", str(SEED), "--report", str(report), "-o", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "tabard.cli", *command],
        env={**os.environ, "TMPDIR": str(temporary), "TABARD_RUN_DIR": str(running)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads((report / "report.json").read_text() or "{}")
    assert done.returncode == 0, done.stderr + json.dumps(said.get("verdicts"), indent=1)
    assert said == json.loads(done.stdout)
    assert said["held"]
    assert [row["name"] for row in said["scenarios"]][1:] == [each.name for each in SCENARIOS]
    assert {each["invariant"] for each in said["verdicts"]} == set(Invariant) - UNJUDGED
    assert all(row["faults"] and row["packets"] for row in said["scenarios"][1:])
    assert said["totals"]["violations"] == 0
    assert "Everything held." in (report / "index.html").read_text()

    (name,) = re.findall(r"^cluster ([0-9a-f]+):", done.stderr, re.MULTILINE)
    assert [each for each in remains(name, running, temporary) if each != str(temporary)] == []
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in report.iterdir()) == ["index.html", "report.json"]
    assert name not in mounts()
    assert str(place) not in mounts()
    assert not {each for each in set(os.listdir("/dev/shm")) - memory if "faketime" in each}
