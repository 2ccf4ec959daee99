"""Node and pod namespaces to send real packets in, made for one test and gone after it.

    hub (a bridge) ── eth0 of each node ── routing ── host-side veth ── eth0 of each pod

Nodes have 192.0.2.<n> and fd00:ffff::<n> on the underlay. Pods have /32 and /128 addresses, and
the gateways 169.254.1.1 and fe80::1 as permanent neighbours: no ARP or discovery is needed.
"""

import contextlib
import os
import secrets
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tabard.dataplane.maps import Address, Endpoint, EndpointFlag, address
from tabard.netns import enter

T = TypeVar("T")

POD_MTU = 1430
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h; the module socket does not have it."""
ATTEMPT_S = 0.4
"""How long an answer is waited for; a packet that is dropped costs this."""


def ip(namespace: str, *commands: str) -> None:
    """Run iproute2 commands in the namespace, all or an error."""
    done = subprocess.run(
        ["ip", "-n", namespace, "-batch", "-"],
        input="\n".join(commands),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, f"{namespace}: {done.stderr}"


@dataclass(frozen=True)
class Node:
    namespace: str
    number: int

    @property
    def v4(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def v6(self) -> str:
        return f"fd00:ffff::{self.number}"

    def underlay(self, v: int) -> Address:
        return address(self.v4 if v == 4 else self.v6)


@dataclass(frozen=True)
class Pod:
    namespace: str
    node: Node
    interface: str
    mac: bytes
    host_mac: bytes
    v4: str
    v6: str
    uid: str = field(default_factory=lambda: secrets.token_hex(8))

    def address(self, v: int) -> str:
        return self.v4 if v == 4 else self.v6

    def endpoints(
        self, ifindex: int, identity: int, policy: int, flags: EndpointFlag
    ) -> dict[Address, Endpoint]:
        endpoint = Endpoint(
            incarnation=int(self.uid, 16),
            identity=identity,
            policy=policy,
            flags=flags,
            ifindex=ifindex,
            mac=self.mac,
            host_mac=self.host_mac,
        )
        return {address(self.v4): endpoint, address(self.v6): endpoint}


class Topology:
    def __init__(self) -> None:
        self.run = f"tbt{os.getpid()}{secrets.token_hex(2)}"
        self._namespaces: list[str] = []
        self.nodes: list[Node] = []
        self._pods = 0
        self.hub = self._namespace("hub")
        ip(self.hub, "link add br0 type bridge", "link set br0 up", "link set lo up")

    def _namespace(self, name: str) -> str:
        name = f"{self.run}-{name}"
        # While a link-local address is being checked it sends no solicitations: packets to a
        # neighbour would be lost for a second.
        enter.create(name, lambda: _sysctl("net/ipv6/conf/default/accept_dad", "0"))
        self._namespaces.append(name)
        return name

    def node(self) -> Node:
        node = Node(self._namespace(f"n{len(self.nodes) + 1}"), len(self.nodes) + 1)
        port = f"n{node.number}"
        ip(
            self.hub,
            f"link add {port} type veth peer name eth0 netns {node.namespace}",
            f"link set {port} master br0 up",
        )
        ip(
            node.namespace,
            "link set lo up",
            f"address add {node.v4}/24 dev eth0",
            f"address add {node.v6}/64 dev eth0 nodad",
            "link set eth0 up",
        )
        forward = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
        inside(node.namespace, lambda: [_sysctl(f"net/{name}", "1") for name in forward])
        self.nodes.append(node)
        return node

    def pod(self, node: Node) -> Pod:
        """10.<node>.0.<n> and fd00:<node>::<n>; host-side veth and routes are there, no guard."""
        self._pods += 1
        n = self._pods
        pod = Pod(
            self._namespace(f"p{n}"),
            node,
            f"pod{n}",
            bytes.fromhex(f"0200000000{n:02x}"),
            bytes.fromhex(f"0600000000{n:02x}"),
            f"10.{node.number}.0.{n}",
            f"fd00:{node.number}::{n}",
        )
        ip(
            node.namespace,
            f"link add {pod.interface} address {pod.host_mac.hex(':')} mtu {POD_MTU} type veth "
            f"peer name eth0 address {pod.mac.hex(':')} mtu {POD_MTU} netns {pod.namespace}",
            f"link set {pod.interface} up",
        )
        ip(
            pod.namespace,
            "link set lo up",
            f"address add {pod.v4}/32 dev eth0",
            f"address add {pod.v6}/128 dev eth0 nodad",
            "link set eth0 up",
            f"neighbour add 169.254.1.1 lladdr {pod.host_mac.hex(':')} dev eth0 nud permanent",
            f"neighbour add fe80::1 lladdr {pod.host_mac.hex(':')} dev eth0 nud permanent",
            "route add default via 169.254.1.1 dev eth0 onlink",
            "route add default via fe80::1 dev eth0",
        )
        for place, bits in ((pod.v4, 32), (pod.v6, 128)):
            ip(
                node.namespace,
                f"route add {place}/{bits} dev {pod.interface}",
                f"neighbour add {place} lladdr {pod.mac.hex(':')} dev {pod.interface} "
                "nud permanent",
            )
        return pod

    def route_pods_natively(self) -> None:
        """Each node sends other nodes' pods' packets to them, as a router would."""
        for node in self.nodes:
            for other in self.nodes:
                if other != node:
                    ip(
                        node.namespace,
                        f"route add 10.{other.number}.0.0/16 via {other.v4}",
                        f"route add fd00:{other.number}::/64 via {other.v6}",
                    )

    def remove(self) -> None:
        for name in reversed(self._namespaces):
            enter.delete(name)
        self._namespaces.clear()


@contextlib.contextmanager
def topology() -> Iterator[Topology]:
    made = Topology()
    try:
        yield made
    finally:
        made.remove()


def inside(namespace: str, function: Callable[[], T]) -> T:
    return enter.call(namespace, function)


def _sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)


def make_socket(namespace: str, family: int, kind: int, proto: int = 0) -> socket.socket:
    """Opened in the namespace, and of it wherever it is used."""
    return inside(namespace, lambda: socket.socket(family, kind, proto))


def family_of(place: str) -> int:
    return socket.AF_INET6 if ":" in place else socket.AF_INET


class Echo:
    """Sends back what it gets on a TCP and a UDP port of the namespace, v4 and v6."""

    def __init__(self, namespace: str, port: int) -> None:
        self._ending = threading.Event()
        self._listener = make_socket(namespace, socket.AF_INET6, socket.SOCK_STREAM)
        self._datagrams = make_socket(namespace, socket.AF_INET6, socket.SOCK_DGRAM)
        self._datagrams.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        for one in (self._listener, self._datagrams):
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("::", port))
            one.setblocking(False)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._serve, name=f"echo-{namespace}")
        self._thread.start()

    def _serve(self) -> None:
        streams: list[socket.socket] = []
        while not self._ending.is_set():
            ready, _, _ = select.select([self._listener, self._datagrams, *streams], [], [], 0.05)
            for one in ready:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    if one is self._listener:
                        streams.append(one.accept()[0])
                    elif one is self._datagrams:
                        while True:
                            data, sender = one.recvfrom(65536)
                            one.sendto(data, sender)
                    elif data := one.recv(65536):
                        one.sendall(data)
                    else:
                        streams.remove(one)
                        one.close()
        for one in (self._listener, self._datagrams, *streams):
            one.close()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


@contextlib.contextmanager
def echo(namespace: str, port: int) -> Iterator[Echo]:
    server = Echo(namespace, port)
    try:
        yield server
    finally:
        server.stop()


def tcp_reaches(namespace: str, place: str, port: int, data: bytes = b"hello") -> bool:
    """Whether the data comes back from an echo there."""
    with make_socket(namespace, family_of(place), socket.SOCK_STREAM) as client:
        client.settimeout(ATTEMPT_S)
        try:
            client.connect((place, port))
            client.settimeout(10)
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            back = b""
            while len(back) < len(data):
                chunk = client.recv(65536)
                if not chunk:
                    break
                back += chunk
            sender.join()
            return back == data
        except OSError:
            return False


def udp_reaches(namespace: str, place: str, port: int, data: bytes = b"hello") -> bool:
    with make_socket(namespace, family_of(place), socket.SOCK_DGRAM) as client:
        client.settimeout(ATTEMPT_S)
        client.connect((place, port))
        try:
            client.send(data)
            return client.recv(65536) == data
        except OSError:
            return False


class Stream:
    """Numbered datagrams to an echo, about `rate` a second, until stopped; then who came back."""

    def __init__(self, namespace: str, place: str, port: int, rate: int = 2000) -> None:
        self.sent = 0
        self.back: set[int] = set()
        self._rate = rate
        self._ending = threading.Event()
        self._socket = make_socket(namespace, family_of(place), socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self._socket.connect((place, port))
        self._socket.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="stream")
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ending.is_set():
            due = int((time.monotonic() - began) * self._rate)
            while self.sent < due:
                with contextlib.suppress(OSError):
                    self._socket.send(self.sent.to_bytes(8))
                self.sent += 1
            self._receive()
            time.sleep(0.001)

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.back.add(int.from_bytes(self._socket.recv(64)))

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()
        until = time.monotonic() + 2
        while len(self.back) < self.sent and time.monotonic() < until:
            self._receive()
            time.sleep(0.01)
        self._socket.close()

    @property
    def lost(self) -> int:
        return self.sent - len(self.back)


@contextlib.contextmanager
def stream(namespace: str, place: str, port: int, rate: int = 2000) -> Iterator[Stream]:
    made = Stream(namespace, place, port, rate)
    try:
        yield made
    finally:
        made.stop()
