import errno
import subprocess
from pathlib import Path

import pytest

from tabard.cluster import mounts

pytestmark = pytest.mark.ebpf  # root, that is


def test_what_is_mounted_below_a_runs_data_is_bounded_found_and_taken_away(tmp_path: Path) -> None:
    disk, seen = tmp_path / "a disk of é", tmp_path / "seen"
    for place in (disk, seen):
        place.mkdir()
    mounts.mount("test", disk, 1 << 20)
    try:
        mounts.bind(disk, seen)
        assert mounts.below(tmp_path) == [seen, disk]
        assert mounts.below(seen) == []
        with pytest.raises(OSError, match="No space left") as full:
            (seen / "file").write_bytes(bytes(2 << 20))
        assert full.value.errno == errno.ENOSPC
        assert (disk / "file").exists()
    finally:
        mounts.unmount_all(tmp_path)
    assert mounts.below(tmp_path) == []
    assert not list(seen.iterdir())


def test_what_others_mounted_below_a_runs_data_stays(tmp_path: Path) -> None:
    (disk := tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "somebodys", str(disk)], check=True)
    try:
        mounts.unmount_all(tmp_path)
        assert disk.is_mount()
    finally:
        mounts.unmount(disk)
