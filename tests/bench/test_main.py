"""The runner as `make bench` calls it, with the cheapest benchmark at a tiny scale."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import catalogue, report

TESTS = report.ROOT / "tests"


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)


def test_a_measurement_is_printed_kept_and_shown_again(tmp_path: Path) -> None:
    kept = ("--output", str(tmp_path / "out" / "latest.json"))
    done = bench("--only", "known", "--scale", "0.01", "--directory", str(tmp_path), *kept)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "latest.json").read_text())
    assert [figure["name"] for figure in found["figures"]] == ["known.p50", "known.p99"]
    assert all(len(figure["runs"]) > 1 and figure["median"] > 0 for figure in found["figures"])
    # A quick look judges no target.
    assert {figure["met"] for figure in found["figures"]} == {None}
    assert found.keys() == {
        "schema",
        "date",
        "commit",
        "dirty",
        "machine",
        "versions",
        "scale",
        "figures",
        "seconds",
        "skipped",
        "failed",
    }
    assert (found["skipped"], found["failed"]) == ({}, {})
    assert found["machine"]["cores"] >= 1
    assert "known" in done.stdout
    assert bench("--show", *kept).stdout == done.stdout
    assert "| known |" in bench("--show", "--format", "markdown", *kept).stdout
    summary = bench("--show", "--format", "summary", *kept).stdout
    assert "p99" in summary
    assert "p50" not in summary
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("arguments", [("--list",), ("--only", "?")])
def test_the_list_has_a_line_for_each_benchmark(arguments: tuple[str, ...]) -> None:
    lines = bench(*arguments).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue.BENCHMARKS)
    assert all(len(line.split()) > 3 for line in lines)


def test_an_unknown_name_is_told_with_those_there_are(tmp_path: Path) -> None:
    done = bench("--only", "known,nothing", "--output", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "'nothing'" in done.stderr
    assert "allocate" in done.stderr
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_measured_or_shown_is_told(tmp_path: Path) -> None:
    kept = ("--output", str(tmp_path / "none"))
    done = bench("--only", "known", "--scale", "-1", *kept)
    assert (done.returncode, done.stderr) == (2, "SCALE is -1; it must be more than 0\n")
    done = bench("--show", *kept)
    assert done.returncode == 1
    assert done.stderr.startswith("nothing was measured yet: ")
