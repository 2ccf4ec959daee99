"""The kernel's verdict on crafted frames: programs run by BPF_PROG_TEST_RUN on maps of choice."""

import atexit
import os
import secrets
import shutil
import struct
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from entries import ISOLATED
from tabard.agent.ebpf import syscalls
from tabard.agent.ebpf.dataplane import EbpfDataplane
from tabard.agent.ebpf.events import EventReader
from tabard.agent.ebpf.layout import SETTINGS_KEY, Settings, pack_settings
from tabard.agent.ebpf.source import folder
from tabard.dataplane.maps import (
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    Reason,
    address,
)
from tabard.dataplane.port import MapSizes, NodeConfig, Verdict
from tabard.policy.diff import diff

COMPILED = Path(tempfile.mkdtemp(prefix="tabard-test-"))
"""One compilation serves a whole run."""
atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)

SHOT, OK, REDIRECT = 2, 0, 7
"""TC_ACT_* (linux/pkt_cls.h)."""

SMALL = MapSizes(
    identities=1024,
    policies=1024,
    nodes=64,
    prefixes=1024,
    hosts=1024,
    endpoints=64,
    conntrack=4096,
    fragments=512,
    events=1 << 16,
)

MARK = 0xB7000000
"""bpf/overlay.h, MARK_MAGIC."""

ENFORCED = ISOLATED

TUNNEL_PORT = 8472
LOOPBACK = 1
"""The interface that a test run is on unless it says otherwise."""


def changed_sources(directory: Path, *, before: str = "", after: str = "") -> Path:
    """The programs' sources with something more; `directory` is empty, and takes them."""
    sources = folder()
    for path in (*sources.glob("*.h"), sources / "kstub"):
        (directory / path.name).symlink_to(path)
    text = (sources / "programs.c").read_text()
    (directory / "programs.c").write_text(before + text + after)
    return directory


def cluster_name() -> str:
    """A pin directory's name that no other run has."""
    return f"test-{os.getpid()}-{secrets.token_hex(3)}"


def endpoint(
    identity: int = 300,
    policy: int = 1,
    flags: EndpointFlag = ENFORCED,
    incarnation: int = 1,
    ifindex: int = LOOPBACK,
) -> Endpoint:
    return Endpoint(
        incarnation=incarnation,
        identity=identity,
        policy=policy,
        flags=flags,
        ifindex=ifindex,
        mac=bytes.fromhex("020000000001"),
        host_mac=bytes.fromhex("060000000001"),
    )


@dataclass(frozen=True, slots=True)
class Ran:
    action: int
    reason: Reason | None
    """If both a pod and its node judged it: the denial, or the pod's. None if nothing was counted
    (the host's own traffic, or what the next program judges)."""
    frame: bytes
    mark: int


class Kernel:
    """A node's dataplane whose programs are run on frames, without interfaces."""

    def __init__(self, mode: Mode, sizes: MapSizes = SMALL, sources: Path | None = None) -> None:
        config = NodeConfig("n1", Mode.NATIVE, (address("192.0.2.1"),), tunnel_port=TUNNEL_PORT)
        self.dataplane = EbpfDataplane(
            config, cluster=cluster_name(), sizes=sizes, sources=sources, compiled=COMPILED
        )
        self.dataplane.open()
        # No VXLAN device is needed to judge: only the mode is put in place.
        settings = pack_settings(Settings(mode, LOOPBACK, TUNNEL_PORT, filled=True))
        self.dataplane._maps["settings"].update([(SETTINGS_KEY, settings)])
        self.maps = Maps()
        self._events = self.dataplane._maps["events"]

    def put(self, maps: Maps) -> None:
        try:
            self.dataplane.write(diff(self.maps, maps))
        except BaseException:
            self.maps = self.dataplane.read()  # as far as it came
            raise
        self.maps = maps

    def run(self, program: str, frame: bytes, *, mark: int = 0, ifindex: int = LOOPBACK) -> Ran:
        before = Counter(self.dataplane.counters())
        ran = syscalls.program_test_run(
            self.dataplane.programs[program], frame, mark=mark, ifindex=ifindex
        )
        counted = Counter(self.dataplane.counters()) - before
        direction = Direction.EGRESS if program in ("from_pod", "to_wire") else Direction.INGRESS
        reasons = dict(counted.keys())
        assert len(reasons) == counted.total(), counted
        # A pod's packet to or from its node has two verdicts: a denial, or the pod's, counts.
        denied = [reason for reason in reasons.values() if not reason.allowed]
        reason = denied[0] if denied else reasons.get(direction)
        assert reason is not None or not reasons, counted
        assert reason is None or (ran.returned != SHOT) == reason.allowed, (reason, ran.returned)
        return Ran(ran.returned, reason, ran.packet, ran.mark)

    def egress(self, frame: bytes, **options: int) -> Reason | None:
        return self.run("from_pod", frame, **options).reason

    def ingress(self, frame: bytes, **options: int) -> Reason | None:
        return self.run("to_pod", frame, **options).reason

    def events(self) -> list[Verdict]:
        """What was told since the last call."""
        reader = EventReader(self._events.descriptor, self._events.shape.entries)
        try:
            found = []
            while more := reader.read():
                found += more
            return found
        finally:
            reader.close()

    def forget_flows(self) -> None:
        for name in ("conntrack", "fragments"):
            table = self.dataplane._maps[name]
            table.delete([key for key, _ in table.items()])

    def flows(self) -> int:
        return sum(1 for _ in self.dataplane._maps["conntrack"].items())

    def age_flows(self, seconds: float) -> None:
        """As if nothing had been seen for so long."""
        table = self.dataplane._maps["conntrack"]
        for key, value in list(table.items()):
            # Below 0 soon after boot: the programs compare differences.
            (seen,) = struct.unpack_from("=q", value, 16)
            aged = struct.pack("=q", seen - int(seconds * 1e9))
            table.update([(key, value[:16] + aged + value[24:])])

    def remove(self) -> None:
        self.dataplane.remove()
