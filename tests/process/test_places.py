import os
from pathlib import Path

import pytest

from tabard.process.places import own

OTHER = 12_345


@pytest.mark.skipif(os.geteuid() != 0, reason="makes directories of another user")
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_directory_below_what_others_made_or_can_replace_is_not_ones_own(
    tmp_path: Path, mode: int
) -> None:
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    for each in (shared, elsewhere, elsewhere / "c", shared / "theirs", shared / "theirs" / "c"):
        each.mkdir()
    shared.chmod(mode)
    (shared / "link").symlink_to(elsewhere)
    os.chown(shared / "link", OTHER, OTHER, follow_symlinks=False)
    os.chown(shared / "theirs", OTHER, OTHER)
    for name in ("link", "theirs"):
        with pytest.raises(PermissionError, match="lets others put"):
            own(shared / name / "c")
    if mode == 0o1777:
        assert own(shared / "mine" / "c").stat().st_mode & 0o777 == 0o700
    else:
        with pytest.raises(PermissionError, match="lets others put"):
            own(shared / "mine" / "c")


def test_what_others_can_write_is_not_ones_own(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "link"):
        with pytest.raises(PermissionError, match="only this user can write"):
            own(tmp_path / name)
