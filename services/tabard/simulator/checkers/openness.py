"""never-open: no packet of a step passes that no state in its window would have let."""

from collections.abc import Iterator
from dataclasses import replace

from tabard.dataplane.conntrack import TIMEOUT_OTHER_NS
from tabard.dataplane.maps import address
from tabard.events.observed import Pairs
from tabard.identity.labels import LabelFilter, pod_labels
from tabard.invariants.open import Flow, Openness
from tabard.invariants.past import Past, Pod, Window
from tabard.invariants.verdict import Invariant, Violation
from tabard.invariants.worlds import Worlds
from tabard.policy.compile import incarnation
from tabard.simulator.world import Judged, Node, Packet, World

WORLDS = Worlds()
"""Histories ask for the same few policies."""


FORGOTTEN_NS = TIMEOUT_OTHER_NS
"""After so long without a packet a node may have forgotten a flow."""

Ends = tuple[str, str, int, int]
"""Pods' UIDs, or addresses, and ports: source, destination, source port, destination port."""


class NeverOpen:
    invariant = Invariant.NEVER_OPEN

    def __init__(self) -> None:
        self._past = Past(WORLDS)
        self._openness: Openness | None = None
        self._earliest: dict[str, int] = {}
        """Node → the oldest sequence that something in its kernel may be of."""
        self._filter: LabelFilter | None = None
        self._labels: dict[str, list[Pairs]] = {}
        """All labels that each pod ever had, the latest last."""
        self._flows: dict[Ends, int] = {}
        """Flows as they were opened, and when a packet of theirs passed last."""
        self._openers: dict[tuple[str, Ends], set[str]] = {}
        """To which pod flows were opened, their addresses and ports → by whom: the pod's node knows
        a flow by these, and may not know yet that another pod has its opener's address."""
        self._half: set[Ends] = set()
        """Those of them of which no packet came through: only its sender's node may have them."""
        self._let: set[tuple[str | int, ...]] = set()
        """Node, hook, addresses and ports of packets that passed there: flows that the node may
        have open."""

    def check(self, world: World) -> Iterator[Violation]:
        if self._openness is None:
            self._openness = Openness(self._past, world.mode)
            self._filter = LabelFilter(world.settings.include, world.settings.exclude)
        for record in world.records[self._past.sequence :]:
            self._past.take(record)
        for uid, pod in world.pods.items():
            had = self._labels.setdefault(uid, [])
            if not had or had[-1] is not pod.labels:
                had.append(pod.labels)
        for node in world.nodes.values():
            self._look(node, world)
        for packet in world.packets:
            # Whoever is no node is believed nothing, whatever a pod's policies let in.
            if packet.passed and not (packet.source and self._may_pass(packet)):
                yield Violation(self.invariant, self._told(packet), world.now)
            if packet.passed or packet.judged[0].passed:  # its sender's node may have it open now
                self._note(packet, world.now)
            yield from self._stale(packet, world)

    def finish(self, world: World) -> Iterator[Violation]:
        yield from ()

    def _look(self, node: Node, world: World) -> None:
        """What the ledger does not say of a node."""
        if node.settled:
            self._earliest[node.name] = node.enforced
        elif node.standing == "offline":
            # New pods of its own come in by what its checkpoint said.
            known = self._earliest.get(node.name, node.enforced)
            self._earliest[node.name] = min(known, node.read)
        for uid, attachment in node.attached.items():
            assumed = attachment.provisional
            if assumed is not None and uid not in self._past.pods:
                self._assume(uid, assumed.identity, node, world)

    def _assume(self, uid: str, number: int, node: Node, world: World) -> None:
        """A node took a pod in ahead of the ledger, by labels that it has or had: whoever asked the
        gate may have done so before they changed."""
        started = world.pods[uid].started
        assert self._filter is not None
        known = node.state.identities.get(number)
        for labels in reversed(self._labels[uid]):
            found = pod_labels(
                namespace=started.namespace,
                labels=dict(labels),
                namespace_labels=node.state.namespaces.get(started.namespace, {}),
                service_account=started.service_account,
                cluster=world.settings.cluster,
                ports=started.ports,
                label_filter=self._filter,
            )
            if known is not None and known.labels == found:
                break
        self._past.assume(uid, f"{started.namespace}/{started.name}", node.name, found)

    def _note(self, packet: Packet, now: int) -> None:
        """A packet passed: of a flow that is known, or it opened one. After a while nobody knows
        whether a node still remembers the flow, and one that is open at one end alone may be none
        to the other, so it may have done either."""
        own = _ends(packet)
        turned = _turned(own)
        is_fresh = now - self._flows.get(turned, -FORGOTTEN_NS) < FORGOTTEN_NS
        if not is_fresh or turned in self._half:
            if not packet.passed and own not in self._flows:
                self._half.add(own)
            self._flows[own] = now
            to = packet.destination, _places(packet)
            self._openers.setdefault(to, set()).add(packet.source)
        if packet.passed:
            self._half.discard(own)
        for ends in (own, turned):
            if ends in self._flows:
                self._flows[ends] = now

    def _window(self, judged: Judged) -> Window:
        if judged.settled:
            return Window(judged.enforced, judged.enforced)
        first = min(self._earliest.get(judged.node, judged.enforced), judged.enforced)
        return Window(first, max(judged.reached, judged.enforced))

    def _may_pass(self, packet: Packet) -> bool:
        assert self._openness is not None
        openness = self._openness
        here, there = self._window(packet.judged[0]), self._window(packet.judged[-1])
        is_received = packet.judged[-1].hook == "to_pod"
        flow = Flow(
            packet.source,
            packet.source_address,
            packet.destination if is_received else "",
            packet.destination_address,
            packet.protocol,
            packet.destination_port,
        )
        openers = self._openers.get((packet.source, _turned(_places(packet))), set())
        is_known = _turned(_ends(packet)) in self._flows
        if not is_known and not openers:
            if not is_received:
                return bool(openness.sent(flow, here))
            return openness.may_pass(flow, here, there)
        # By the flow that it answers, or as one of its own: each end takes either.
        opened = replace(
            flow,
            source=packet.destination,
            source_address=packet.destination_address,
            destination=packet.source,
            destination_address=packet.source_address,
            port=packet.source_port,
        )
        both = Window(min(here.first, there.first), max(here.last, there.last))
        answerer = self._sets(packet.source, both)
        leaves = openness.sent(flow, here) or any(
            openness.received(replace(opened, source=uid), self._sets(uid, both), here)
            for uid in (packet.destination, *openers)
        )
        enters = openness.received(flow, answerer, there) or (
            is_known and openness.sent(opened, there)  # its node knows its own pods apart
        )
        return bool(leaves) and bool(enters)

    def _sets(self, uid: str, window: Window) -> frozenset[int]:
        """All label sets that a pod had in the window."""
        pod: Pod | None = self._past.pods.get(uid)
        if pod is None:
            return frozenset()
        sequences = (window.first, *pod.sets.changes(window))
        return frozenset(filter(None, map(pod.at, sequences)))

    def _stale(self, packet: Packet, world: World) -> Iterator[Violation]:
        """Whether it opened a flow where what is enforced had not been the ledger for too long."""
        addresses = packet.source_address, packet.destination_address
        flow = *addresses, packet.source_port, packet.destination_port
        let = {(judged.node, judged.hook, *flow) for judged in packet.judged if judged.passed}
        known = let & self._let
        self._let |= let
        if packet.is_answer or packet.opened_step != packet.sent_step:
            return
        for judged, uid in (
            (packet.judged[0], packet.source),
            (packet.judged[-1], packet.destination),
        ):
            pod = world.pods.get(uid)
            is_own = judged.hook == ("from_pod" if judged is packet.judged[0] else "to_pod")
            if pod is None or not judged.passed or not is_own or judged.step != world.step:
                continue
            node = world.nodes[judged.node]
            endpoint = node.maps.endpoints.get(address(pod.started.addresses[0]))
            if (
                endpoint is None
                or not endpoint.stale_after_s
                or judged.enforced >= len(world.ledger)
            ):
                continue
            if endpoint.incarnation != incarnation(uid):
                continue
            if (judged.node, judged.hook, *flow) in known:
                continue  # opened here before, by a packet that came to nothing elsewhere
            since = world.ledger[judged.enforced].stored_at
            if judged.at - since > endpoint.stale_after_s * 1_000_000_000:
                yield Violation(
                    self.invariant,
                    f"{node.name} let pod {uid} open a flow by LEDGER/{judged.enforced}, which had "
                    f"not been the ledger's end for {(judged.at - since) / 1e9:.1f} s, more than "
                    f"the {endpoint.stale_after_s} s that are allowed",
                    judged.at,
                )

    def _told(self, packet: Packet) -> str:
        hooks = ", ".join(
            f"{one.hook} of {one.node} "
            f"({'not judged' if one.reason is None else one.reason.name}, by "
            f"LEDGER/{self._window(one).first} to {self._window(one).last})"
            for one in packet.judged
        )
        kind = "an answer" if packet.is_answer else "a packet"
        return (
            f"{kind} from {packet.source or packet.source_address} ({packet.source_address}:"
            f"{packet.source_port}) to {packet.destination or 'nobody'} "
            f"({packet.destination_address}:{packet.destination_port}) passed {hooks}, which no "
            "state of these would have let"
        )


def _ends(packet: Packet) -> Ends:
    ports = packet.source_port, packet.destination_port
    return packet.source, packet.destination, *ports


def _places(packet: Packet) -> Ends:
    ports = packet.source_port, packet.destination_port
    return packet.source_address, packet.destination_address, *ports


def _turned(ends: Ends) -> Ends:
    source, destination, source_port, destination_port = ends
    return destination, source, destination_port, source_port
