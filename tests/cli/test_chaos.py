"""`tabard chaos list`, and what `tabard chaos run` refuses before anything is started."""

import errno
import json
from pathlib import Path

import pytest

from command import Tabard
from rehearsals import outcome, record
from tabard.chaos.scenarios import NEEDED, SCENARIOS
from tabard.invariants.verdict import Invariant, Violation


def test_each_scenario_is_listed_in_a_line(tabard: Tabard) -> None:
    lines = tabard("chaos", "list").stdout.splitlines()
    assert len(lines) == 1 + len(SCENARIOS)
    for line, scenario in zip(lines[1:], SCENARIOS, strict=True):
        assert line.split(maxsplit=1) == [scenario.name, scenario.line]


def test_scenarios_are_listed_by_name_and_as_json(tabard: Tabard) -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert tabard("chaos", "list", "-o", "name").stdout.split() == names
    items = json.loads(tabard("chaos", "list", "-o", "json").stdout)["items"]
    assert [item["name"] for item in items] == names


def test_an_unknown_scenario_is_refused_with_the_nearest_name(tabard: Tabard) -> None:
    result = tabard("chaos", "run", "kill-agents")
    assert result.exit_code == 2
    assert "no scenario 'kill-agents'; near it: kill-agent" in result.stderr
    assert "next: tabard chaos list" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--rate", "0"],
        ["--seed", "x"],
        ["--seed", "-1"],
        ["--minutes", "-1"],
        ["--mode", "x"],
        ["-o", "x"],
    ],
)
def test_wrong_values_are_refused(tabard: Tabard, words: list[str]) -> None:
    assert tabard("chaos", "run", "all", *words).exit_code == 2


def test_without_a_kernel_that_enforces_it_is_refused_with_the_reason(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tabard.cluster.preflight.missing", lambda: "not root")
    result = tabard("chaos", "run", "all", "--report", str(tmp_path / "report"))
    assert result.exit_code == 1
    assert "needs a kernel that enforces, and there is none: not root" in result.stderr
    assert "next: tabard chaos simulate" in result.stderr
    assert not (tmp_path / "report").exists()


def test_without_what_a_fault_uses_it_is_refused_with_the_package(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tabard.cluster.preflight.missing", lambda: "")
    monkeypatch.setitem(NEEDED, "libfaketime", lambda: False)
    for name in ("jump-agent-clock", "all"):
        result = tabard("chaos", "run", name, "--report", str(tmp_path / "report"))
        assert result.exit_code == 1
        assert "needs Debian's libfaketime, which is not there" in result.stderr
        assert "next: apt-get install -y --no-install-recommends libfaketime" in result.stderr
        assert not (tmp_path / "report").exists()


def test_a_report_that_cannot_be_written_is_refused_before_the_run(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tabard.cluster.preflight.missing", lambda: "")
    (tmp_path / "file").touch()
    result = tabard("chaos", "run", "all", "--report", str(tmp_path / "file" / "report"))
    assert result.exit_code == 2
    assert "no report can be written" in result.stderr


def test_a_report_that_cannot_be_written_after_the_run_is_told_after_its_figures(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def rehearsed(*_: object) -> object:
        return outcome(record())

    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tabard.cluster.preflight.missing", lambda: "")
    monkeypatch.setattr("tabard.cli.chaos._rehearsed", rehearsed)
    monkeypatch.setattr("tabard.chaos.report.files.write", full)
    result = tabard("chaos", "run", "all", "--report", str(tmp_path))
    assert result.exit_code == 1
    assert "bus-leader-killed" in result.stdout
    assert f"no report can be written to {tmp_path}: No space left" in result.stderr


@pytest.mark.parametrize("holds", [True, False])
def test_the_exit_code_says_whether_everything_held(
    tabard: Tabard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, holds: bool
) -> None:
    broken = [] if holds else [Violation(Invariant.FOLD, "n1 differs")]

    async def rehearsed(*_: object) -> object:
        return outcome(record(), fold=broken)

    monkeypatch.setattr("tabard.cluster.preflight.missing", lambda: "")
    monkeypatch.setattr("tabard.cli.chaos._rehearsed", rehearsed)
    place = tmp_path / "report"
    words = ["chaos", "run", "all", "--seed", "7", "--report", str(place)]
    result = tabard(*words)
    assert result.exit_code == (0 if holds else 1)
    assert "bus-leader-killed" in result.stdout
    assert ("✗ Violated: fold (1 in all)." in result.stderr) is not holds
    assert "index.html" in result.stderr
    said = json.loads((place / "report.json").read_text())
    assert said["held"] is holds
    assert json.loads(tabard(*words, "-o", "json").stdout) == said
    assert tabard(*words, "-o", "markdown").stdout.startswith("| scenario | faults injected |")
