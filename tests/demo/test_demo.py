"""The whole demo, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def demo(dataplane: str, figures: Path) -> tuple[subprocess.CompletedProcess[str], dict]:  # type: ignore[type-arg]
    done = subprocess.run(
        [sys.executable, "-m", "tabard.cli", "demo", "--dataplane", dataplane, "--json", figures],
        capture_output=True,
        text=True,
    )
    assert figures.read_text(), done.stderr
    return done, json.loads(figures.read_text())


@pytest.mark.ebpf
@pytest.mark.nats
@pytest.mark.timeout(240)
def test_real_packets_agree_with_the_pure_verdict_and_nothing_leaks_or_is_lost(
    tmp_path: Path,
) -> None:
    done, found = demo("ebpf", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["ok"]
    assert found["dataplane"] == "ebpf"
    assert found["probes"] > 2_000
    assert found["disagree"] == found["leaked"] == found["lost"] == 0
    writes = found["remote_map_writes_per_start"]
    assert writes["overlay_without_egress_policy"] == 0
    assert writes["overlay"] < writes["native"] < writes["address_filter"]
    assert found["resolve_ms"]["count"] == found["first_packet_ms"]["count"] == 18
    assert found["outage"]["new_connections"] > 0


@pytest.mark.nats
@pytest.mark.timeout(240)
def test_without_a_kernel_the_demo_runs_in_memory_and_says_so(tmp_path: Path) -> None:
    done, found = demo("memory", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["dataplane"] == "memory"
    assert found["probes"] > 2_000
    assert found["disagree"] == found["leaked"] == 0
    assert found["outage"] is None
    assert "MEMORY DATAPLANE" in done.stdout


def test_figures_that_could_not_be_written_are_refused_before_the_trials() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tabard.cli", "demo", "--json", "/nonexistent/figures.json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "/nonexistent/figures.json cannot be written: No such file" in done.stderr
