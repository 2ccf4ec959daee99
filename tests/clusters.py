"""Clusters on this machine, for tests: made-up profiles, and what a real run leaves behind."""

import os
from pathlib import Path

from tabard.cluster import network, pids
from tabard.cluster.preflight import BPF_FS
from tabard.cluster.profile import Profile


def running(name: str = "a") -> Profile:
    """The profile of a cluster whose supervisor is this very process."""
    return Profile(
        name=name,
        pid=os.getpid(),
        started=pids.started(os.getpid()),
        nats=("nats://198.18.0.1:4222",),
        netns=f"tb-{name}-hub",
        data=f"/tmp/{name}",
        keep_data=False,
        nodes=("n1", "n2"),
        mode="overlay",
        dataplane="ebpf",
        pods="netns",
        monitoring=("http://127.0.0.1:8222",),
    )


def remains(run: str, run_directory: Path, data: Path) -> list[str]:
    """What is left of a run: namespaces, pins, profile, data, processes."""
    left = [f"namespace {name}" for name in network.names_of(run)]
    pins = BPF_FS / "tabard" / run
    left += [str(place) for place in (pins, run_directory / f"{run}.json", data) if place.exists()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"TABARD_CLUSTER={run}".encode() in environment or f"{data}/" in command:
            left.append(f"process {process.name}: {command}")
    return left
