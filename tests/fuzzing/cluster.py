"""A random cluster of the traffic's parties: its ledger, the maps of both nodes, and the oracle's
facts. What happens in it is plain data, so that it can be written down.

Its allocator decides on what is observed, as the real one; its agents fold the ledger that comes of
it, message by message, and go on compiling by what they folded.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import oracle
from deciding import GRACE_MS, SETTINGS, Desk, pairs
from fuzzing.happenings import Document, Happening, PodFacts, key_of
from strategies import NAMESPACES
from tabard.bus.port import Stored
from tabard.dataplane.maps import Address, Maps, Mode, address_text
from tabard.dataplane.verdict import Judge
from tabard.events.ledger import NodeRefused, PodRefused, PolicyRefused
from tabard.events.observed import (
    NameAnswered,
    NamespaceLabelsSet,
    NodeJoined,
    PodLabelsChanged,
    PodStarted,
    PodStopped,
    PolicyRemoved,
    PolicySet,
)
from tabard.ledger.reader import take
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler
from tabard.policy.engine import Engine
from traffic import IFINDEXES, LOCAL, NODES, REMOTE
from world import attachment

PODS = (*LOCAL, *REMOTE)
SETTLING = replace(SETTINGS, names_kept_ms=GRACE_MS)
"""An answer stands until things have settled twice."""
KNOWN = {f"n{n}": addresses for n, addresses in enumerate(NODES[:2], start=1)}
"""The nodes that there are."""
RANGES = {node: (f"10.244.{node[1]}.0/24", f"fd10:f4:{node[1]}::/48") for node in KNOWN}


class Cluster:
    """Pods 0 to 2 are on n1, whose maps `put` gets after each change; the others on n2."""

    def __init__(self, mode: Mode, found: Sequence[PodFacts], put: Callable[[Maps], None]) -> None:
        self.mode = mode
        self.objects: dict[tuple[str, str, str], Document] = {}
        """Policies, and what they refer to, by (kind, namespace, name)."""
        self.namespaces: oracle.Namespaces = {name: {} for name in NAMESPACES}
        self.enforcement = "default"
        self._nodes: dict[str, dict[str, str]] = {node: {} for node in KNOWN}
        self._put = put
        self._found = found
        self._labels: list[dict[str, str] | None] = [dict(labels) for _, labels, _ in found]
        """None of a pod that is stopped."""
        self._lives = [0] * len(found)
        self._started = 0
        self._desk = Desk(SETTLING, checked=False)
        self._state = State()
        self._told = 0
        self._compilers = {node: Compiler() for node in KNOWN}
        self._begin()

    def _begin(self) -> None:
        self._desk.write(SETTLING)
        for node in KNOWN:
            self._join(node)
        for n in range(len(self._found)):
            self._start(n)
        self._compile()

    def change(self, what: Happening) -> None:
        match what:
            case "apply", document:
                self.objects[key_of(document)] = document
                self._observe(PolicySet(document))
            case "delete", number:
                if self.objects:
                    key = sorted(self.objects)[number % len(self.objects)]
                    del self.objects[key]
                    self._observe(PolicyRemoved(*key))
            case "relabel", n, labels:
                if self._labels[n] is not None:
                    self._labels[n] = labels
                    self._observe(PodLabelsChanged(self._uid(n), pairs(labels)))
            case "stop", n:
                self._stop(n)
            case "restart", n, labels:
                self._stop(n)
                self._lives[n] += 1
                self._labels[n] = labels
                self._start(n)
            case "namespace", name, labels:
                self.namespaces[name] = labels
                self._observe(NamespaceLabelsSet(name, pairs(labels)))
            case "node", node, labels:
                self._nodes[node] = labels
                self._join(node)
            case "answer", name, addresses:
                self._observe(NameAnswered("n1", name, tuple(addresses), ttl_s=1))
            case "enforce", enforcement:
                self.enforcement = enforcement
                self._desk.write(replace(SETTLING, enforcement=enforcement))
            case ("settle",):
                # What nobody uses any more is retired, and then its number is free again.
                self._desk.tick(after_ms=GRACE_MS)
                self._desk.tick()
            case _:
                raise ValueError(f"{what!r} is nothing that happens")
        self._compile()

    def anew(self) -> "Cluster":
        """A cluster that was told at once what is now, and knows no past."""
        labels = [{} if held is None else held for held in self._labels]
        found = [
            (place, own, ports) for (place, _, ports), own in zip(self._found, labels, strict=True)
        ]
        other = Cluster(self.mode, found, lambda maps: None)
        for n, held in enumerate(self._labels):
            if held is None:
                other.change(["stop", n])
        for name, own in self.namespaces.items():
            other.change(["namespace", name, own])
        for node, own in self._nodes.items():
            other.change(["node", node, own])
        for _, document in sorted(self.objects.items()):
            other.change(["apply", document])
        for name, addresses in self.names.items():
            other.change(["answer", name, list(addresses)])
        other.change(["enforce", self.enforcement])
        return other

    @property
    def names(self) -> oracle.Names:
        """What the ledger says that domain names stand for."""
        return self._state.names

    def judges(self) -> dict[str, Judge]:
        return {node: Judge(compiler.maps, self.mode) for node, compiler in self._compilers.items()}

    def engine(self) -> Engine:
        return Engine(self._state)

    def party(self, n: int, at: str) -> oracle.Party:
        """The traffic's party of that number, by one of its addresses."""
        if n < len(PODS) and (labels := self._labels[n]) is not None:
            return oracle.Pod(self._found[n][0], labels, at, self._ports(n), self._node(n))
        for node, addresses in KNOWN.items():
            if at in addresses:
                return oracle.Node(at, node, self._nodes[node])
        if any(
            ipaddress.ip_address(at) in ipaddress.ip_network(cidr)
            for cidrs in RANGES.values()
            for cidr in cidrs
        ):
            return oracle.Unknown(at)
        return oracle.Outside(at)

    def runs(self, n: int) -> bool:
        """Whether the party is a pod that runs."""
        return n < len(PODS) and self._labels[n] is not None

    def who(self, place: Address) -> int | None:
        """As whom the sender comes through the tunnel; None if not that way."""
        return None if self.mode is Mode.NATIVE else self.identity(place)

    def identity(self, place: Address) -> int | None:
        """Of the pod that has the address."""
        uid = self._state.bindings.get(address_text(place))
        return None if uid is None else self._state.endpoints[uid].identity

    def _uid(self, n: int) -> str:
        return f"{n}-{self._lives[n]}"

    def _node(self, n: int) -> str:
        return "n1" if n < len(LOCAL) else "n2"

    def _ports(self, n: int) -> tuple[tuple[str, int, str], ...]:
        return tuple((name, number, protocol) for name, number, protocol in self._found[n][2])

    def _start(self, n: int) -> None:
        self._started += 1
        started = PodStarted(
            uid=self._uid(n),
            namespace=self._found[n][0],
            name=f"p{n}",
            node=self._node(n),
            addresses=PODS[n],
            labels=pairs(self._labels[n]),
            started_at=self._started,
            ports=self._ports(n),
        )
        self._observe(started)

    def _stop(self, n: int) -> None:
        if self._labels[n] is not None:
            self._labels[n] = None
            self._observe(PodStopped(self._uid(n)))

    def _join(self, node: str) -> None:
        self._observe(NodeJoined(node, KNOWN[node], RANGES[node], pairs(self._nodes[node])))

    def _observe(self, event: Any) -> None:
        """Every node is up: what is planned is carried out at once."""
        for decided in self._desk.observe(event):
            assert not isinstance(decided, PolicyRefused | PodRefused | NodeRefused), decided
        if self._desk.state.relabels:
            self._desk.tick()

    def _compile(self) -> None:
        messages = self._desk.messages
        records = []
        for message in messages[self._told :]:
            self._told += 1
            record = take(self._state, Stored(self._told, message.subject, message.payload, 0))
            records += [record] if record else []
        for node, compiler in self._compilers.items():
            compiler.note(records)
            compiler.update(self._state, node, self.mode, self._attachments(node))
        self._put(self._compilers["n1"].maps.copy())

    def _attachments(self, node: str) -> dict[str, Attachment]:
        """Of the pods that run there; only on n1 it matters at which interface."""
        here = [n for n in range(len(PODS)) if self._node(n) == node and self.runs(n)]
        return {
            self._uid(n): attachment(self._uid(n), IFINDEXES[n] if node == "n1" else 100 + n)
            for n in here
        }
