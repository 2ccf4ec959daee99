"""Where a node's objects are pinned, so that they outlive the agent and it finds them again.

    <root>/tabard/<cluster>/<node>/maps/<schema>/<map>
    <root>/tabard/<cluster>/<node>/maps/<schema>/programs/<fingerprint>/<program>
    <root>/tabard/<cluster>/<node>/links/{overlay,wire,proxy}/<program>
    <root>/tabard/<cluster>/<node>/links/pods/<uid>/<program>

The path carries what an object is, since the kernel checks nothing of the kind.
"""

import ctypes
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tabard.dataplane.port import DataplaneError

BPF_ROOT = Path("/sys/fs/bpf")

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_NAME_BYTES_MAX = 255


def quoted(name: str) -> str:
    """A name as one path component. bpffs keeps dots for itself (fs/bpf/inode.c, bpf_lookup)."""
    safe = _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), name)
    if not 0 < len(safe) <= _NAME_BYTES_MAX:
        raise DataplaneError(f"{name!r} cannot name a pin: it takes 1-{_NAME_BYTES_MAX} bytes")
    return safe


class Pins:
    """Paths of one node's pins."""

    def __init__(self, root: Path, cluster: str, node: str) -> None:
        self.root = root
        self.cluster = root / "tabard" / quoted(cluster)
        self.base = self.cluster / quoted(node)
        self.overlay = self.base / "links" / "overlay"
        self.wire = self.base / "links" / "wire"
        self.proxy = self.base / "links" / "proxy"
        self._pods = self.base / "links" / "pods"

    def maps(self, schema: str) -> Path:
        return self.base / "maps" / schema

    def schemas(self) -> list[str]:
        return _names(self.base / "maps")

    def programs(self, schema: str, fingerprint: str) -> Path:
        return self.maps(schema) / "programs" / fingerprint

    def fingerprints(self, schema: str) -> list[str]:
        return _names(self.maps(schema) / "programs")

    def pod(self, uid: str) -> Path:
        return self._pods / quoted(uid)

    def pods(self) -> Iterator[tuple[str, Path]]:
        """uid, directory of its links."""
        for name in _names(self._pods):
            yield unquote(name), self._pods / name

    def make(self, directory: Path) -> Path:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DataplaneError(f"{directory} cannot be made: {error.strerror}") from error
        return directory

    def drop(self, directory: Path) -> None:
        """Unpin all below: what nothing else holds is gone from the kernel."""
        try:
            shutil.rmtree(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataplaneError(f"{directory} cannot be removed: {error.strerror}") from error

    def drop_node(self) -> None:
        self.drop(self.base)
        for parent in (self.cluster, self.cluster.parent):
            try:
                parent.rmdir()
            except OSError:
                return  # other nodes' pins are in it


def mount_bpffs(root: Path) -> None:
    """See that `root` is in a bpf file system; mount one if it is the usual place and is not."""
    if _is_bpffs(root):
        return
    if root != BPF_ROOT:
        raise DataplaneError(f"{root} is not in a bpf file system; mount one there (mount -t bpf)")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", bytes(root), b"bpf", 0, b"mode=0700") != 0:
        raise DataplaneError(
            f"a bpf file system cannot be mounted at {root}: {os.strerror(ctypes.get_errno())}; "
            "run as root, or mount it before"
        )


def _is_bpffs(path: Path) -> bool:
    """Whether the innermost mount that holds `path` is a bpf file system (proc(5), mountinfo)."""
    kind, depth = "", -1
    where = path.resolve()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4])
        if where.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = after.split()[0], len(point.parts)
    return kind == "bpf"


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
