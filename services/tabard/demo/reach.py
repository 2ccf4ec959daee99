"""How a trial's packets get from a pod to others: real ones, or ones told to the agents' gates.

Both give a thread a function that probes targets as one pod. With the memory dataplane there are no
packets, so each probe is told to the agents hook by hook, there and back.
"""

import itertools
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from tabard.dataplane.maps import Protocol as Ip
from tabard.dataplane.packet import TcpFlag
from tabard.demo.probe import Answer, Target, probe_here
from tabard.ledger.state import EndpointState, State
from tabard.netns import enter
from tabard.netns.names import pod_namespace

Probe = Callable[[Sequence[Target], float], list[Answer]]
"""(targets, deadline in seconds) → answers, in the targets' order."""
GATE_TIMEOUT_S = 10.0


class Reach(Protocol):
    """Makes the calling thread a pod's, for good."""

    def become(self, pod: EndpointState) -> Probe: ...


class RealPackets:
    """The thread enters the pod's network namespace and opens sockets there."""

    def __init__(self, run: str) -> None:
        self._run = run

    def become(self, pod: EndpointState) -> Probe:
        enter.enter(pod_namespace(self._run, pod.uid))
        return probe_here


class ToldPackets:
    """The thread tells the agents what packets the pod would send."""

    def __init__(self, state: State, socket_of: Callable[[str], Path]) -> None:
        self._state = state
        self._socket_of = socket_of

    def become(self, pod: EndpointState) -> Probe:
        gates = _Gates(self._socket_of)
        return lambda targets, _: [self._probe(gates, pod, target) for target in targets]

    def _probe(self, gates: "_Gates", pod: EndpointState, target: Target) -> Answer:
        began = time.time_ns()
        source = next(a for a in pod.addresses if (":" in a) == (":" in target.address))
        there = {
            "source": source,
            "destination": target.address,
            "protocol": Ip[target.protocol].value,
            "source_port": next(_PORTS),
            "destination_port": target.port,
            "tcp_flags": TcpFlag.SYN.value,
        }
        back = {
            **there,
            "source": target.address,
            "destination": source,
            "source_port": target.port,
            "destination_port": there["source_port"],
            "tcp_flags": (TcpFlag.SYN | TcpFlag.ACK).value,
        }
        passed = self._travels(gates, there) and self._travels(gates, back)
        return Answer(target, passed, "", began, time.time_ns())

    def _travels(self, gates: "_Gates", packet: Mapping[str, Any]) -> bool:
        """Whether a packet gets from its source's pod into its destination's."""
        ends = [
            self._state.endpoints.get(self._state.bindings.get(packet[end], ""))
            for end in ("source", "destination")
        ]
        sender, receiver = ends
        if sender is None or receiver is None:
            return False
        sent = gates.ask(sender.node, {"hook": "from_pod", "uid": sender.uid, **packet})
        node, mark = sender.node, sent.get("identity")
        match sent.get("action"):
            case "tunnel":
                node = self._node_at(sent["node"])
                outer = next(
                    a
                    for a in self._state.nodes[sender.node].addresses
                    if (":" in a) == (":" in sent["node"])
                )
                arrived = gates.ask(
                    node,
                    {"hook": "from_overlay", "outer_source": outer, "tunnel_id": mark, **packet},
                )
                if arrived.get("action") != "deliver":
                    return False
                mark = arrived["identity"]
            case "pass":
                node, mark = receiver.node, None
                if gates.ask(node, {"hook": "from_wire", **packet}).get("action") != "pass":
                    return False
            case "deliver":
                pass
            case _:
                return False
        judged = gates.ask(node, {"hook": "to_pod", "uid": receiver.uid, "mark": mark, **packet})
        return judged.get("action") == "pass"

    def _node_at(self, address: str) -> str:
        return next(node.name for node in self._state.nodes.values() if address in node.addresses)


_PORTS = itertools.cycle(range(32_768, 61_000))


class _Gates:
    """One thread's connections to the agents' gates."""

    def __init__(self, socket_of: Callable[[str], Path]) -> None:
        self._socket_of = socket_of
        self._files: dict[str, Any] = {}
        self._open = ExitStack()

    def ask(self, node: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The agent's outcome for a packet; {} where it refuses (a pod that is not attached)."""
        if node not in self._files:
            connection = self._open.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(GATE_TIMEOUT_S)
            connection.connect(str(self._socket_of(node)))
            self._files[node] = self._open.enter_context(connection.makefile("rwb"))
        file = self._files[node]
        file.write(json.dumps({"id": 1, "op": "packet", **fields}).encode() + b"\n")
        file.flush()
        answer: dict[str, Any] = json.loads(file.readline())
        return answer if answer.get("ok") else {}

    def __del__(self) -> None:
        self._open.close()
