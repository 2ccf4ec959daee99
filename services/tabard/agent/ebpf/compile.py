"""C to eBPF instructions, with bcc. The only module that imports it; see `load`."""

import os
from pathlib import Path

from tabard.agent.ebpf import layout
from tabard.agent.ebpf.source import PROGRAMS
from tabard.dataplane.port import DataplaneError


def compile_programs(bpf: Path) -> dict[str, bytes]:
    """Instructions by program. They name maps by number (`layout.shapes`), not by descriptor.

    The compiler writes its complaints to this process's stderr. bcc only compiles here: its loader
    has no tcx, does not check pinned maps, and cannot tell a verifier's refusal from other errors.
    """
    # Tabard's own stub of a kernel tree: no kernel headers are needed, and it compiles faster.
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf / "kstub")
    try:
        from bcc import BPF
    except ImportError as error:
        raise DataplaneError(
            f"bcc cannot be imported ({error}); install the Debian package python3-bpfcc"
        ) from error
    machine = os.uname().machine
    flags = [
        f"-I{bpf}",
        "-idirafter",
        "/usr/include",
        "-idirafter",
        f"/usr/include/{machine}-linux-gnu",
        *(f"-D{name}={value}" for name, value in layout.definitions().items()),
    ]
    try:
        module = BPF(text=(bpf / "programs.c").read_bytes(), cflags=flags)
        return {name: module.dump_func(name.encode()) for name in PROGRAMS}
    except Exception as error:  # bcc raises nothing more precise
        raise DataplaneError(f"{bpf / 'programs.c'} does not compile: {error}") from error
