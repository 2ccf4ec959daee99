from dataclasses import replace
from pathlib import Path

import pytest

from clusters import running
from tabard.cli.reach import Target, target
from tabard.cluster import profile
from tabard.cluster.errors import NoCluster


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"TABARD_RUN_DIR": str(tmp_path)}


def test_the_only_running_cluster_is_meant(tmp_path: Path, environment: dict[str, str]) -> None:
    profile.claim(running("a"), tmp_path)
    assert target("", "", environment) == Target(running("a").nats, running("a"))


def test_a_bus_that_the_environment_names_goes_before_a_cluster_that_happens_to_run(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    profile.claim(running("a"), tmp_path)
    environment["TABARD_NATS"] = "nats://elsewhere"
    assert target("", "", environment) == Target(("nats://elsewhere",))
    environment["TABARD_CLUSTER"] = "a"
    assert target("", "", environment).profile == running("a")


def test_a_name_goes_before_everything(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("a", "b"):
        profile.claim(running(name), tmp_path)
    environment["TABARD_CLUSTER"] = "b"
    assert target("", "", environment).profile == running("b")
    assert target("a", "nats://elsewhere", environment).profile == running("a")
    with pytest.raises(NoCluster):
        target("c", "", environment)


def test_a_bus_that_is_named_needs_no_cluster(environment: dict[str, str]) -> None:
    assert target("", "nats://a, nats://b", environment) == Target(("nats://a", "nats://b"))
    environment["TABARD_NATS"] = "nats://c"
    assert target("", "", environment) == Target(("nats://c",))


def test_of_another_name_the_one_that_runs_is_told(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    profile.claim(running("a"), tmp_path)
    with pytest.raises(NoCluster, match="'nope' does not run on this machine") as raised:
        target("nope", "", environment)
    assert raised.value.next == "the same command with --cluster a"
    dead = replace(running("b"), started=1)
    profile.claim(dead, tmp_path)
    with pytest.raises(NoCluster, match="died") as raised:
        target("b", "", environment)
    assert raised.value.next == "tabard down --cluster b"


@pytest.mark.parametrize("mode", [0o700, 0o000])
def test_another_user_is_told_that_root_may_run_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    environment = {"TABARD_RUN_DIR": str(tmp_path / "own")}
    roots = tmp_path / "roots"
    monkeypatch.setattr(profile, "ROOTS", roots)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.access", lambda path, asked: bool(mode))
    with pytest.raises(NoCluster, match="no cluster runs on this machine"):
        target("", "", environment)
    roots.mkdir()
    if mode:  # seen to be empty
        with pytest.raises(NoCluster, match="no cluster runs on this machine"):
            target("", "", environment)
        (roots / "a.json").touch()
    for name in ("", "a"):
        with pytest.raises(NoCluster, match="root may run one") as raised:
            target(name, "", environment)
        assert raised.value.next == "the same command as root: sudo tabard …"


def test_with_neither_cluster_nor_bus_the_next_step_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(NoCluster) as raised:
        target("", "", environment)
    assert raised.value.next == "tabard up"
