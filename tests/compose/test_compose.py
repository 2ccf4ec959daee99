"""compose.yaml comes up on a real engine, enforces on real packets, and rides through kills.

`make test-compose` runs it: as root, with Debian's packages and PyPI in reach.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.engine import (
    BASE_IMAGE,
    ROOT,
    Engine,
    base_root,
    clear,
    engine,
    run,
    unpacked,
)
from tabard.cluster import gate
from tabard.netns import enter
from tabard.netns.names import node_namespace, pod_namespace

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(1500)]

NODE, UNDERLAY = "node-1", "192.0.2.1"
UP_S, SOON_S = 240.0, 60.0
PORT = 8080
MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
"""
POD = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec: {{containers: [{{name: one, image: none, ports: [{{containerPort: 8080}}]}}]}}
"""

UNITS_IMAGE = "tabard-units"
UNITS_DOCKERFILE = """
FROM tabard
USER root
RUN apt-get update && apt-get install -y --no-install-recommends systemd systemd-sysv iproute2
CMD ["/sbin/init"]
"""
UNITS_HOST = """
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
mkdir -p /etc/tabard/auth /etc/systemd/system/tabard-agent@.service.d
cd /etc/tabard
tabard auth init kept --server nats-1=127.0.0.1 --node node-1
install -m 0644 kept/ca.pem kept/accounts.conf auth
install -o tabard -g tabard -m 0600 kept/keys/allocator.seed auth
install -o tabard -g tabard -m 0600 kept/servers/nats-1.pem auth/nats.pem
install -o tabard -g tabard -m 0600 kept/servers/nats-1.key auth/nats.key
install -m 0600 kept/keys/agent.node-1.seed auth
all="TABARD_CLUSTER=$1 TABARD_NATS=tls://127.0.0.1:4222 TABARD_NATS_CA=/etc/tabard/auth/ca.pem"
printf '%s\n' $all TABARD_HTTP=127.0.0.1:9101 > allocator.env
printf '%s\n' $all TABARD_HTTP=127.0.0.1:9100 TABARD_UNDERLAY=192.0.2.1 > agent.env
printf '%s\n' $all TABARD_SERVER_NAME=nats-1 TABARD_SERVER_CERTIFICATE=/etc/tabard/auth/nats.pem \
  TABARD_SERVER_KEY=/etc/tabard/auth/nats.key \
  TABARD_SERVER_ACCOUNTS=/etc/tabard/auth/accounts.conf > nats.env
# An engine of before 23.0 cannot give what the unit names.
printf '[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN\n' \
  > /etc/systemd/system/tabard-agent@.service.d/old-engine.conf
systemctl daemon-reload
systemctl start tabard-nats
env $all TABARD_NATS_NKEY=kept/keys/admin.seed python -m tabard.server.streams
systemctl start tabard-allocator tabard-agent@node-1
"""


@dataclass(frozen=True)
class Deployed:
    """The compose file's services on an engine, and a source of pods beside them."""

    engine: Engine
    cluster: str

    def compose(self, *arguments: str, timeout_s: float = UP_S, input: str | None = None) -> str:
        files = [
            part
            for name in ("compose.yaml", "compose.old-engine.yaml")
            for part in ("-f", str(ROOT / "compose" / name))
        ]
        return run(
            "docker",
            "compose",
            *files,
            *arguments,
            timeout_s=timeout_s,
            variables=self.engine.variables,
            input=input,
        )

    def tabard(self, *arguments: str, input: str | None = None) -> str:
        """The command line in a container, as an operator."""
        return self.compose("run", "--rm", "-T", "tabard", *arguments, input=input)

    def pid(self, service: str) -> int:
        """Of the service's first process."""
        name = f"tabard-{service}-1"
        return int(self.engine.docker("inspect", "-f", "{{.State.Pid}}", name))

    def kill(self, service: str) -> None:
        """As the kernel would for want of memory: the engine is not told to."""
        os.kill(self.pid(service), signal.SIGKILL)

    def health(self) -> dict[str, str]:
        listed = self.compose("ps", "-a", "--format", "json").splitlines()
        found = map(json.loads, listed)
        return {each["Service"]: each["Health"] or each["State"] for each in found}

    def await_health(self) -> None:
        wanted = {"healthy", "exited"}  # the making of the streams ends
        until = time.monotonic() + UP_S
        while set((now := self.health()).values()) - wanted:
            assert time.monotonic() < until, now
            time.sleep(0.5)

    def pods(self) -> dict[str, tuple[str, str]]:
        """Workload → (UID, IPv4 address) of its one pod."""
        found = json.loads(self.tabard("get", "pods", "-o", "json"))
        return {
            each["labels"]["app"]: (each["uid"], each["addresses"][0]) for each in found["items"]
        }

    def leader(self) -> str:
        """The service of the allocator that leads."""
        shown = json.loads(self.tabard("status", "-o", "json"))
        (leads,) = [each for each in shown["allocators"] if each["role"] == "leading"]
        return str(leads["name"])

    def reaches(self, source: str, target: str) -> bool:
        """Whether a connection to `target` opens, from the pod of UID `source`."""

        def connect() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((target, PORT), 1):
                return True
            return False

        return enter.call(pod_namespace(self.cluster, source), connect)

    def await_reach(self, source: str, target: str, wanted: bool) -> None:
        until = time.monotonic() + SOON_S
        while self.reaches(source, target) is not wanted:
            assert time.monotonic() < until, f"{source} to {target} is still {not wanted}"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    assert os.geteuid() == 0, "this test makes network namespaces: run it as root"
    cluster = f"tc{secrets.token_hex(3)}"
    namespace = node_namespace(cluster, NODE)
    directory = tmp_path_factory.mktemp("engine")
    programs = unpacked()
    archive = base_root(programs)
    with contextlib.ExitStack() as stack:
        stack.callback(clear, directory, namespace)
        with engine(programs, directory, namespace) as builder:
            certificates = "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
            builder.docker("import", "-c", certificates, archive, BASE_IMAGE)
            builder.docker("build", "--network", "host", "-f", "compose/Dockerfile", "-t", "tabard",
                           ".", timeout_s=1200)  # fmt: skip
            builder.docker(
                "build", "--network", "host", "-t", UNITS_IMAGE, "-", input=UNITS_DOCKERFILE
            )
        enter.create(namespace, lambda: None)
        stack.callback(enter.delete, namespace)
        for command in ("link set lo up", f"addr add {UNDERLAY}/32 dev lo"):
            run("nsenter", f"--net={enter.path(namespace)}", "ip", *command.split())
        where = ("nsenter", f"--net={enter.path(namespace)}")
        runs = stack.enter_context(engine(programs, directory, namespace, where))
        sockets = directory / "nodes" / NODE
        sockets.mkdir(parents=True)
        runs = Engine(
            runs.directory,
            namespace,
            {
                **runs.variables,
                "TABARD_AUTH": str(directory / "auth"),
                "TABARD_CLUSTER": cluster,
                "TABARD_NODE": NODE,
                "TABARD_UNDERLAY": UNDERLAY,
                "TABARD_POD_CIDRS": "10.244.1.0/24",
                "TABARD_SOCKETS": str(sockets),
            },
        )
        found = Deployed(runs, cluster)
        stack.callback(shutil.rmtree, Path("/sys/fs/bpf/tabard") / cluster, ignore_errors=True)
        run("sh", "compose/secrets.sh", variables=runs.variables)
        stack.callback(_down, found)
        found.compose("up", "-d", "--wait")
        stack.enter_context(_source(found, where))
        yield found


def _down(deployed: Deployed) -> None:
    deployed.compose("down", "-v")
    for kind in ("container ls -aq", "volume ls -q"):
        assert deployed.engine.docker(*kind.split()) == ""
    assert "tabard" not in deployed.engine.docker("network", "ls")


@contextlib.contextmanager
def _source(deployed: Deployed, where: tuple[str, ...]) -> Iterator[None]:
    """Makes pods of what is applied: network namespaces with listeners, on the engine's host."""
    directory = deployed.engine.directory
    settings = {
        "TABARD_NATS": ",".join(f"tls://127.0.0.1:{port}" for port in (4222, 4223, 4224)),
        "TABARD_NATS_CA": str(directory / "auth/kept/ca.pem"),
        "TABARD_NATS_NKEY": str(directory / "auth/kept/keys/source.seed"),
        "TABARD_CLUSTER": deployed.cluster,
        "TABARD_DATA": str(directory / "source"),
        "TABARD_NODES_DIR": str(directory / "nodes"),
    }
    (directory / "source").mkdir()
    with (directory / "source.log").open("wb") as log:
        process = subprocess.Popen(
            [*where, sys.executable, "-m", "tabard.source"],
            env={**os.environ, **settings},
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_it_enforces_and_rides_through_kills(deployed: Deployed) -> None:
    pods = "".join(POD.format(app=app) for app in ("client", "server", "stranger"))
    deployed.tabard("apply", "--wait", "-f", "-", input=MANIFEST + pods)
    # Each server's own counts of each stream, which the allocators look at too.
    assert "nats-3" in deployed.tabard("bus", "status")
    found = deployed.pods()
    (client, _), (_, server), (stranger, _) = (
        found[app] for app in ("client", "server", "stranger")
    )
    assert deployed.reaches(client, server)
    assert not deployed.reaches(stranger, server)
    # What is said of manifests is said of the kernel, and nothing else is in its maps.
    drift = asyncio.run(
        gate.ask(deployed.engine.directory / "nodes" / NODE / "agent.sock", "drift", 30)
    )
    assert drift["count"] == 0, drift

    # The agent dies: its kernel goes on, and so does it.
    deployed.kill("agent")
    assert deployed.reaches(client, server)
    assert not deployed.reaches(stranger, server)

    # A server of the bus and the leading allocator die at once; what is asked of them is done.
    leader = deployed.leader()
    deployed.kill("nats-1")
    deployed.kill(leader)
    allowing = MANIFEST.replace("matchLabels: {app: client}", "matchLabels: {app: stranger}")
    deployed.tabard("apply", "-f", "-", input=allowing)
    deployed.await_reach(stranger, server, True)
    deployed.await_reach(client, server, False)
    deployed.await_health()
    assert deployed.leader() in ("allocator-1", "allocator-2")
    assert not deployed.reaches(client, server)


def test_services_have_the_rights_that_they_need_and_no_others(deployed: Deployed) -> None:
    """Nobody but the agent is root, and it has two capabilities (SYS_ADMIN for BPF and PERFMON)."""
    effective = {}
    for service in ("nats-1", "allocator-1", "agent"):
        status = Path(f"/proc/{deployed.pid(service)}/status").read_text()
        words = dict(line.split(":", 1) for line in status.splitlines())
        assert words["NoNewPrivs"].strip() == "1"
        effective[service] = (int(words["Uid"].split()[0]), int(words["CapEff"], 16))
    net_admin, sys_admin = 1 << 12, 1 << 21
    assert effective == {
        "nats-1": (10001, 0),
        "allocator-1": (10001, 0),
        "agent": (0, net_admin | sys_admin),
    }
    for service in effective:
        name = f"tabard-{service}-1"
        assert (
            deployed.engine.docker("inspect", "-f", "{{.HostConfig.ReadonlyRootfs}}", name).strip()
            == "true"
        )


def test_the_units_run_confined_under_systemd(deployed: Deployed) -> None:
    """They are in sync with all that systemd takes from them, and again after SIGKILL."""
    docker, host = deployed.engine.docker, f"units-{deployed.cluster}"
    cluster = f"{deployed.cluster}u"
    capabilities = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")
    given = [part for name in capabilities for part in ("--cap-add", name)]
    # What a host has and a container has not.
    given += ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
    given += ["--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup", "--tmpfs", "/run"]
    given += ["-v", "/sys/fs/bpf:/sys/fs/bpf", "--device", "/dev/net/tun", "--tmpfs", "/tmp"]
    docker("run", "-d", "--name", host, "--network", "none", *given, UNITS_IMAGE)
    try:
        _await(deployed, host, "systemctl", "is-system-running", "--wait")
        for unit in (ROOT / "compose/systemd").glob("*.service"):
            docker("cp", unit, f"{host}:/etc/systemd/system/")
        docker("exec", host, "sh", "-euc", UNITS_HOST, "sh", cluster)
        _await_ready(deployed, host)
        units = ("tabard-nats", "tabard-allocator", "tabard-agent@node-1")
        for unit in units:
            docker("exec", host, "systemctl", "kill", "-s", "KILL", unit)
        _await_ready(deployed, host)
        shown = docker("exec", host, "systemctl", "show", "-p", "NRestarts", "--value", *units)
        assert [int(word) >= 1 for word in shown.split()] == [True] * len(units), shown
        assert docker("exec", host, "systemctl", "--failed", "--no-legend") == ""
    finally:
        docker("rm", "-f", host)
        shutil.rmtree(Path("/sys/fs/bpf/tabard") / cluster, ignore_errors=True)


def _await_ready(deployed: Deployed, host: str) -> None:
    """Until the allocator and the agent on `host` are in sync."""
    ask = "import sys, urllib.request as r; [r.urlopen(url, timeout=4) for url in sys.argv[1:]]"
    urls = [f"http://127.0.0.1:{port}/readyz" for port in (9100, 9101)]
    _await(deployed, host, "python3", "-c", ask, *urls)


def _await(deployed: Deployed, host: str, *command: str) -> None:
    """Until the command succeeds there."""
    until, said = time.monotonic() + UP_S, ""
    while time.monotonic() < until:
        try:
            deployed.engine.docker("exec", host, *command)
            return
        except AssertionError as error:
            said = str(error)
        time.sleep(0.5)
    raise AssertionError(f"not in {UP_S:g} s: {said}")
