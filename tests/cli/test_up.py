"""`tabard up` for real: two clusters at once, pods that speak, and nothing left behind."""

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clusters import remains, running
from command import Tabard
from ledgers import append, small
from tabard.bus.memory import MemoryBus
from tabard.cli.up import banner, inventory
from tabard.cluster import pids, profile
from tabard.cluster.sweep import sweep
from tabard.events.ledger import IdentityAllocated
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State
from tabard.netns import enter
from tabard.netns.names import pod_namespace

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: friend, namespace: shop, labels: {app: friend}}
spec: {containers: [{name: friend, image: friend}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: shop, labels: {app: stranger}}
spec: {containers: [{name: stranger, image: stranger}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: 8080}]}]
"""


class Runs:
    """`tabard` commands on a run directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = directory / "shop.yaml"
        self.manifest.write_text(MANIFEST)
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("TABARD_")
        } | {"TABARD_RUN_DIR": str(directory / "run")}
        self.started: list[subprocess.Popen[str]] = []

    def up(self, name: str, *words: str) -> subprocess.Popen[str]:
        """Begin a cluster; `wait_up` waits for it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tabard.cli", "up", "--name", name, *words],
            env=self._environment,
            stderr=(self.directory / f"{name}.err").open("w"),
            text=True,
        )
        self.started.append(process)
        return process

    def told(self, name: str) -> str:
        return (self.directory / f"{name}.err").read_text()

    def wait_up(self, name: str, process: subprocess.Popen[str]) -> profile.Profile:
        until(lambda: "stays up" in self.told(name) or process.poll() is not None)
        assert process.poll() is None, self.told(name)
        found = profile.read(name, self.directory / "run")
        assert found is not None
        return found

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "tabard.cli", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @contextmanager
    def following(self, *words: str) -> "Iterator[subprocess.Popen[str]]":
        """A command that goes on, with its stdout; killed at the end if it still does."""
        with subprocess.Popen(
            [sys.executable, "-m", "tabard.cli", *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def pods(self, name: str) -> dict[str, dict[str, object]]:
        """Pods by the first word of their name."""
        done = self.run("get", "pods", "-o", "json", "--cluster", name)
        assert done.returncode == 0, done.stderr
        return {str(row["name"]).split("-")[0]: row for row in json.loads(done.stdout)["items"]}


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Poll a condition of the world outside."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    found = Runs(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.wait()
    directory = tmp_path / "run"
    for name in profile.names(directory):
        left = profile.read(name, directory)
        assert left is not None
        sweep(left, directory, stop_timeout_s=5)


def connects(run: str, source: dict[str, object], destination: dict[str, object]) -> bool:
    """Whether a TCP connection from pod to pod comes about, over IPv4 and IPv6 alike."""
    addresses = destination["addresses"]
    assert isinstance(addresses, list)

    def attempt(address: str) -> bool:
        try:
            socket.create_connection((address, 8080), timeout=1).close()
        except TimeoutError:
            return False
        return True

    namespace = pod_namespace(run, str(source["uid"]))
    results = {enter.call(namespace, partial(attempt, address)) for address in addresses}
    assert len(results) == 1, f"IPv4 and IPv6 differ: {addresses}"
    return results.pop()


def test_the_commands_to_try_stay_aligned_whatever_cluster_they_name() -> None:
    for chosen in ("", " --cluster a-long-cluster-n"):
        lines = banner(chosen)
        assert len({len(line) - len(line.partition("   ")[2].lstrip()) for line in lines}) == 1
        assert all(f"{chosen} " in line for line in lines)


def test_address_ranges_are_no_identities_of_pods() -> None:
    async def build() -> State:
        bus = MemoryBus()
        await append(bus, *small(), IdentityAllocated((1 << 24) + 1, ("cidr:10.0.0.0/8",)))
        return await catch_up(bus, State())

    told = inventory(asyncio.run(build()))
    assert told == "1 pod with 1 identity (and 1 address range) and 1 policy"


@pytest.fixture
def cluster(tabard: Tabard, tmp_path: Path) -> Iterator[profile.Profile]:
    """A profile whose supervisor is a process that only sleeps."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command) as sleeper:
        name = f"t{secrets.token_hex(4)}"
        found = replace(
            running(name),
            pid=sleeper.pid,
            started=pids.started(sleeper.pid),
            netns="",
            data=str(tmp_path / "data"),
        )
        profile.claim(found, profile.run_directory())
        yield found
        sleeper.kill()


def test_down_without_a_name_ends_none_that_runs_and_removes_the_dead(
    tabard: Tabard, cluster: profile.Profile
) -> None:
    dead = replace(cluster, name=f"{cluster.name}-dead", started=1)
    profile.claim(dead, profile.run_directory())
    result = tabard("down")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"nothing of cluster {dead.name} is left",
        "tabard: cannot take the cluster down",
        f"  cluster {cluster.name} runs (process {cluster.pid})",
        f"  next: tabard down --cluster {cluster.name}",
    ]
    assert profile.names(profile.run_directory()) == [cluster.name]
    assert cluster.alive


def test_down_tells_what_it_ended(tabard: Tabard, cluster: profile.Profile) -> None:
    result = tabard("down", "--cluster", cluster.name)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"ended cluster {cluster.name} (process {cluster.pid})",
        f"nothing of cluster {cluster.name} is left",
    ]
    assert not cluster.alive
    assert tabard("down").stderr == "no cluster runs on this machine\n"


@pytest.mark.nats
def test_an_interrupt_during_the_start_says_so_and_leaves_nothing(runs: Runs) -> None:
    name = f"t{secrets.token_hex(4)}"
    process = runs.up(name, "--dataplane", "memory")
    until(lambda: "bus: " in runs.told(name))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, runs.told(name)
    assert "tabard: interrupted\n  before the cluster was ready" in runs.told(name)
    assert "cannot bring" not in runs.told(name)
    assert profile.names(runs.directory / "run") == []


@pytest.mark.ebpf
@pytest.mark.nats
def test_two_clusters_at_once_enforce_and_leave_nothing(runs: Runs) -> None:
    first, second = (f"t{secrets.token_hex(4)}" for _ in range(2))
    words = ("-f", str(runs.manifest), "--nodes", "2")
    started = {
        first: runs.up(first, *words),
        second: runs.up(second, *words, "--mode", "native"),
    }
    found = {name: runs.wait_up(name, process) for name, process in started.items()}

    for name in started:
        pods = runs.pods(name)
        assert {pod["status"] for pod in pods.values()} == {"Enforced"}
        assert connects(name, pods["friend"], pods["web"])
        assert not connects(name, pods["stranger"], pods["web"])

    # One must be named, a name that runs is taken, and the other cluster knows nothing of a change.
    assert runs.run("status").returncode == 1
    assert "runs already" in _failed_up(runs, first)
    scaled = runs.run(
        "scale", "deployment/web", "-n", "shop", "--replicas", "3", "--cluster", first
    )
    assert scaled.returncode == 0, scaled.stderr
    counted = ("get", "pods", "-l", "app=web", "-o", "name", "--cluster")
    until(lambda: len(runs.run(*counted, first).stdout.splitlines()) == 3)
    assert len(runs.run(*counted, second).stdout.splitlines()) == 1
    drift = runs.run("drift", "--cluster", first)
    assert drift.returncode == 0, drift.stdout + drift.stderr
    waited = json.loads(runs.run("wait", "-o", "json", "--cluster", first).stdout)
    now = runs.run("drift", "--at", str(waited["sequence"]), "--cluster", first)
    assert now.returncode == 0, now.stdout + now.stderr
    then = runs.run("drift", "--at", "1", "-o", "json", "--cluster", first)
    assert then.returncode == 1
    since = [entry for node in json.loads(then.stdout)["nodes"] for entry in node["entries"]]
    addresses = {entry["key"] for entry in since if entry["map"] == "endpoints"}
    assert addresses >= {pod["addresses"][0] for pod in runs.pods(first).values()}

    # Everyone's page is on the host, whatever namespace they live in.
    pages = {name: runs.run("metrics", "-o", "json", "--cluster", name) for name in started}
    assert {page.returncode for page in pages.values()} == {0}, pages
    urls = [row["url"] for page in pages.values() for row in json.loads(page.stdout)["services"]]
    assert len(set(urls)) == len(urls) == 8
    shown = runs.run("metrics", "agent.n1", "agent.n2", "--cluster", second).stdout
    assert shown.count("\ntabard_agent_in_sync 1.0\n") == 2
    assert 'verdict_packets_total{direction="ingress",reason="denied_policy"}' in shown

    # Ctrl-C ends one and leaves the other alone.
    started[first].send_signal(signal.SIGINT)
    assert started[first].wait(60) == 0, runs.told(first)
    assert remains(first, runs.directory / "run", Path(found[first].data)) == []
    pods = runs.pods(second)
    assert connects(second, pods["friend"], pods["web"])

    # A killed one takes its processes with it; `down` removes the rest.
    started[second].kill()
    started[second].wait()
    assert "died without cleaning up" in runs.run("status").stderr
    down = runs.run("down")
    assert down.returncode == 0, down.stderr
    assert remains(second, runs.directory / "run", Path(found[second].data)) == []
    assert runs.run("down").returncode == 0


def _failed_up(runs: Runs, name: str) -> str:
    done = runs.run("up", "--name", name)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.nats
def test_without_a_kernel_the_whole_flow_still_runs_and_says_so(runs: Runs) -> None:
    name = f"t{secrets.token_hex(4)}"
    process = runs.up(name, "-f", str(runs.manifest), "--nodes", "2", "--dataplane", "memory")
    found = runs.wait_up(name, process)
    assert "NO PACKET IS ENFORCED BY A KERNEL" in runs.told(name)
    assert {pod["status"] for pod in runs.pods(name).values()} == {"Enforced"}
    assert runs.run("wait").returncode == 0
    assert runs.run("events", "verify").returncode == 0
    until(lambda: _nodes_hold_the_same_as_the_ledger(runs))
    _follow_and_look_back(runs)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, runs.told(name)
    assert remains(name, runs.directory / "run", Path(found.data)) == []


def _nodes_hold_the_same_as_the_ledger(runs: Runs) -> bool:
    found = json.loads(runs.run("status", "-o", "json").stdout)
    nodes, ledger = found["nodes"], found["ledger"]
    assert found["diverged"] == []
    return {(node["digest_at"], node["digest"]) for node in nodes} == {
        (ledger["head"], ledger["digest"])
    }


def _follow_and_look_back(runs: Runs) -> None:
    """A pod's end is seen by who watches, and what it was stays readable."""
    streams = json.loads(runs.run("get", "streams", "-o", "json").stdout)["items"]
    ledger = next(row for row in streams if row["name"] == "LEDGER")
    assert (ledger["holes"], ledger["messages"]) == (0, ledger["last"])
    with runs.following("get", "pods", "-l", "app=web", "-w") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().split()[:3] == ["EVENT", "NAMESPACE", "NAME"]
        event, _, web, *_ = watching.stdout.readline().split()
        assert event == "ADDED"
        scaled = runs.run("scale", "deployment/web", "-n", "shop", "--replicas", "0", "--wait")
        assert scaled.returncode == 0
        assert "2 nodes enforce LEDGER/" in scaled.stderr
        while event != "DELETED":
            event, _, name, *_ = watching.stdout.readline().split()
            assert name == web
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
    assert runs.run("get", "pods", "-l", "app=web", "-o", "name").stdout == ""
    then = runs.run("get", "pods", "-l", "app=web", "-o", "name", "--at", str(ledger["last"]))
    assert then.stdout == f"pod/shop/{web}\n"
    gone = runs.run("describe", "pod", f"shop/{web}")
    assert gone.returncode == 1
    again = gone.stderr.splitlines()[-1].removeprefix("  next: tabard ").split()
    shown = runs.run(*again, "-o", "json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["isolation"] == {"ingress": True, "egress": False}
    assert [row["name"] for row in found["policies"]] == ["web"]


@pytest.mark.nats
def test_a_broken_manifest_costs_no_start(runs: Runs) -> None:
    runs.manifest.write_text(MANIFEST.replace("podSelector", "podSelektor"))
    done = runs.run("up", "-f", str(runs.manifest))
    assert done.returncode == 1
    assert "podSelektor" in done.stderr
    assert profile.names(runs.directory / "run") == []
