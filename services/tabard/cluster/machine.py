"""What this machine is asked about before blame falls on Tabard: each check is one fact.

Nothing is changed: what is made for a trial (a namespace, a program, a link) goes with it. What
`tabard up` itself demands is asked in `preflight`, by the same probes.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tabard.cluster import preflight
from tabard.cluster.checkup import Check, Outcome, fault, ok, warn

KERNEL_MIN = (6, 6)
"""tcx."""
NATS_MIN = (2, 12)
"""Atomic batches; the tests run with what .ci/constraints.txt pins."""
PYTHON_MIN = (3, 11)
MEMORY_BYTES_MIN = 512 << 20
"""A bus, an allocator, a source, three agents, and the compiler once."""
DISK_BYTES_MIN = 1 << 30
CLOCK_JUMP_MS_MAX = 100.0
COMPILE_S_MAX = 60
MIB = 1 << 20

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""By their bit (linux/capability.h): links and routes, namespaces, verifier, maps and programs."""

_COMPILE = (
    "from tabard.agent.ebpf import compile, source\n"
    "programs = compile.compile_programs(source.folder())\n"
    "print(len(programs), sum(map(len, programs.values())) // 8)"
)
"""As the loader does it, and like the loader in a process of its own: LLVM goes with it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the facts are read; other than the defaults in tests."""

    root: Path = Path("/")
    """Holds proc, sys and usr."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    interpreter: str = sys.executable
    scripts: Path = field(default_factory=lambda: Path(sysconfig.get_path("scripts")))
    probe: Callable[[], None] = preflight.probe
    """Raises OSError, naming what the kernel refused, as `preflight.probe`."""
    bcc_folder: Callable[[], str | None] = preflight.bcc_folder

    def which(self, command: str) -> str | None:
        return shutil.which(command, path=self.environment.get("PATH", ""))

    def text(self, place: str) -> str:
        """A file below the root; empty if it cannot be read."""
        try:
            return (self.root / place).read_text()
        except OSError:
            return ""


def examine(machine: Machine | None = None) -> Iterator[Check]:
    """All checks of the machine, one after the other; about two seconds."""
    machine = machine or Machine()
    before = time.time() - time.monotonic()
    if platform.system() != "Linux":
        yield fault(
            "system",
            f"{platform.system()}: no eBPF; packets can only be judged in memory",
            "tabard up --dataplane memory",
        )
        return
    yield kernel(machine)
    yield btf(machine)
    yield bpf_fs(machine)
    yield tun(machine)
    privileges = capabilities(machine)
    yield privileges
    yield from _probed(machine, privileges)
    library = bcc(machine)
    yield library
    sources = headers(machine)
    yield sources
    yield compiler(machine, library, sources)
    yield command(machine, "ip", "iproute2", "lays the nodes' networks", Outcome.FAULT)
    yield command(
        machine,
        "nft",
        "nftables",
        "is `make demo`'s yardstick, and `chaos run` cuts links by it",
        Outcome.WARN,
    )
    yield nats_server(machine)
    yield python(machine)
    yield memory(machine)
    yield disk(machine)
    yield clock((time.time() - time.monotonic() - before) * 1000)


def kernel(machine: Machine) -> Check:
    release = machine.text("proc/sys/kernel/osrelease").strip()
    found = _version(release)
    if found is None:
        return fault("kernel", f"release {release!r} cannot be read", "uname -r")
    if found < KERNEL_MIN:
        wanted = ".".join(map(str, KERNEL_MIN))
        return fault(
            "kernel",
            f"Linux {release}; attaching programs by tcx needs {wanted}",
            f"boot Linux {wanted} or newer, or: tabard up --dataplane memory",
        )
    return ok("kernel", f"Linux {release}")


def btf(machine: Machine) -> Check:
    place = machine.root / "sys/kernel/btf/vmlinux"
    if place.exists():
        return ok("btf", f"the kernel's types are in {place}")
    fact = f"no {place}: Tabard does without; bpftool shows maps without their fields"
    return warn("btf", fact, "boot a kernel with CONFIG_DEBUG_INFO_BTF")


def bpf_fs(machine: Machine) -> Check:
    mounts = (line.split() for line in machine.text("proc/mounts").splitlines())
    if any(mount[1:3] == [str(preflight.BPF_FS), "bpf"] for mount in mounts):
        return ok("bpffs", f"mounted at {preflight.BPF_FS}")
    return warn(
        "bpffs",
        f"not mounted at {preflight.BPF_FS}; `tabard up` does it as root",
        f"mount -t bpf bpf {preflight.BPF_FS}",
    )


def tun(machine: Machine) -> Check:
    place = machine.root / "dev/net/tun"
    if place.exists():
        return ok("tun", f"{place} is there, for the nodes' DNS proxies")
    fact = f"no {place}: pods whose policies ask for domain names cannot look them up"
    return warn("tun", fact, "modprobe tun, or give the container that device")


def capabilities(machine: Machine) -> Check:
    status = re.search(r"^CapEff:\s*([0-9a-f]+)$", machine.text("proc/self/status"), re.MULTILINE)
    effective = int(status[1], 16) if status else 0
    lacking = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        return fault(
            "capabilities",
            f"lacks {', '.join(lacking)}: nothing can be enforced in the kernel",
            f"sudo {machine.scripts / 'tabard'} doctor",
        )
    return ok("capabilities", f"has {', '.join(CAPABILITIES)}")


def _probed(machine: Machine, privileges: Check) -> Iterator[Check]:
    """The kernel's own answer: versions and capabilities say too little about containers."""
    names = {"namespaces": preflight.NAMESPACE, "tcx": preflight.TCX}
    if privileges.outcome is Outcome.FAULT:
        for name in names:
            yield warn(name, "not tried without capabilities")
        return
    refused, why = "", ""
    try:
        machine.probe()
    except OSError as error:
        refused, why = str(error.filename), str(error.strerror)
    if refused == preflight.NAMESPACE:
        yield fault(
            "namespaces",
            f"the kernel refuses {refused}: {why}",
            "give the container CAP_SYS_ADMIN, or: tabard up --dataplane memory",
        )
        yield warn("tcx", "not tried without a namespace")
        return
    yield ok("namespaces", "a network namespace was made")
    if refused:
        yield fault(
            "tcx",
            f"the kernel refuses {refused}: {why}",
            "boot Linux 6.6 or newer with CONFIG_BPF_SYSCALL and CONFIG_NET_XGRESS, or: "
            "tabard up --dataplane memory",
        )
        return
    yield ok("tcx", "a map and a program were loaded and attached by tcx")


def bcc(machine: Machine) -> Check:
    if folder := machine.bcc_folder():
        return ok("bcc", f"iovisor's, in {folder}")
    return fault(
        "bcc",
        f"iovisor's bcc cannot be found by {machine.interpreter} (PyPI's bcc is another thing)",
        "apt-get install -y --no-install-recommends python3-bpfcc && .ci/setup",
    )


def headers(machine: Machine) -> Check:
    include = machine.root / "usr/include"
    wanted = [
        include / "linux/bpf.h",
        include / f"{platform.machine()}-linux-gnu/asm/types.h",
    ]
    if lacking := [place for place in wanted if not place.exists()]:
        return fault(
            "headers",
            f"no {lacking[0]}: the programs cannot be compiled",
            "apt-get install -y --no-install-recommends linux-libc-dev",
        )
    return ok("headers", f"the kernel's interface is in {include}")


def compiler(machine: Machine, library: Check, sources: Check) -> Check:
    for needed in (library, sources):
        if needed.outcome is Outcome.FAULT:
            return warn("compiler", f"not tried without {needed.name}")
    begun = time.monotonic()
    done = _run(machine, _COMPILE)
    if done.returncode == 0:
        count, instructions = done.stdout.split()[-2:]
        took = time.monotonic() - begun
        fact = f"{count} programs, {instructions} instructions, compiled in {took:.1f} s"
        return ok("compiler", fact)
    lines = done.stderr.strip().splitlines()
    return fault(
        "compiler",
        f"the programs do not compile: {lines[-1] if lines else f'exit code {done.returncode}'}",
        "apt-get install -y --reinstall python3-bpfcc libbpfcc linux-libc-dev",
    )


def command(machine: Machine, name: str, package: str, use: str, outcome: Outcome) -> Check:
    if found := machine.which(name):
        return ok(name, found)
    return Check(
        name,
        outcome,
        f"no `{name}` in PATH; it {use}",
        f"apt-get install -y --no-install-recommends {package}",
    )


def nats_server(machine: Machine) -> Check:
    binary = machine.scripts / "nats-server"
    if not os.access(binary, os.X_OK):
        return fault(
            "nats-server",
            f"none at {binary}; without it only a bus of yours can be used",
            ".ci/setup, or: tabard up --nats URL",
        )
    try:
        done = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
        said = done.stdout.strip() or done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    found = _version(said)
    if found is None:
        return fault("nats-server", f"{binary} does not tell its version: {said}", ".ci/setup")
    if found < NATS_MIN:
        wanted = ".".join(map(str, NATS_MIN))
        fact = f"{said} at {binary}; atomic batches need {wanted}"
        return fault("nats-server", fact, ".ci/setup")
    return ok("nats-server", f"{said} at {binary}")


def python(machine: Machine) -> Check:
    """It runs this, so it is new enough to be installed; whether it is what was meant is seen."""
    fact = f"{platform.python_version()} at {machine.interpreter}"
    if sys.version_info[:2] < PYTHON_MIN:
        wanted = ".".join(map(str, PYTHON_MIN))
        return fault("python", f"{fact}; Tabard needs {wanted}", ".ci/setup")
    return ok("python", fact)


def memory(machine: Machine) -> Check:
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", machine.text("proc/meminfo"), re.MULTILINE)
    if found is None:
        return warn("memory", "what is free cannot be read", "free -m")
    free = int(found[1]) << 10
    if free < MEMORY_BYTES_MIN:
        return warn(
            "memory",
            f"{free // MIB} MiB free; a cluster of three nodes takes {MEMORY_BYTES_MIN // MIB}",
            "tabard up --nodes 1",
        )
    return ok("memory", f"{free // MIB} MiB free")


def disk(machine: Machine) -> Check:
    place = machine.environment.get("TMPDIR") or tempfile.gettempdir()
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return fault("disk", f"{place} cannot be used: {error.strerror}", f"ls -ld {place}")
    if free < DISK_BYTES_MIN:
        return warn(
            "disk",
            f"{free // MIB} MiB free in {place}, where a cluster's ledger is without --data",
            "tabard up --data DIR",
        )
    return ok("disk", f"{free // MIB} MiB free in {place}")


def clock(jump_ms: float) -> Check:
    """`jump_ms`: how far the wall clock left the monotonic one while the other checks ran."""
    if abs(jump_ms) > CLOCK_JUMP_MS_MAX:
        return warn(
            "clock",
            f"the wall clock was set by {jump_ms:+.0f} ms during these checks",
            "timedatectl status",
        )
    return ok("clock", f"steady (left the monotonic one by {abs(jump_ms):.1f} ms)")


def _run(machine: Machine, program: str) -> "subprocess.CompletedProcess[str]":
    arguments = [machine.interpreter, "-c", program]
    try:
        return subprocess.run(
            arguments,
            env=dict(machine.environment),
            capture_output=True,
            text=True,
            timeout=COMPILE_S_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 1, "", f"no end within {COMPILE_S_MAX} s")


def _version(text: str) -> tuple[int, int] | None:
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
