"""driver.c in the kernel: one program run on frames with ever other addresses (BPF_PROG_TEST_RUN).

What a run of the program costs by itself is a run behind the driver less a run of an empty program
behind the driver, plus one of the empty program: caches are as cold as its map accesses make them.
"""

import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tabard.agent.ebpf import layout, source, syscalls
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.maps import KernelMap
from tabard.agent.ebpf.pins import BPF_ROOT, Pins
from tabard.agent.ebpf.programs import relocated
from tabard.dataplane.port import MapSizes

CHUNK = 8_192
"""Runs between two emptyings of the ring of events, which then has room for all of theirs."""

_PROG_ARRAY = 3
_OWN_MAPS = {"plan": 100, "addresses": 101, "programs": 102}
_NAMES = ("drive", "parse_alone", "look_up", "empty")
_PLAN = struct.Struct("=IIII")


class Driver:
    """On the maps of one opened dataplane of `cluster`'s node `node`; a context."""

    def __init__(
        self,
        dataplane: EbpfDataplane,
        cluster: str,
        node: str,
        sizes: MapSizes,
        addresses_max: int,
    ) -> None:
        self._dataplane = dataplane
        self._stack = ExitStack()
        maps = Pins(BPF_ROOT, cluster, node).maps(layout.schema(sizes))
        self._maps = {
            shape.name: self._kept(syscalls.get(str(maps / shape.name)))
            for shape in layout.shapes(sizes)
        }
        self._maps |= {
            "plan": self._kept(syscalls.map_create(layout.ARRAY, 4, _PLAN.size, 1, 0, "plan")),
            "addresses": self._kept(
                syscalls.map_create(layout.ARRAY, 4, 4, addresses_max, 0, "addresses")
            ),
            "programs": self._kept(syscalls.map_create(_PROG_ARRAY, 4, 4, 1, 0, "programs")),
        }
        numbered = {n: self._maps[shape.name] for n, shape in enumerate(layout.shapes(sizes))}
        numbered |= {number: self._maps[name] for name, number in _OWN_MAPS.items()}
        self._programs = {
            name: self._kept(syscalls.program_load(relocated(code, numbered), name))
            for name, code in _compiled().items()
        }
        self._flows = KernelMap(
            next(shape for shape in layout.shapes(sizes) if shape.name == "conntrack"),
            self._maps["conntrack"],
        )
        self._addresses: Sequence[bytes] = ()

    def _kept(self, descriptor: int) -> int:
        self._stack.callback(os.close, descriptor)
        return descriptor

    def __enter__(self) -> "Driver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def addresses(self, packed: Sequence[bytes]) -> None:
        """The IPv4 addresses (4 bytes each) that frames get from here on, in this order."""
        entries = [(index.to_bytes(4, "little"), each) for index, each in enumerate(packed)]
        for start in range(0, len(entries), 4096):
            syscalls.map_update_batch(self._maps["addresses"], entries[start : start + 4096])
        self._addresses = packed

    def alone(self, name: str, frame: bytes, runs: int) -> float:
        """Nanoseconds a run of `empty` or `parse_alone`, the frame unchanged."""
        return syscalls.program_test_run(self._programs[name], frame, repeat=runs).nanoseconds

    def run(
        self, program: str, frame: bytes, runs: int, *, address_offset: int, port_offset: int = 0
    ) -> float:
        """Nanoseconds a run behind the driver: a program of Tabard's, `empty` or `look_up`."""
        own = self._dataplane.programs.get(program) or self._programs[program]
        syscalls.map_update(self._maps["programs"], bytes(4), own.to_bytes(4, "little"))
        plan = _PLAN.pack(0, len(self._addresses), address_offset, port_offset)
        syscalls.map_update(self._maps["plan"], bytes(4), plan)
        total = 0.0
        left = runs
        while left:
            count = min(left, CHUNK)
            self._skip_events()
            ran = syscalls.program_test_run(self._programs["drive"], frame, repeat=count)
            total += ran.nanoseconds * count
            left -= count
        return total / runs

    def forget_flows(self) -> None:
        flows = self._flows
        flows.delete([key for key, _ in flows.items()])

    def _skip_events(self) -> None:
        page = mmap.PAGESIZE
        events = self._maps["events"]
        with (
            mmap.mmap(events, page, mmap.MAP_SHARED) as consumer,
            mmap.mmap(events, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page) as producer,
        ):
            consumer[:8] = producer[:8]


def _compiled() -> dict[str, bytes]:
    from bcc import BPF

    bpf = source.folder()
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf / "kstub")
    numbers = layout.definitions() | {f"MAP_{name}": n for name, n in _OWN_MAPS.items()}
    flags = [
        f"-I{bpf}",
        "-idirafter",
        "/usr/include",
        "-idirafter",
        f"/usr/include/{os.uname().machine}-linux-gnu",
        *(f"-D{name}={value}" for name, value in numbers.items()),
    ]
    module = BPF(text=Path(__file__).with_suffix(".c").read_bytes(), cflags=flags)
    return {name: module.dump_func(name.encode()) for name in _NAMES}
