"""The rule of `conftest`: as root on Linux a skipped `nats` or `ebpf` test fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT_ON_LINUX

INI = "[pytest]\nmarkers =\n    nats: x\n    ebpf: x\naddopts = --import-mode=importlib\n"


def run(directory: Path, test: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    source = Path(__file__).with_name("conftest.py").read_text()
    (directory / "conftest.py").write_text(source)
    (directory / "pytest.ini").write_text(INI)
    (directory / "test_it.py").write_text(f"import pytest\n{test}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


SKIPS = """
@pytest.mark.nats
def test_runtime_skip(): pytest.skip("no reason")

@pytest.mark.ebpf
@pytest.mark.skip
def test_marked_skip(): pass

def test_passes(): pass
"""
MAY_SKIP = """
def test_unmarked(): pytest.skip("fine")

@pytest.mark.nats
@pytest.mark.xfail
def test_expected_to_fail(): assert 0

@pytest.mark.nats
def test_passes(): pass
"""


@pytest.mark.skipif(not ROOT_ON_LINUX, reason="only root on Linux must run everything")
@pytest.mark.parametrize(
    ("test", "named"),
    [
        (SKIPS, ["test_it.py::test_runtime_skip", "test_it.py::test_marked_skip"]),
        ("pytest.importorskip('no_such_module')", ["test_it.py"]),
    ],
    ids=["tests", "module"],
)
def test_a_skip_fails_the_run_and_is_named(tmp_path: Path, test: str, named: list[str]) -> None:
    done = run(tmp_path, test)
    assert done.returncode == 1, done.stdout
    summary = done.stdout.partition("skipped, but must run as root on Linux")[2]
    assert summary.splitlines()[1 : 1 + len(named)] == named


@pytest.mark.parametrize(
    ("test", "arguments"),
    [(SKIPS, ["-m", "not nats and not ebpf"]), (MAY_SKIP, [])],
    ids=["deselected", "not a must"],
)
def test_what_was_deselected_or_may_skip_passes(
    tmp_path: Path, test: str, arguments: list[str]
) -> None:
    done = run(tmp_path, test, *arguments)
    assert done.returncode == 0, done.stdout
