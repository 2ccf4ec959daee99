"""Nodes on a hub with nothing in them, and sockets: what faults of the network are tried on."""

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tabard.chaos.faults.ports import run
from tabard.cluster import network
from tabard.cluster.settings import HUB, places
from tabard.cluster.sweep import notes
from tabard.netns import enter
from tabard.netns.names import hub_namespace, node_namespace

PORT = 7000
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
ANSWER_S = 20.0
"""Longest wait for what must come; nothing is ever waited for that must not."""


@dataclass(frozen=True)
class Underlay:
    """A `Rig` without processes; "agent.n1" and "agent.n2" stand for the namespaces."""

    run: str
    data: Path
    agents: tuple[str, ...] = ("agent.n1", "agent.n2")

    def namespace(self, process: str) -> str:
        return node_namespace(self.run, process.partition(".")[2])

    @property
    def hub(self) -> str:
        return hub_namespace(self.run)

    def place(self, process: str) -> tuple[str, str]:
        """Namespace and address of a node, or of "hub"."""
        if process == "hub":
            return self.hub, str(HUB[0].ip)
        node = places(len(self.agents))[self.agents.index(process)]
        return self.namespace(process), str(node.underlay[0])

    def state(self) -> dict[str, object]:
        """All that a fault could leave behind, but for processes."""
        found: dict[str, object] = {"namespaces": network.names_of(self.run)}
        for process in (*self.agents, "hub"):
            namespace, _ = self.place(process)
            links = json.loads(enter.call(namespace, lambda: run("ip", "-json", "link", "show")))
            found[f"links of {process}"] = {link["ifname"]: link.get("master") for link in links}
            found[f"rules of {process}"] = enter.call(
                namespace, lambda: run("nft", "list", "ruleset")
            )
        found["notes"] = sorted(notes(self.data).iterdir())
        return found


@contextmanager
def underlay(data: Path) -> Iterator[Underlay]:
    name = f"c{os.getpid() % 10**6}-{secrets.token_hex(2)}"
    for folder in (notes(data), data / "logs"):
        folder.mkdir()
    try:
        network.lay(network.plan(name, places(2), "overlay"))
        yield Underlay(name, data)
    finally:
        network.delete(network.names_of(name))


class Mouth:
    """A UDP socket in a namespace, on PORT. Between two of them datagrams keep their order."""

    def __init__(self, rig: Underlay, process: str, port: int = PORT) -> None:
        namespace, self.address = rig.place(process)
        self._port = port
        self._socket = enter.call(namespace, lambda: socket.socket(type=socket.SOCK_DGRAM))
        self._socket.bind((self.address, port))
        self._socket.settimeout(ANSWER_S)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)

    def say(self, word: str, to: "Mouth") -> None:
        self._socket.sendto(word.encode(), (to.address, to._port))

    def hear(self) -> str:
        return self._socket.recv(1 << 16).decode()

    def heard_until(self, last: str) -> list[str]:
        """What came before `last`."""
        return list(iter(self.hear, last))

    def heard_by_now(self) -> list[str]:
        """What has come already."""
        words = []
        self._socket.setblocking(False)
        try:
            while True:
                words.append(self.hear())
        except BlockingIOError:
            return words
        finally:
            self._socket.settimeout(ANSWER_S)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "Mouth":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
