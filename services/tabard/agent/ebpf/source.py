"""The C sources of the programs: where they are, and which they are."""

import hashlib
from pathlib import Path

import tabard.agent
from tabard.agent.ebpf import layout
from tabard.dataplane.port import DataplaneError

PROGRAMS = (
    "from_pod",
    "to_pod",
    "from_overlay",
    "from_wire",
    "to_wire",
    "from_proxy",
    "replace_host",
    "replace_endpoint",
)
"""The functions in programs.c that are programs."""


def folder() -> Path:
    """bpf/ as installed beside tabard.agent, or that of the checkout.

    A wheel carries a copy. So may an editable install, but that one would go stale.
    """
    agent = Path(tabard.agent.__file__).parent
    for candidate in (agent / "bpf", agent.parents[2] / "bpf"):
        if (candidate / "programs.c").is_file():
            return candidate
    raise DataplaneError(
        f"the eBPF sources are neither in {agent / 'bpf'} nor in {agent.parents[2] / 'bpf'}; "
        "install Tabard again"
    )


def fingerprint(bpf: Path) -> str:
    """Names what the programs are compiled from: equal means nothing need be compiled."""
    state = hashlib.sha256(repr(sorted(layout.definitions().items())).encode())
    for path in sorted(bpf.rglob("*.[ch]")):
        state.update(str(path.relative_to(bpf)).encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:12]
