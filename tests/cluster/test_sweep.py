import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clusters import running
from tabard.cluster import pids, profile
from tabard.cluster.errors import ClusterError
from tabard.cluster.profile import Profile
from tabard.cluster.sweep import notes, sweep


def swept(data: Path, *, keep: bool = False) -> Profile:
    return replace(running("sweep-test"), data=str(data), keep_data=keep)


def test_processes_data_and_profile_of_a_dead_run_are_removed(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    found = swept(data)
    profile.claim(found, run)
    notes(data).mkdir(parents=True)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command, start_new_session=True) as left:
        pids.record(notes(data) / "left", left.pid)
        sweep(found, run, stop_timeout_s=5)
        assert left.wait(5) < 0
    assert not data.exists()
    assert list(run.iterdir()) == []


def test_kept_data_stays(tmp_path: Path) -> None:
    found = swept(tmp_path / "data", keep=True)
    (tmp_path / "data").mkdir()
    profile.claim(found, tmp_path / "run")
    sweep(found, tmp_path / "run", stop_timeout_s=5)
    assert (tmp_path / "data").exists()


def test_what_stays_is_told_and_the_profile_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(names: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr("tabard.cluster.sweep.network.delete", refuse)
    found = swept(tmp_path / "data")
    (tmp_path / "data").mkdir()
    profile.claim(found, tmp_path / "run")
    with pytest.raises(ClusterError, match="namespaces: not yours"):
        sweep(found, tmp_path / "run", stop_timeout_s=5)
    assert not (tmp_path / "data").exists()
    assert profile.names(tmp_path / "run") == ["sweep-test"]


@pytest.mark.parametrize(
    ("dataplane", "user", "looked_at"),
    [
        ("ebpf", 0, True),
        ("memory", 0, False),
        ("memory", 1000, False),
        ("", 0, True),
        ("", 1000, False),
    ],
)
def test_pins_are_looked_at_only_where_there_may_be_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataplane: str, user: int, looked_at: bool
) -> None:
    pins = tmp_path / "tabard"
    (pins / "sweep-test").mkdir(parents=True)
    if not looked_at:
        pins.chmod(0)  # as root's directory is to others
    monkeypatch.setattr("tabard.cluster.sweep.BPF_FS", tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: user)
    found = replace(swept(tmp_path / "data"), dataplane=dataplane)
    sweep(found, tmp_path / "run", stop_timeout_s=5)
    pins.chmod(0o700)
    assert (pins / "sweep-test").exists() is not looked_at
