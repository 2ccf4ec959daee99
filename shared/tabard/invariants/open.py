"""never-open: no packet passes that no policy state in its window of uncertainty would have let.

A packet is judged twice, by the sender's node (egress) and by the receiver's (ingress), each of
which enforces some sequence of the ledger then: so it may pass if the sender's policies allow it at
some sequence of the one's window, and the receiver's at some sequence of the other's. What decides
are the policies' own words (`policy.engine`), never what was compiled from them.

An answer passes as the flow that it answers does: ask for the flow, as it was opened, with the
windows of the moment in which the answer passed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tabard.dataplane.maps import Direction, Mode
from tabard.invariants.past import Past, Pod, Series, Window
from tabard.invariants.worlds import BY_ADDRESS, UNKNOWN, End, World
from tabard.policy.parties import Role


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow from its opener to whom it was opened to. Addresses are canonical text."""

    source: str
    """UID of the pod that sent; "" if no pod did: a node, the world, or who forges `from`."""
    source_address: str
    destination: str
    """UID of the pod that got it; "" if that is not known, or is no pod."""
    destination_address: str
    protocol: int
    """IP protocol number: 6 for TCP."""
    port: int
    """The destination's; for ICMP the type."""


class Openness:
    """Says of flows whether they may pass, by what `past` was told."""

    def __init__(self, past: Past, mode: Mode = Mode.OVERLAY) -> None:
        self.past = past
        self.mode = mode

    def may_pass(self, flow: Flow, sent: Window, received: Window) -> bool:
        """Whether the sender's node may let it pass at some sequence of `sent`, and then the
        receiver's at some sequence of `received`."""
        carried = self.sent(flow, sent)
        return bool(carried) and self.received(flow, carried, received)

    def sent(self, flow: Flow, window: Window) -> frozenset[int]:
        """The label sets that the packet may bear when it leaves its sender's node (BY_ADDRESS if
        the sender is no pod of the cluster); none if it may not leave."""
        if not flow.source:
            return frozenset((BY_ADDRESS,))
        pod = self.past.pods.get(flow.source)
        if pod is None:
            return frozenset()
        found = set()
        for sequence in self._points(
            window, pod, flow.source_address, flow.destination_address, flow.destination
        ):
            number = self._number(pod, flow.source_address, sequence)
            if not number or number in found:
                continue
            world = self.past.world(sequence)
            peer = self._told(world, flow.destination_address, flow.destination, pod, sequence)
            subject = End(number, flow.source_address, pod.node)
            if world.passes(Direction.EGRESS, subject, peer, flow.protocol, flow.port):
                found.add(number)
        return frozenset(found)

    def received(self, flow: Flow, carried: Iterable[int], window: Window) -> bool:
        """Whether the receiver's node may let it in, if it bears one of `carried`."""
        return any(
            self._is_let_in(flow, pod, carried, window) for pod in self._receivers(flow, window)
        )

    def _receivers(self, flow: Flow, window: Window) -> Iterator[Pod | None]:
        """The pods that may have got it; None for who is none."""
        if flow.destination:
            pod = self.past.pods.get(flow.destination)
            if pod is not None:
                yield pod
            return
        holders = self.past.holders.get(flow.destination_address)
        uids = set(holders.values(window)) - {""} if holders is not None else set()
        if uids:
            yield from (self.past.pods[uid] for uid in uids)
        else:
            yield None

    def _is_let_in(
        self, flow: Flow, pod: Pod | None, carried: Iterable[int], window: Window
    ) -> bool:
        if pod is None:
            return True
        for sequence in self._points(
            window, pod, flow.destination_address, flow.source_address, flow.source, carried
        ):
            number = self._number(pod, flow.destination_address, sequence)
            if not number:
                continue
            world = self.past.world(sequence)
            subject = End(number, flow.destination_address, pod.node)
            for peer in self._bearers(world, flow, pod, carried, sequence):
                if world.passes(Direction.INGRESS, subject, peer, flow.protocol, flow.port):
                    return True
        return False

    def _number(self, pod: Pod, address: str, sequence: int) -> int:
        """The label set of a pod at an address then; 0 if it was not there, or if the ledger gave
        the address to another."""
        held = self.past.holders.get(address)
        holder = held.of(sequence) if held is not None else None
        return pod.at(sequence) if not holder or holder == pod.uid else 0

    def _bearers(
        self, world: World, flow: Flow, pod: Pod, carried: Iterable[int], sequence: int
    ) -> Iterator[End]:
        """Whom the receiver's node takes the sender for."""
        sender = self.past.pods.get(flow.source)
        if sender is None:
            # A pod's address without a mark is nobody's, where marks are carried.
            told = self._told(world, flow.source_address, "", pod, sequence)
            is_pods = told.number != BY_ADDRESS and self.mode is Mode.OVERLAY
            yield End(UNKNOWN, flow.source_address) if is_pods else told
        elif self.mode is Mode.NATIVE and sender.node != pod.node:
            yield self._told(world, flow.source_address, flow.source, pod, sequence)
        else:
            for number in carried:
                known = self.past.known.get(number)
                is_known = known is not None and known.of(sequence)
                yield End(number if is_known else UNKNOWN, flow.source_address, sender.node)

    def _told(self, world: World, address: str, uid: str, near: Pod, sequence: int) -> End:
        """Whom the node of `near` takes for the holder of an address; `uid` is who really is."""
        if world.role(address) is Role.NODE:
            return End(BY_ADDRESS, address)
        held = self.past.holders.get(address)
        holder = self.past.pods.get((held.of(sequence) if held is not None else None) or "")
        if holder is None and uid:
            # Its own pods a node may know before the ledger does.
            real = self.past.pods.get(uid)
            if real is not None and real.node == near.node and real.is_ahead(sequence):
                holder = real
        if holder is None:
            return End(BY_ADDRESS, address)
        return End(holder.at(sequence) or UNKNOWN, address, holder.node)

    def _points(
        self,
        window: Window,
        pod: Pod,
        own: str,
        address: str,
        uid: str,
        carried: Iterable[int] = (),
    ) -> set[int]:
        """The sequences of the window at which anything may be judged otherwise than before."""
        past = self.past
        series: list[Series[int] | Series[str] | Series[World] | Series[bool]] = [
            past.turns,
            pod.sets,
        ]
        if own in past.holders:
            series.append(past.holders[own])
        if (held := past.holders.get(address)) is not None:
            series.append(held)
            series += (past.pods[one].sets for one in held.values(window) if one)
        if uid in past.pods:
            series.append(past.pods[uid].sets)
        series += (past.known[number] for number in carried if number in past.known)
        points = {window.first}
        for one in series:
            points.update(one.changes(window))
        return points
