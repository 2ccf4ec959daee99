"""Domain names in a real cluster: a DNS server in a pod, a server outside, and real packets."""

import asyncio
import contextlib
import json
import os
import secrets
import select
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.rcode
import dns.rrset
import pytest

from domains import to_names
from tabard.bus.port import Stream
from tabard.cluster.publish import outcome, publish
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.events.ledger import NameForgotten, NameResolved
from tabard.events.observed import PolicySet, WorkloadSet
from tabard.ledger.follow import catch_up
from tabard.ledger.messages import recorded
from tabard.ledger.state import State
from tabard.netns import enter
from tabard.netns.names import hub_namespace, node_namespace, pod_namespace
from topology import echo, ip, make_socket, tcp_reaches, udp_reaches

pytestmark = [pytest.mark.nats, pytest.mark.ebpf]

SHOP, NEVER = "203.0.113.7", "203.0.113.8"
SHOP_V6 = "2001:db8:113::7"
RECORDS = {
    ("shop.example.com.", "A"): (SHOP,),
    ("shop.example.com.", "AAAA"): (SHOP_V6,),
    ("inside.example.com.", "A"): ("10.244.1.1", "10.244.2.1", "198.18.0.11", "127.0.0.1"),
    ("evil.org.", "A"): (NEVER,),
}
POLICY = to_names("*.example.com", lookups=("*.example.com",), labels={"app": "web"})
TIMEOUT_S = 10


@contextlib.contextmanager
def dns_server(namespace: str) -> Iterator[None]:
    """Answers for RECORDS, with a time to live of a second, on port 53."""
    ending = threading.Event()
    server = make_socket(namespace, socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", 53))

    def serve() -> None:
        while not ending.is_set():
            if not select.select([server], [], [], 0.05)[0]:
                continue
            wire, sender = server.recvfrom(65_535)
            query = dns.message.from_wire(wire)
            answer = dns.message.make_response(query)
            (asked,) = query.question
            kind = dns.rdatatype.to_text(asked.rdtype)
            if found := RECORDS.get((asked.name.to_text().lower(), kind)):
                answer.answer.append(dns.rrset.from_text(asked.name, 1, "IN", kind, *found))
            server.sendto(answer.to_wire(), sender)

    thread = threading.Thread(target=serve, name="dns")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        server.close()


def is_there(namespace: str) -> bool:
    """Whether it can be entered: its name is there first."""
    try:
        os.close(enter.hold(namespace))
    except enter.NamespaceAbsent:
        return False
    return True


@dataclass
class Scene:
    cluster: Cluster
    directory: Path
    state: State = field(default_factory=State)

    async def apply(self, *events: Any) -> None:
        published = await publish(self.cluster.bus, events)
        said = await outcome(self.cluster.bus, published, TIMEOUT_S)
        assert said.refused == ()

    async def fold(self) -> State:
        await catch_up(self.cluster.bus, self.state)
        return self.state

    async def until(self, true: Callable[[], object]) -> None:
        """Fold, and look, until it is so: what is waited for need not know of it."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.fold()
            while not true():
                await asyncio.sleep(0.02)
                await self.fold()

    def address(self, name: str, family: int = 4) -> str:
        (found,) = [one for one in self.state.endpoints.values() if one.name == name]
        return next(one for one in found.addresses if (":" in one) == (family == 6))

    def namespace(self, name: str) -> str:
        (found,) = [one for one in self.state.endpoints.values() if one.name == name]
        return pod_namespace(self.cluster.name, found.uid)

    def ask(
        self, name: str, kind: str = "A", *, family: int = 4, timeout_s: float = TIMEOUT_S
    ) -> dns.message.Message | None:
        """What the pod `web` is answered; None if nothing comes."""
        query = dns.message.make_query(name, kind)
        place = socket.AF_INET6 if family == 6 else socket.AF_INET
        with make_socket(self.namespace("web"), place, socket.SOCK_DGRAM) as client:
            client.settimeout(timeout_s)
            try:
                client.connect((self.address("dns", family), 53))
                client.send(query.to_wire())
                answer = dns.message.from_wire(client.recv(65_535))
            except OSError:
                return None
        assert query.is_response(answer)
        return answer

    def addresses(self, name: str, kind: str = "A", **options: Any) -> list[str]:
        answer = self.ask(name, kind, **options)
        assert answer is not None, f"no answer for {name}"
        return [record.address for found in answer.answer for record in found]

    def reaches(self, address: str, port: int = 443) -> bool:
        return tcp_reaches(self.namespace("web"), address, port)

    async def tabard(self, *words: str) -> Any:
        """What the command line prints as JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tabard.cli", *words),
            *("--cluster", self.cluster.name, "-o", "json"),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"TABARD_RUN_DIR": str(self.directory)},
        )
        said, _ = await process.communicate()
        return json.loads(said)

    async def events(self, *kinds: type) -> list[Any]:
        found = []
        while messages := await self.cluster.bus.read(Stream.LEDGER, len(found) + 1):
            found += [recorded(Stream.LEDGER, message) for message in messages]
        return [record for record in found if isinstance(record.event, kinds)]


def pod(name: str, namespace: str, node: str, labels: dict[str, str]) -> WorkloadSet:
    ports = [{"containerPort": 8080}]
    return WorkloadSet(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
        }
    )


@asynccontextmanager
async def scene(tmp_path: Path, mode: str = "overlay", **extra: str) -> AsyncIterator[Scene]:
    """`web` on n1 asks `dns` on n2; outside, SHOP and NEVER listen on ports 443 and 8443."""
    settings = Settings(
        name=f"t{secrets.token_hex(4)}",
        nodes=2,
        mode=mode,  # type: ignore[arg-type]
        dataplane="ebpf",
        extra={"RETIRE_GRACE_MS": "0", **extra},
    )
    async with Cluster(settings, directory=tmp_path) as cluster:
        hub = hub_namespace(cluster.name)
        addresses = [f"address add {one}/32 dev lo" for one in (SHOP, NEVER)]
        ways = [
            f"route add {cidr} via {underlay}"
            for node in cluster.nodes
            for cidr, underlay in zip(node.pod_cidrs, node.underlay, strict=True)
        ]
        ip(hub, *addresses, f"address add {SHOP_V6}/128 dev lo nodad", *ways)
        for node in cluster.nodes:
            ip(
                node_namespace(cluster.name, node.name),
                "route add 203.0.113.0/24 via 198.18.0.1",
                "route add 2001:db8:113::/64 via fd00:c612::1",
            )
        made = Scene(cluster, tmp_path)
        await made.apply(
            pod("dns", "kube-system", "n2", {"k8s-app": "kube-dns"}),
            pod("web", "shop", "n1", {"app": "web"}),
            pod("other", "shop", "n1", {"app": "other"}),
            PolicySet(POLICY, "names.yaml:1"),
        )
        await made.until(lambda: len(made.state.endpoints) == 3)
        await cluster.wait_enforced()
        pods = {made.namespace(name) for name in ("web", "dns")}
        await made.until(lambda: all(map(is_there, pods)))
        with dns_server(made.namespace("dns")), echo(hub, 443), echo(hub, 8443):
            # Until the pods are connected.
            await made.until(lambda: made.ask("shop.example.com", "MX", timeout_s=0.2))
            yield made


@pytest.mark.parametrize("mode", ["overlay", "native"])
async def test_a_name_opens_what_it_stands_for_and_nothing_else(tmp_path: Path, mode: str) -> None:
    async with scene(tmp_path, mode) as s:
        assert not s.reaches(SHOP), "nobody asked yet"
        for name, kind, family, address in (
            ("shop.example.com", "A", 4, SHOP),
            ("SHOP.example.com", "AAAA", 6, SHOP_V6),
        ):
            assert s.addresses(name, kind, family=family) == [address]
            # The answer waited until this was enforced: the first packet passes.
            assert s.reaches(address)
        assert not s.reaches(SHOP, 8443), "another port"
        assert not s.reaches(NEVER), "an address that was never said"

        refused = s.ask("evil.org")
        assert refused is not None
        assert refused.rcode() == dns.rcode.REFUSED
        assert not s.reaches(NEVER)

        # Somebody deletes the proxy's device: another is made.
        ip(node_namespace(s.cluster.name, "n1"), "link delete tabard-dns")
        await s.until(lambda: s.ask("shop.example.com", "MX", timeout_s=0.2))

        # Addresses of the cluster do not open, whatever a name says.
        assert len(s.addresses("inside.example.com")) == 4
        assert not s.reaches(s.address("other"), 8080)
        state = await s.fold()
        assert {name: set(held) for name, held in state.names.items()} == {
            "shop.example.com": {SHOP, SHOP_V6}
        }

        # Audits know.
        (first, _) = await s.events(NameResolved)
        shown = (await s.tabard("get", "names"))["items"]
        assert [(row["name"], len(row["addresses"])) for row in shown] == [("shop.example.com", 2)]
        before = await s.tabard("get", "names", "--at", str(first.sequence - 1))
        assert before["items"] == []
        checked = await s.tabard(
            *("policy", "check", "--from", "shop/web", "--to", SHOP, "--port", "443")
        )
        assert "toFQDNs[0]" in json.dumps(checked)


async def test_a_name_whose_time_is_over_closes(tmp_path: Path) -> None:
    async with scene(tmp_path, NAMES_KEPT_MS="1500") as s:
        assert s.addresses("shop.example.com") == [SHOP]
        with make_socket(s.namespace("web"), socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect((SHOP, 443))
            connection.send(b"open")
            assert connection.recv(100) == b"open"
            await s.until(lambda: not s.state.names)
            await s.cluster.wait_enforced()
            connection.settimeout(0.5)
            connection.send(b"closed")
            with pytest.raises(TimeoutError):
                connection.recv(100)
        assert not s.reaches(SHOP)
        (forgotten,) = await s.events(NameForgotten)
        assert forgotten.event == NameForgotten("shop.example.com", (SHOP,))
        assert s.addresses("shop.example.com") == [SHOP]
        assert s.reaches(SHOP)


async def test_while_the_agent_is_dead_lookups_stop_and_what_is_open_stays(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        assert s.addresses("shop.example.com") == [SHOP]
        with make_socket(s.namespace("web"), socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            client.connect((s.address("dns"), 53))
            s.cluster.kill("agent.n1", signal.SIGSTOP)
            client.send(dns.message.make_query("shop.example.com", "AAAA").to_wire())
            s.cluster.kill("agent.n1", signal.SIGKILL, hold=True)
            with pytest.raises(TimeoutError):
                client.recv(100)
        assert s.ask("shop.example.com", timeout_s=0.3) is None
        assert s.reaches(SHOP)
        assert not s.reaches(NEVER)
        assert not udp_reaches(s.namespace("web"), NEVER, 53)
        await s.cluster.restart("agent.n1")
        await s.until(lambda: s.ask("shop.example.com", "AAAA", timeout_s=0.3))
        await s.until(lambda: s.reaches(SHOP_V6))
