"""The kernel's programs on crafted packets (BPF_PROG_TEST_RUN), their maps written by diff."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from conformance.planes.nodes import VIEWS, Nodes, hooks, is_with_node
from conformance.planes.packets import SOURCES, packet
from conformance.planes.plane import JUDGED, Answer, PlaneError
from conformance.story import Flow
from frames import frame
from kernel import LOOPBACK, MARK, SHOT, SMALL, Kernel
from tabard.agent.ebpf import syscalls
from tabard.dataplane.maps import Direction, Endpoint, Maps, Reason
from tabard.dataplane.port import DataplaneError
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.state import State

SIZES = replace(SMALL, identities=16_384, policies=65_536, prefixes=16_384, hosts=1_024)


class Ebpf:
    """One set of maps and programs for each node in each mode, kept from case to case."""

    name = "ebpf"
    views: tuple[str, ...] = tuple(VIEWS)

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise PlaneError("the kernel's programs need root on Linux; DATAPLANE=memory does not")
        self._kernels: dict[tuple[str, str], Kernel] = {}
        self._counted: dict[tuple[str, str], Counter[tuple[Direction, Reason]]] = {}
        self._nodes: dict[str, Nodes] = {}
        self._sent = 0

    def begin(self) -> None:
        # A test run is on the loopback interface, so every pod's is.
        self._nodes = {view: Nodes(mode, lambda _: LOOPBACK) for view, mode in VIEWS.items()}
        for key, kernel in self._kernels.items():
            kernel.put(Maps())
            self._counted[key] = Counter(kernel.dataplane.counters())

    def follow(self, state: State, records: Sequence[LedgerRecord]) -> None:
        try:
            self._follow(state, records)
        except DataplaneError:
            self.close()  # what was half written serves no other case
            raise

    def _follow(self, state: State, records: Sequence[LedgerRecord]) -> None:
        for view, nodes in self._nodes.items():
            for node, (maps, _) in nodes.follow(state, records).items():
                kernel = self._kernels.get((view, node))
                if kernel is None:
                    kernel = self._kernels[view, node] = Kernel(VIEWS[view], SIZES)
                    self._counted[view, node] = Counter()
                kernel.put(maps.copy())

    def ask(self, view: str, flow: Flow) -> Answer:
        sender, receiver, mark = self._nodes[view].ends(flow.source, flow.destination)
        data = frame(packet(flow, self._next()))
        if is_with_node(sender, receiver):
            return self.reasons(view, flow)
        egress = ingress = None
        if sender is not None:
            egress = self._passes(view, sender, "from_pod", data, 0)
        if receiver is not None:
            ingress = self._passes(view, receiver, "to_pod", data, _word(mark))
        return Answer(egress, ingress)

    def reasons(self, view: str, flow: Flow) -> Answer:
        sender, receiver, mark = self._nodes[view].ends(flow.source, flow.destination)
        data = frame(packet(flow, self._next()))
        found: dict[Direction, Reason] = {}
        for hook, (node, _) in hooks(sender, receiver):
            kernel = self._kernels[view, node]
            before = Counter(kernel.dataplane.counters())
            kernel.run(hook, data, mark=_word(mark) if hook == "to_pod" else 0)
            found |= dict((Counter(kernel.dataplane.counters()) - before).keys())
        return Answer(found.get(Direction.EGRESS), found.get(Direction.INGRESS))

    def end(self) -> None:
        for nodes in self._nodes.values():
            nodes.check()
        for key, kernel in self._kernels.items():
            counted = Counter(kernel.dataplane.counters()) - self._counted[key]
            if odd := {
                reason.name: n for (_, reason), n in counted.items() if reason not in JUDGED
            }:
                raise PlaneError(f"packets on {key[1]} in {key[0]} mode were judged {odd}")

    def close(self) -> None:
        for kernel in self._kernels.values():
            kernel.remove()
        self._kernels.clear()

    def _next(self) -> int:
        self._sent += 1
        if self._sent % SOURCES == 0:
            for kernel in self._kernels.values():
                kernel.forget_flows()
        return self._sent

    def _passes(
        self, view: str, end: tuple[str, Endpoint], program: str, data: bytes, mark: int
    ) -> bool:
        kernel = self._kernels[view, end[0]]
        ran = syscalls.program_test_run(kernel.dataplane.programs[program], data, mark=mark)
        return ran.returned != SHOT


def _word(mark: int | None) -> int:
    return 0 if mark is None else MARK | mark
