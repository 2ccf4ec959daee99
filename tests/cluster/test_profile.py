import os
from dataclasses import replace
from pathlib import Path

import pytest

from clusters import running
from tabard.cluster import profile
from tabard.cluster.errors import ClusterError, NoCluster


def test_a_claimed_profile_reads_back_as_it_was(tmp_path: Path) -> None:
    profile.claim(running(), tmp_path / "run")
    assert profile.read("a", tmp_path / "run") == running()
    assert running().socket("n1") == Path("/tmp/a/nodes/n1/agent.sock")


def test_a_name_is_claimed_once(tmp_path: Path) -> None:
    profile.claim(running(), tmp_path)
    with pytest.raises(FileExistsError):
        profile.claim(replace(running(), nodes=()), tmp_path)
    assert profile.read("a", tmp_path) == running()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_only_running_cluster_needs_no_name(tmp_path: Path) -> None:
    profile.claim(running(), tmp_path)
    profile.claim(replace(running("dead"), started=1), tmp_path)
    assert profile.find("", tmp_path) == running()


def test_of_two_running_clusters_one_must_be_named(tmp_path: Path) -> None:
    profile.claim(running("a"), tmp_path)
    profile.claim(running("b"), tmp_path)
    with pytest.raises(NoCluster, match="2 clusters run on this machine: a, b") as raised:
        profile.find("", tmp_path)
    assert "--cluster a" in raised.value.next
    assert profile.find("b", tmp_path).name == "b"


def test_a_dead_cluster_is_not_found_but_named(tmp_path: Path) -> None:
    profile.claim(replace(running(), started=1), tmp_path)
    with pytest.raises(NoCluster, match="died without cleaning up") as raised:
        profile.find("a", tmp_path)
    assert raised.value.next == "tabard down --cluster a"
    with pytest.raises(NoCluster, match=r"runs on this machine; died .*: a"):
        profile.find("", tmp_path)
    with pytest.raises(NoCluster, match=r"runs on this machine$"):
        profile.find("", tmp_path / "absent")
    with pytest.raises(NoCluster, match="'c' does not run"):
        profile.find("c", tmp_path)


def test_a_damaged_profile_is_named_and_hides_no_other(tmp_path: Path) -> None:
    profile.claim(running(), tmp_path)
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(ClusterError, match=r"b\.json is no profile"):
        profile.read("b", tmp_path)
    assert profile.find("", tmp_path) == running()


def test_a_run_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "run"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ClusterError, match="only this user can write"):
        profile.claim(running(), shared)
    assert not list(shared.iterdir())


def test_the_run_directory_is_the_users_own() -> None:
    assert profile.run_directory({"TABARD_RUN_DIR": "/x"}) == Path("/x")
    home = profile.run_directory({"XDG_RUNTIME_DIR": "/run/user/7"})
    assert home == (Path("/run/tabard") if os.geteuid() == 0 else Path("/run/user/7/tabard"))
