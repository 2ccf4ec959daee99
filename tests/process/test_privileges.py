"""What a child keeps of root's capabilities: asked of the kernel, of real children."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tabard.process import privileges
from tabard.process.privileges import KERNEL, effective, for_files, keeping, lacking

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")


def child(names: frozenset[str], code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=keeping(names),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


SAY = "from tabard.process.privileges import effective; print(*sorted(effective()))"


@as_root
@pytest.mark.parametrize("names", [frozenset(), KERNEL])
def test_a_child_has_what_it_keeps_and_so_have_its_own_children(names: frozenset[str]) -> None:
    wanted = " ".join(sorted(names))
    assert child(names, SAY) == wanted
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SAY!r}])"
    assert child(names, nested) == wanted


@as_root
def test_without_capabilities_root_is_one_user_among_others(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12_345, 12_345)
    code = f"import os; print(os.access({str(theirs)!r}, os.R_OK))"
    assert child(frozenset(), code) == "False"
    needed = for_files(Path("/usr/bin/env"), theirs / ".")
    assert needed == {"CAP_DAC_READ_SEARCH"}
    assert child(needed, code) == "True"


def test_files_that_all_may_read_need_nothing() -> None:
    assert for_files(Path("/usr/bin/env"), Path("/etc/passwd")) == frozenset()


def test_what_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: frozenset(("CAP_NET_ADMIN", "CAP_BPF")))
    assert lacking(KERNEL) == ["CAP_PERFMON"]
    monkeypatch.setattr(privileges, "effective", lambda: frozenset(("CAP_SYS_ADMIN",)))
    assert lacking(KERNEL) == ["CAP_NET_ADMIN"]


def test_a_process_is_asked_by_its_number() -> None:
    assert effective(os.getpid()) == effective()
