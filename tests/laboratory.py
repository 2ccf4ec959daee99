"""What random traffic is played in: a kernel of each mode, and interfaces that it may go to."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kernel import SMALL, Kernel
from tabard.dataplane.maps import Mode
from tabard.netns import enter
from topology import ip
from traffic import IFINDEXES
from twins import Twins, tunnelled_sources

SIZES = replace(SMALL, policies=1 << 15)


@dataclass(frozen=True)
class Laboratory:
    kernels: Mapping[Mode, Kernel]
    sources: Path
    """What their programs were compiled from."""
    namespace: str
    """With an interface of each number that the traffic knows."""

    def play(self, mode: Mode, work: Callable[[Twins], None]) -> None:
        """`work` with twins that have no maps yet, where the interfaces are."""
        enter.call(self.namespace, lambda: work(Twins(self.kernels[mode], mode)))


@contextmanager
def laboratory(directory: Path) -> Iterator[Laboratory]:
    """Needs root; `directory` is empty, and takes the programs' sources."""
    sources = tunnelled_sources(directory)
    namespace = f"tbe{os.getpid()}{secrets.token_hex(3)}"
    kernels: dict[Mode, Kernel] = {}
    enter.create(namespace, lambda: None)
    try:
        ip(namespace, *(f"link add l{n} index {n} type veth peer name p{n}" for n in IFINDEXES))
        for mode in Mode:
            kernels[mode] = Kernel(mode, SIZES, sources)
        yield Laboratory(kernels, sources, namespace)
    finally:
        for kernel in kernels.values():
            kernel.remove()
        enter.delete(namespace)
