import os
import subprocess
import sys
from pathlib import Path

import pytest

from tabard.cluster import pids


def test_a_process_is_known_by_its_pid_and_start() -> None:
    me = os.getpid()
    assert pids.alive(me, pids.started(me))
    assert not pids.alive(me, pids.started(me) + 1)


def test_a_zombie_counts_as_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            pids.started(child.pid)
        assert not pids.runs(child.pid)


def test_a_command_name_with_parentheses_is_read_rightly(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as child:
        try:
            assert pids.started(child.pid) >= pids.started(os.getpid())
        finally:
            child.kill()


def test_only_noted_processes_that_still_run_are_found(tmp_path: Path) -> None:
    pids.record(tmp_path / "me", os.getpid())
    (tmp_path / "reused").write_text(f"{os.getpid()} 1\n")
    assert pids.recorded(tmp_path) == {"me": os.getpid()}
    assert pids.recorded(tmp_path / "absent") == {}


def test_processes_of_a_namespace_are_found_by_it() -> None:
    assert os.getpid() in pids.inside(Path("/proc/self/ns/net"))
    assert pids.inside(Path("/proc/self/ns/absent")) == []
