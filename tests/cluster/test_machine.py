"""Checks of the machine, on made-up machines and on this one."""

import ctypes
import errno
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from tabard.cluster import machine, preflight
from tabard.cluster.checkup import Check, Outcome, fault, ok, warn
from tabard.cluster.machine import Machine, clock, examine

STATUS = "Name:\tx\nCapEff:\t000001fffeffffff\n"
INCLUDE = f"usr/include/{platform.machine()}-linux-gnu/asm/types.h"
GOOD = {
    "proc/sys/kernel/osrelease": "6.18.0-test\n",
    "proc/mounts": "bpf /sys/fs/bpf bpf rw 0 0\n",
    "proc/self/status": STATUS,
    "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2097152 kB\n",
    "sys/kernel/btf/vmlinux": "",
    "dev/net/tun": "",
    "usr/include/linux/bpf.h": "",
    INCLUDE: "",
}


@pytest.fixture
def whole(tmp_path: Path) -> Machine:
    """A machine to which nothing is lacking."""
    for place, text in GOOD.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    for name, said in {"nats-server": "nats-server: v2.15.1", "ip": "", "nft": ""}.items():
        script(tmp_path / "bin" / name, f"echo '{said}'")
    python = script(tmp_path / "python", "echo 4 80000")
    return Machine(
        root=tmp_path,
        environment={"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path)},
        interpreter=str(python),
        scripts=tmp_path / "bin",
        probe=lambda: None,
        bcc_folder=lambda: "/bcc",
    )


def script(place: Path, line: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{line}\n")
    place.chmod(0o755)
    return place


def found(machine: Machine) -> dict[str, Check]:
    return {check.name: check for check in examine(machine)}


def test_a_whole_machine_has_no_fault(whole: Machine) -> None:
    checks = found(whole)
    assert {check.outcome for check in checks.values()} == {Outcome.OK}
    assert checks["kernel"].fact == "Linux 6.18.0-test"
    assert checks["compiler"].fact.startswith("4 programs, 80000 instructions")
    assert not any(check.next for check in checks.values())


@pytest.mark.parametrize(
    ("place", "text", "name", "outcome", "fact", "next"),
    [
        ("proc/sys/kernel/osrelease", "6.5.1", "kernel", "fault", "needs 6.6", "Linux 6.6"),
        ("proc/sys/kernel/osrelease", "weird", "kernel", "fault", "'weird'", "uname -r"),
        ("sys/kernel/btf/vmlinux", None, "btf", "warn", "does without", "CONFIG_DEBUG_INFO_BTF"),
        ("proc/mounts", "proc /proc proc rw 0 0\n", "bpffs", "warn", "not mounted", "mount -t bpf"),
        (
            "proc/self/status",
            "CapEff:\t000001fffeffefff\n",
            "capabilities",
            "fault",
            "lacks CAP_NET_ADMIN:",
            "sudo ",
        ),
        (
            "proc/self/status",
            "CapEff:\t0000000000000000\n",
            "capabilities",
            "fault",
            "lacks CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF:",
            "sudo ",
        ),
        ("usr/include/linux/bpf.h", None, "headers", "fault", "bpf.h", "linux-libc-dev"),
        (INCLUDE, None, "headers", "fault", "asm/types.h", "linux-libc-dev"),
        ("proc/meminfo", "MemAvailable: 1024 kB\n", "memory", "warn", "1 MiB free", "--nodes 1"),
        ("proc/meminfo", "", "memory", "warn", "cannot be read", "free -m"),
        ("dev/net/tun", None, "tun", "warn", "domain names", "modprobe tun"),
        ("bin/ip", None, "ip", "fault", "no `ip`", "iproute2"),
        ("bin/nft", None, "nft", "warn", "no `nft`", "nftables"),
        ("bin/nats-server", None, "nats-server", "fault", "none at", ".ci/setup"),
        (
            "bin/nats-server",
            "#!/bin/sh\necho nats-server: v2.9.10\n",
            "nats-server",
            "fault",
            "v2.9.10",
            ".ci/setup",
        ),
        ("bin/nats-server", "#!/bin/sh\nexit 1\n", "nats-server", "fault", "version", ".ci/setup"),
        (
            "python",
            "#!/bin/sh\necho 'OSError: libbcc.so.0: no such file' >&2; exit 1\n",
            "compiler",
            "fault",
            "OSError: libbcc.so.0: no such file",
            "python3-bpfcc",
        ),
    ],
)
def test_a_lack_is_told_with_its_fact_and_what_to_type(
    whole: Machine,
    tmp_path: Path,
    place: str,
    text: str | None,
    name: str,
    outcome: str,
    fact: str,
    next: str,
) -> None:
    before = found(whole)
    (tmp_path / place).unlink() if text is None else (tmp_path / place).write_text(text)
    after = found(whole)
    check = after[name]
    assert check.outcome.value == outcome
    assert fact in check.fact
    assert next in check.next
    # Only what depends on it is touched as well.
    others = {n for n in after if after[n].outcome is not before[n].outcome} - {name}
    assert others <= {"namespaces", "tcx", "compiler"}


def test_what_cannot_be_tried_says_so_and_is_no_fault(whole: Machine, tmp_path: Path) -> None:
    (tmp_path / "proc/self/status").write_text("")
    checks = found(replace(whole, bcc_folder=lambda: None))
    for name in ("namespaces", "tcx", "compiler"):
        assert (checks[name].outcome, "not tried" in checks[name].fact) == (Outcome.WARN, True)
    assert checks["bcc"].outcome is Outcome.FAULT
    assert "python3-bpfcc" in checks["bcc"].next


@pytest.mark.parametrize(
    ("refused", "namespaces", "tcx"),
    [
        (preflight.NAMESPACE, Outcome.FAULT, Outcome.WARN),
        ("an eBPF map", Outcome.OK, Outcome.FAULT),
        (preflight.TCX, Outcome.OK, Outcome.FAULT),
    ],
)
def test_what_the_kernel_refuses_is_named(
    whole: Machine, refused: str, namespaces: Outcome, tcx: Outcome
) -> None:
    def probe() -> None:
        raise OSError(errno.EPERM, "Operation not permitted", refused)

    checks = found(replace(whole, probe=probe))
    assert (checks["namespaces"].outcome, checks["tcx"].outcome) == (namespaces, tcx)
    faulty = next(check for check in checks.values() if check.outcome is Outcome.FAULT)
    assert faulty.fact == f"the kernel refuses {refused}: Operation not permitted"
    assert "--dataplane memory" in faulty.next


def test_a_full_disk_and_an_absent_one_are_told(
    whole: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(whole, environment={"TMPDIR": "/does/not/exist"})
    assert machine.disk(gone) == fault(
        "disk",
        "/does/not/exist cannot be used: No such file or directory",
        "ls -ld /does/not/exist",
    )
    monkeypatch.setattr(machine, "DISK_BYTES_MIN", 1 << 62)
    assert machine.disk(whole).outcome is Outcome.WARN


def test_a_clock_that_was_set_is_told() -> None:
    assert clock(-5_000.0) == warn(
        "clock", "the wall clock was set by -5000 ms during these checks", "timedatectl status"
    )
    assert clock(0.04) == ok("clock", "steady (left the monotonic one by 0.0 ms)")


def test_another_system_is_told_what_it_can_do(
    whole: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    (check,) = examine(whole)
    assert (check.outcome, check.next) == (Outcome.FAULT, "tabard up --dataplane memory")


@pytest.mark.ebpf
@pytest.mark.nats
def test_this_machine_has_all_that_the_tests_need() -> None:
    preflight.mount_bpf_fs()
    faults = [check for check in examine() if check.outcome is Outcome.FAULT]
    assert faults == []


@pytest.mark.ebpf
def test_the_probe_leaves_the_thread_in_its_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def here() -> str:
        return str(Path("/proc/thread-self/ns/net").readlink())

    before = here()
    preflight.probe()
    assert here() == before

    class Refusing:
        def unshare(self, flags: int) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(preflight, "_libc", Refusing())
    with pytest.raises(OSError, match="Operation not permitted") as raised:
        preflight.probe()
    assert raised.value.filename == preflight.NAMESPACE
