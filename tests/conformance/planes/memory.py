"""Compiled maps in the memory dataplane, on packets that are told."""

from collections import Counter
from collections.abc import Sequence
from itertools import count

from conformance.planes.nodes import VIEWS, End, Nodes, hooks, is_with_node
from conformance.planes.packets import packet
from conformance.planes.plane import JUDGED, Answer, PlaneError
from conformance.story import Flow
from tabard.dataplane.maps import Direction, Reason
from tabard.dataplane.memory import MemoryDataplane
from tabard.dataplane.packet import Packet
from tabard.dataplane.port import MapSizes, NodeConfig
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State
from tabard.policy.diff import diff

SIZES = MapSizes(conntrack=4096)


class Memory:
    name = "memory"
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
        if is_with_node(sender, receiver):
            return self._ask_nodes(view, sender, receiver, sent, mark)
        egress = ingress = None
        if sender is not None:
            node, endpoint = sender
            egress = self._dataplanes[view, node].from_pod(endpoint.ifindex, sent).reason
        if receiver is not None:
            node, endpoint = receiver
            ingress = self._dataplanes[view, node].to_pod(endpoint.ifindex, sent, mark).reason
        return _judged(egress, ingress, f"{flow} in {view} mode")

    def _ask_nodes(
        self, view: str, sender: End | None, receiver: End | None, sent: Packet, mark: int | None
    ) -> Answer:
        """Where one hook may ask both ends, what was counted says which said what."""
        found: dict[Direction, Reason] = {}
        for hook, (node, endpoint) in hooks(sender, receiver):
            dataplane = self._dataplanes[view, node]
            before = Counter(dataplane.counters())
            match hook:
                case "from_pod":
                    dataplane.from_pod(endpoint.ifindex, sent)
                case "to_pod":
                    dataplane.to_pod(endpoint.ifindex, sent, mark)
                case "from_wire":
                    dataplane.from_wire(sent)
                case "to_wire":
                    dataplane.to_wire(sent)
            found |= dict((Counter(dataplane.counters()) - before).keys())
        egress, ingress = found.get(Direction.EGRESS), found.get(Direction.INGRESS)
        return _judged(egress, ingress, f"{sent} in {view} mode")

    reasons = ask

    def end(self) -> None:
        for nodes in self._nodes.values():
            nodes.check()

    def close(self) -> None:
        pass


def _judged(egress: Reason | None, ingress: Reason | None, what: str) -> Answer:
    for reason in (egress, ingress):
        if reason is not None and reason not in JUDGED:
            raise PlaneError(f"{what} was judged {reason.name}")
    return Answer(egress, ingress)
