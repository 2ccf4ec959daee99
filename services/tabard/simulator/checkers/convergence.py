"""convergence: once all is healed, every node comes to the ledger's end, what the policies allow
passes again, and nothing else does."""

from collections.abc import Iterator
from itertools import product

from tabard.dataplane.maps import Protocol, address
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.invariants.open import Flow, Openness
from tabard.invariants.past import Past, Window
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.catalogue import PORTS
from tabard.simulator.checkers.openness import WORLDS
from tabard.simulator.world import World


class Convergence:
    invariant = Invariant.CONVERGENCE

    def check(self, world: World) -> Iterator[Violation]:
        yield from ()

    def finish(self, world: World) -> Iterator[Violation]:
        if not world.converged:
            return  # whoever waited for it says so, and why
        end = len(world.ledger)
        for node in world.nodes.values():
            if node.enforced != end:
                what = f"{node.name} enforces LEDGER/{node.enforced}, the ledger ends at {end}"
                yield Violation(self.invariant, what, world.now)
        yield from self._flows(world, Window(end, end))

    def _flows(self, world: World, now: Window) -> Iterator[Violation]:
        """Every pod to every other: the kernels' maps against the policies' words."""
        past = Past(WORLDS)
        for record in world.records:
            past.take(record)
        openness = Openness(past, world.mode)
        judges = {node.name: Judge(node.maps, node.mode) for node in world.nodes.values()}
        held = [
            (uid, pod.started.addresses[0])
            for uid, pod in world.pods.items()
            if uid in world.nodes[pod.started.node].attached
            and _holds(past, uid, pod.started.addresses[0], now.last)
        ]
        for source, destination in product(held, held):
            for port in PORTS if source != destination else ():
                flow = Flow(*source, *destination, Protocol.TCP, port)
                ends = address(source[1]), address(destination[1])
                passes = flow_verdict(judges, *ends, Protocol.TCP, port).allowed
                if passes != openness.may_pass(flow, now, now):
                    said = "passes" if passes else "does not pass"
                    what = (
                        f"at the end a packet from {source[0]} to {destination[0]}, port {port}, "
                        f"{said}, which is not what the policies of LEDGER/{now.last} say"
                    )
                    yield Violation(self.invariant, what, world.now)


def _holds(past: Past, uid: str, text: str, sequence: int) -> bool:
    held = past.holders.get(text)
    return held is not None and held.of(sequence) == uid
