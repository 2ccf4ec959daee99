"""What this machine can do: make namespaces, attach tcx programs, import bcc.

The questions are asked of the kernel itself, with a throw-away program in a throw-away namespace,
since versions and capabilities say too little about containers.
"""

import ctypes
import importlib.util
import os
import platform
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import DataplaneName, Settings

BPF_FS = Path("/sys/fs/bpf")
_BPF_FS_MAGIC = 0xCAFE4A11  # linux/magic.h
_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD, _LINK_CREATE = 0, 5, 28  # enum bpf_cmd, linux/bpf.h
_TYPE_HASH, _TYPE_SCHED_CLS, _TCX_INGRESS = 1, 3, 46
_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1

NAMESPACE = "a network namespace (unshare)"
TCX = "a tcx link (Linux 6.6 or newer)"
"""Two of the things that the kernel may refuse to `probe`."""

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Why real namespaces and eBPF cannot be used here, or an empty string if they can."""
    if platform.system() != "Linux":
        return f"{platform.system()} has no eBPF; Tabard enforces on Linux"
    if os.geteuid() != 0:
        return "not root"
    if platform.machine() not in _BPF_SYSCALL:
        return f"the bpf(2) call's number on {platform.machine()} is not known to Tabard"
    if shutil.which("ip") is None:
        return "the `ip` command is missing (Debian package iproute2)"
    if bcc_folder() is None:
        return "iovisor's bcc cannot be imported (Debian package python3-bpfcc; see .ci/setup)"
    try:
        probe()
    except OSError as error:
        return f"the kernel refuses {error.filename}: {error.strerror}"
    return ""


def choose(settings: Settings, missing: Callable[[], str] = missing) -> tuple[DataplaneName, str]:
    """The dataplane and, if it is `memory`, why."""
    if settings.dataplane == "memory":
        return "memory", "it was asked for"
    reason = missing()
    if not reason:
        return "ebpf", ""
    if settings.dataplane == "ebpf" or settings.pods == "netns":
        asked = "--dataplane ebpf" if settings.dataplane == "ebpf" else "--pods netns"
        raise ClusterError(
            f"{asked} cannot be used on this machine: {reason}", "tabard up --dataplane memory"
        )
    return "memory", reason


def mount_bpf_fs() -> None:
    """Mount the BPF file system, where pins live, if it is absent. It stays: it is the host's."""
    if _is_bpf_fs(BPF_FS):
        return
    done = subprocess.run(
        ["mount", "-t", "bpf", "bpf", str(BPF_FS)], capture_output=True, text=True, check=False
    )
    if not _is_bpf_fs(BPF_FS):
        raise ClusterError(
            f"no BPF file system at {BPF_FS}: {done.stderr.strip()}",
            f"mount -t bpf bpf {BPF_FS}",
        )


def _is_bpf_fs(path: Path) -> bool:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%t", str(path)], capture_output=True, text=True, check=False
    )
    return kind.returncode == 0 and int(kind.stdout, 16) == _BPF_FS_MAGIC


def bcc_folder() -> str | None:
    """Where iovisor's bcc would be imported from; PyPI has an unrelated package of that name."""
    found = importlib.util.find_spec("bcc")
    places = found.submodule_search_locations if found is not None else None
    return next((place for place in places or () if (Path(place) / "libbcc.py").is_file()), None)


def probe() -> None:
    """Try all that enforcement needs of the kernel; OSError, its `filename` what was refused.

    On a thread of its own: the namespace that it makes goes with it.
    """
    raised: list[OSError] = []

    def run() -> None:
        try:
            _try_tcx()
        except OSError as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="preflight")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _try_tcx() -> None:
    """Make a namespace, a map and a program, and attach the program by tcx (Linux 6.6)."""
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise _failed(NAMESPACE)
    opened = []
    try:
        opened.append(_bpf("an eBPF map", _MAP_CREATE, struct.pack("<IIII", _TYPE_HASH, 4, 4, 1)))
        # r0 = 0; exit
        code = ctypes.create_string_buffer(
            struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0), 16
        )
        licence = ctypes.create_string_buffer(b"GPL")
        load = struct.pack(
            "<IIQQ", _TYPE_SCHED_CLS, 2, ctypes.addressof(code), ctypes.addressof(licence)
        )
        program = _bpf("an eBPF program", _PROG_LOAD, load)
        opened.append(program)
        link = struct.pack("<IIII", program, _LOOPBACK, _TCX_INGRESS, 0)
        opened.append(_bpf(TCX, _LINK_CREATE, link))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _bpf(what: str, command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 128)
    made: int = _libc.syscall(_BPF_SYSCALL[platform.machine()], command, buffer, 128)
    if made < 0:
        raise _failed(what)
    return made


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
