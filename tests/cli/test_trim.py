"""`tabard policy trim`: what it prints, writes and says of what it means."""

import json
from pathlib import Path

import pytest
import yaml

from command import Tabard
from linting import WEB_AND_DB, network_policy

RULE = "{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}"
TWICE = f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{RULE}, {RULE}]}}"


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    file = tmp_path / "twice.yaml"
    file.write_text(WEB_AND_DB + network_policy(TWICE, "a") + network_policy(TWICE, "b"))
    return file


def test_what_is_left_is_printed_as_manifests_that_mean_the_same(
    tabard: Tabard, twice: Path, tmp_path: Path
) -> None:
    result = tabard("policy", "trim", str(twice))
    assert result.exit_code == 0
    (policy,) = yaml.safe_load_all(result.stdout)
    assert policy["metadata"] == {"name": "a", "namespace": "x"}
    assert len(policy["spec"]["ingress"]) == 1
    left = tmp_path / "left.yaml"
    left.write_text(result.stdout)
    assert tabard("policy", "diff", str(twice), str(left)).exit_code == 0
    again = tabard("policy", "trim", str(left), str(twice.parent / "workloads.yaml"))
    assert again.exit_code == 2, "there is no such file"


def test_what_went_is_told_with_its_line_and_what_is_the_same(tabard: Tabard, twice: Path) -> None:
    result = tabard("policy", "trim", str(twice))
    assert f"{twice}:27: NetworkPolicy/x/b: all of it goes" not in result.stdout
    assert "NetworkPolicy/x/b: all of it goes" in result.stderr
    assert "NetworkPolicy/x/a: spec.ingress[1] goes" in result.stderr
    assert "2 parts removed: the same verdicts for these workloads" in result.stderr
    assert "proved by the engine" in result.stderr


def test_the_table_names_the_parts(tabard: Tabard, twice: Path) -> None:
    lines = tabard("policy", "trim", str(twice), "-o", "table").stdout.splitlines()
    assert [line.split()[2:4] for line in lines[1:]] == [["a", "spec.ingress[1]"], ["b", "-"]]


def test_for_any_workload_only_what_words_imply_goes(tabard: Tabard, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    back, front = (
        f"{{podSelector: {{matchLabels: {{tier: {tier}}}}}" for tier in ("back", "front")
    )
    wide = f"{back}, ingress: [{{from: [{front}}}]}}]}}"
    # The database is all of tier back now, and another tier's database would be no part of `wide`.
    narrow = f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{RULE}]}}"
    file.write_text(WEB_AND_DB + network_policy(wide, "wide") + network_policy(narrow, "narrow"))
    said = json.loads(tabard("policy", "trim", str(file), "--any-workload", "-o", "json").stdout)
    assert "every workload that could be" in said["equivalence"]
    assert said["removed"] == []
    these = json.loads(tabard("policy", "trim", str(file), "-o", "json").stdout)
    assert [row["name"] for row in these["removed"]] == ["narrow"]


def test_files_are_written_and_none_is_overwritten(
    tabard: Tabard, twice: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = tabard("policy", "trim", str(twice), "--write", str(out))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert [path.name for path in out.iterdir()] == ["networkpolicy-x-a.yaml"]
    assert tabard("policy", "diff", str(twice), str(out)).exit_code == 0
    again = tabard("policy", "trim", str(twice), "--write", str(out))
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_policies_without_workloads_are_equivalent_for_any_alone(
    tabard: Tabard, tmp_path: Path
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(network_policy(TWICE))
    assert tabard("policy", "trim", str(file)).exit_code == 1
    result = tabard("policy", "trim", str(file), "--any-workload", "-o", "json")
    assert [row["path"] for row in json.loads(result.stdout)["removed"]] == ["spec.ingress[1]"]
