"""Where on this machine a user's running processes leave what others must find."""

import os
import stat
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

ROOTS = Path("/run/tabard")
"""Of root's processes."""


def run_directory(environment: Mapping[str, str] | None = None) -> Path:
    """This user's; TABARD_RUN_DIR overrides it."""
    environment = os.environ if environment is None else environment
    if chosen := environment.get("TABARD_RUN_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return ROOTS
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "tabard"
    return Path(f"/tmp/tabard-{os.geteuid()}")


def own(directory: Path) -> Path:
    """`directory`, made if absent; PermissionError if others than this user can write there, or
    could put another in its place."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = directory.absolute()
    for above, each in pairwise((*reversed(whole.parents), whole)):
        mode, owner = above.stat().st_mode, each.lstat().st_uid
        if mode & stat.S_IWOTH and not (mode & stat.S_ISVTX and owner in (0, os.geteuid())):
            raise PermissionError(f"{above} lets others put what they like at {each}")
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{directory} is not a directory that only this user can write")
    return directory


def locks(directory: Path, cluster: str) -> Path:
    """Where the agents of a cluster lock their nodes, in a run directory."""
    return directory / "agents" / cluster
