import os
import subprocess
import sys
from pathlib import Path

from bench.sweep import sweep


def test_a_swept_run_leaves_neither_processes_nor_directory(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    of_the_run = subprocess.Popen(sleeping, env={**os.environ, "TABARD_CLUSTER": "benchtest1"})
    another = subprocess.Popen(sleeping, env={**os.environ, "TABARD_CLUSTER": "benchtest12"})
    try:
        assert sweep("benchtest1", place) == [f"process {of_the_run.pid}"]
        assert of_the_run.wait(10) != 0
        assert another.poll() is None
        assert not place.exists()
        assert sweep("benchtest1", place) == []
    finally:
        for process in (of_the_run, another):
            process.kill()
            process.wait()
