"""Compiled maps in the memory dataplane, on packets that are told."""

from collections.abc import Sequence
from itertools import count

from conformance.planes.nodes import VIEWS, Nodes
from conformance.planes.packets import packet
from conformance.planes.plane import JUDGED, Answer, PlaneError
from conformance.story import Flow
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.port import MapSizes, NodeConfig
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State
from tabard.policy.diff import diff

SIZES = MapSizes(conntrack=4096)


class Memory:
    name = "memory"
    judges_nodes = False
    views: tuple[str, ...] = tuple(VIEWS)

    def __init__(self) -> None:
        self._sent = count()
        self.begin()

    def begin(self) -> None:
        numbers: dict[str, int] = {}
        self._nodes = {
            view: Nodes(mode, lambda uid: numbers.setdefault(uid, 100 + len(numbers)))
            for view, mode in VIEWS.items()
        }
        self._dataplanes: dict[tuple[str, str], MemoryDataplane] = {}

    def follow(self, state: State, records: Sequence[LedgerRecord]) -> None:
        for view, nodes in self._nodes.items():
            for node, (maps, change) in nodes.follow(state, records).items():
                dataplane = self._dataplanes.get((view, node))
                if dataplane is None:
                    config = NodeConfig(node, VIEWS[view], ())
                    dataplane = MemoryDataplane(config, sizes=SIZES)
                    self._dataplanes[view, node] = dataplane
                dataplane.write(diff(dataplane.read(), maps) if change is None else change)

    def ask(self, view: str, flow: Flow) -> Answer:
        sender, receiver, mark = self._nodes[view].ends(flow.source, flow.destination)
        sent = packet(flow, next(self._sent))
        egress = ingress = None
        if sender is not None:
            node, endpoint = sender
            egress = self._dataplanes[view, node].from_pod(endpoint.ifindex, sent).reason
        if receiver is not None:
            node, endpoint = receiver
            ingress = self._dataplanes[view, node].to_pod(endpoint.ifindex, sent, mark).reason
        for reason in (egress, ingress):
            if reason is not None and reason not in JUDGED:
                raise PlaneError(f"{flow} in {view} mode was judged {reason.name}")
        return Answer(egress, ingress)

    reasons = ask

    def end(self) -> None:
        for nodes in self._nodes.values():
            nodes.check()

    def close(self) -> None:
        pass
