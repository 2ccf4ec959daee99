"""Enforcement without a kernel, packet by packet as bpf/programs.c does it.

For tests, and for machines without root or eBPF: what is judged here are packets that someone says
were sent. It ends with its process.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import blake2b
from threading import RLock
from typing import Any

from tabard.dataplane.conntrack import Conntrack
from tabard.dataplane.maps import (
    MAP_NAMES,
    Address,
    Direction,
    Endpoint,
    Maps,
    Mode,
    Protocol,
    Reason,
    is_of_node,
)
from tabard.dataplane.packet import Head, Kind, Packet, head, is_link_local, is_link_multicast
from tabard.dataplane.port import Change, LinkGone, MapFull, MapSizes, NodeConfig, Verdict
from tabard.dataplane.verdict import Judge
from tabard.identity.numbers import CIDR_SCOPE, Reserved, is_pod

VERDICTS_PENDING_MAX = 65_536
"""Verdicts that wait for their watcher's event loop; more are lost, as from a full ring buffer."""


class Action(Enum):
    """What becomes of a packet."""

    DROP = "drop"
    PASS = "pass"
    """On to where it was going: from to_pod into the pod, elsewhere into the host's stack."""
    DELIVER = "deliver"
    """To a local pod's interface, where to_pod judges it by its mark."""
    TUNNEL = "tunnel"
    """To another node, with the sender's identity in the overlay header."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reason` is None where nothing was judged yet."""

    action: Action
    reason: Reason | None = None
    ifindex: int = 0
    """DELIVER: whose interface."""
    identity: int = 0
    """DELIVER, TUNNEL: the sender's, as the packet carries it."""
    node: bytes = b""
    """TUNNEL: underlay address of the node it goes to."""


@dataclass(slots=True)
class _Watcher:
    loop: asyncio.AbstractEventLoop
    deliver: Callable[[list[Verdict]], None]
    pending: list[Verdict] = field(default_factory=list)


class MemoryDataplane:
    """One node's maps and its hooks: from_pod, to_pod, from_overlay, from_wire and to_wire.

    `links` are the interfaces that exist (any, if None); they are numbered as they are attached.
    `clock` is monotonic and `boot_clock` is CLOCK_BOOTTIME, both in nanoseconds.
    """

    kind = "memory"
    guards_node = True

    def __init__(
        self,
        config: NodeConfig,
        *,
        sizes: MapSizes | None = None,
        links: Container[str] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        boot_clock: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self._config = config
        self.sizes = sizes or MapSizes()
        self._links = links
        self._clock = clock
        self._boot_clock = boot_clock
        self._lock = RLock()  # packets may come from another thread than the agent's calls
        self._ifindexes: dict[str, int] = {}
        self._watchers: list[_Watcher] = []
        self._reset()

    def _reset(self) -> None:
        # Written in place: a million bindings are not copied for one more.
        self._judge = Judge(Maps({}, set(), set(), {}, {}, {}), self._config.mode)
        self._flows = Conntrack(
            self.sizes.conntrack,
            self.sizes.fragments,
            self._clock,
            self._config.tunnel_port,
            self._age,
            self._config.stale_after_s,
        )
        self._fresh_at = 0
        self._counters: Counter[tuple[Direction, Reason]] = Counter()
        self._attached: dict[str, str] = {}

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def remove(self) -> None:
        with self._lock:
            self._reset()

    def read(self) -> Maps:
        with self._lock:
            return self._judge.maps.copy()

    def write(self, change: Change) -> None:
        with self._lock:
            # Under the lock nobody sees what is written first: `knows_late` says nothing here.
            for name in MAP_NAMES:
                entries: Any = getattr(self._judge.maps, name)
                verb = "added" if isinstance(entries, set) else "set"
                added = getattr(change, f"{name}_{verb}")
                size = getattr(self.sizes, name)
                if len(entries) + sum(key not in entries for key in added) > size:
                    raise MapFull(name, size, size, f"TABARD_{name.upper()}_MAX")
                entries.update(added)
                if name == "prefixes" and added:
                    self._judge = Judge(self._judge.maps, self._config.mode)
            for name in MAP_NAMES:
                entries = getattr(self._judge.maps, name)
                for key in getattr(change, f"{name}_removed"):
                    if isinstance(entries, set):
                        entries.discard(key)
                    else:
                        entries.pop(key, None)
            self._judge.maps.prefixes.update(change.prefixes_widened)  # type: ignore[attr-defined]
            if change.prefixes_removed or change.prefixes_widened:
                self._judge = Judge(self._judge.maps, self._config.mode)

    def refresh(self, at: int) -> None:
        with self._lock:
            self._fresh_at = at

    def _age(self) -> int | None:
        return self._boot_clock() - self._fresh_at if self._fresh_at else None

    def forget(self, is_another: Callable[[Address, int], bool]) -> int:
        with self._lock:
            return self._flows.forget(is_another)

    def attach(self, uid: str, interface: str) -> tuple[int, bytes]:
        with self._lock:
            if not self._exists(interface):
                raise LinkGone(
                    f"interface {interface!r} of pod {uid} does not exist; start the pod again"
                )
            self._attached[uid] = interface
            number = self._ifindexes.setdefault(interface, len(self._ifindexes) + 1)
            return number, b"\2" + blake2b(interface.encode(), digest_size=5).digest()

    def attached(self) -> Mapping[str, int]:
        with self._lock:
            return {
                uid: self._ifindexes[interface]
                for uid, interface in self._attached.items()
                if self._exists(interface)
            }

    def detach(self, uid: str) -> None:
        with self._lock:
            self._attached.pop(uid, None)

    def _exists(self, interface: str) -> bool:
        return self._links is None or interface in self._links

    def divert(self) -> int | None:
        return None

    def counters(self) -> Mapping[tuple[Direction, Reason], int]:
        with self._lock:
            return dict(self._counters)

    def watch(self, deliver: Callable[[list[Verdict]], None]) -> Callable[[], None]:
        watcher = _Watcher(asyncio.get_running_loop(), deliver)
        with self._lock:
            self._watchers.append(watcher)

        def stop() -> None:
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)
                    watcher.pending.clear()

        return stop

    def from_pod(self, ifindex: int, packet: Packet) -> Outcome:
        """A pod sent `packet` through its interface."""
        with self._lock:
            judge, maps, what = self._judge, self._judge.maps, head(packet)
            if what.kind is Kind.NEIGHBOUR and self._is_own_discovery(ifindex, packet):
                return self._pass(Direction.EGRESS, Reason.ALLOWED_NEIGHBOUR)
            own = maps.endpoints.get(packet.source)
            if own is None:
                return self._refuse(Direction.EGRESS, Reason.DENIED_UNKNOWN_ENDPOINT, packet)
            if own.ifindex != ifindex:
                return self._refuse(Direction.EGRESS, Reason.DENIED_SPOOFED_SOURCE, packet)
            what = self._flows.resolve(packet)
            to = maps.endpoints.get(packet.destination)
            peer = judge.destination(packet.destination)
            # Nothing but the node's own VXLAN device may speak to a tunnel port, or a pod could
            # name its identity itself. Between pods the port is one like any other.
            if (
                what.protocol == Protocol.UDP
                and what.destination_port == self._config.tunnel_port
                and (to is None or is_of_node(to))
                and not is_pod(peer)
            ):
                reason = Reason.DENIED_TUNNEL_PORT
                return self._refuse(Direction.EGRESS, reason, packet, own.identity, peer, what)
            reason = self._enforce(packet, what, own, Direction.EGRESS, peer)
            if not reason.allowed:
                return Outcome(Action.DROP, reason)
            if to is not None and not is_of_node(to):
                return Outcome(Action.DELIVER, reason, to.ifindex, own.identity)
            # An error about a flow of the pod's is about one of the node's; what goes to the proxy
            # is judged when it comes back.
            if to is not None and reason not in (Reason.ALLOWED_RELATED, Reason.ALLOWED_PROXY):
                unquoted = replace(packet, quoted=None)
                said = self._node(unquoted, what, to, Direction.INGRESS, own.identity)
                if said is not None and not said.allowed:
                    return Outcome(Action.DROP, said)
            if self._config.mode is Mode.OVERLAY and peer not in (
                Reserved.HOST,
                Reserved.REMOTE_NODE,
            ):
                prefix = judge.prefixes.match(packet.destination)
                if prefix is not None and prefix.tunnel:
                    return Outcome(Action.TUNNEL, reason, identity=own.identity, node=prefix.tunnel)
            return Outcome(Action.PASS, reason)

    def to_pod(self, ifindex: int, packet: Packet, mark: int | None = None) -> Outcome:
        """`packet` is about to enter the pod behind the interface, with a sender's mark or not."""
        with self._lock:
            if head(packet).kind is Kind.NEIGHBOUR and mark is None:
                return self._pass(Direction.INGRESS, Reason.ALLOWED_NEIGHBOUR)
            own = self._judge.maps.endpoints.get(packet.destination)
            if own is None or own.ifindex != ifindex:
                reason = Reason.DENIED_UNKNOWN_ENDPOINT
                return self._refuse(Direction.INGRESS, reason, packet, 0, mark or 0)
            peer = self._judge.source(packet.source, mark)
            what = self._flows.resolve(packet)
            # What the node sends, save for reports on packets: it is on the way of all that its
            # pods send.
            if peer == Reserved.HOST and mark is None and what.kind is not Kind.ERROR:
                node = self._own(packet.source)
                said = self._node(packet, what, node, Direction.EGRESS, own.identity)
                if said is not None and not said.allowed:
                    return Outcome(Action.DROP, said)
            reason = self._enforce(packet, what, own, Direction.INGRESS, peer)
            return Outcome(Action.PASS if reason.allowed else Action.DROP, reason)

    def from_overlay(self, outer_source: Address, tunnel_id: int, packet: Packet) -> Outcome:
        """`packet` came out of the tunnel, from the node at `outer_source`."""
        with self._lock:
            maps = self._judge.maps
            # No other node speaks for this one, and the header has 24 bits.
            sender = tunnel_id % CIDR_SCOPE
            if sender == Reserved.HOST:
                sender = Reserved.UNKNOWN
            if outer_source not in maps.nodes:
                # Whoever it is matters, and not what else they say.
                stranger = Packet(outer_source, Address(bytes(16)), Protocol.ANY)
                reason = Reason.DENIED_UNKNOWN_NODE
                return self._refuse(Direction.INGRESS, reason, stranger, 0, sender)
            if packet.source in maps.endpoints:
                reason = Reason.DENIED_SPOOFED_SOURCE
                return self._refuse(Direction.INGRESS, reason, packet, 0, sender)
            to = maps.endpoints.get(packet.destination)
            if to is None or is_of_node(to):
                reason = Reason.DENIED_UNKNOWN_ENDPOINT
                return self._refuse(Direction.INGRESS, reason, packet, 0, sender)
            return Outcome(Action.DELIVER, None, to.ifindex, sender)

    def from_wire(self, packet: Packet) -> Outcome:
        """`packet` came in on the underlay, not through the tunnel."""
        with self._lock:
            maps, what = self._judge.maps, head(packet)
            is_host = maps.hosts.get(packet.source) == Reserved.HOST
            if is_host or packet.source in maps.endpoints:
                return self._refuse(Direction.INGRESS, Reason.DENIED_SPOOFED_SOURCE, packet)
            own = self._own(packet.destination)
            if own is not None:
                what = self._flows.resolve(packet)
            if (
                what.protocol == Protocol.UDP
                and what.destination_port == self._config.tunnel_port
                and packet.source not in maps.nodes
            ):
                reason = Reason.DENIED_UNKNOWN_NODE
                return self._refuse(Direction.INGRESS, reason, packet, what=what)
            if own is None or self._flows.is_tunnel(self._judge, what, packet.source):
                return Outcome(Action.PASS)
            peer = self._judge.source(packet.source)
            said = self._node(packet, what, own, Direction.INGRESS, peer)
            return Outcome(Action.PASS if said is None or said.allowed else Action.DROP, said)

    def to_wire(self, packet: Packet) -> Outcome:
        """`packet` leaves on the underlay: the node's own, if it has an address of its."""
        with self._lock:
            own = self._own(packet.source)
            if own is None:
                return Outcome(Action.PASS)
            what = self._flows.resolve(packet)
            if self._flows.is_tunnel(self._judge, what, packet.destination):
                return Outcome(Action.PASS)
            peer = self._judge.known(packet.destination)
            said = self._node(packet, what, own, Direction.EGRESS, peer)
            return Outcome(Action.PASS if said is None or said.allowed else Action.DROP, said)

    def _own(self, address: Address) -> Endpoint | None:
        """The node's entry for an address of its own, if policies select it."""
        found = self._judge.maps.endpoints.get(address)
        return found if found is not None and is_of_node(found) else None

    def _node(
        self, packet: Packet, what: Head, own: Endpoint | None, direction: Direction, peer: int
    ) -> Reason | None:
        """What the node's policies say, if any. Neighbours must find one another."""
        if own is None or what.kind is Kind.NEIGHBOUR:
            return None
        return self._enforce(packet, what, own, direction, peer)

    def _is_own_discovery(self, ifindex: int, packet: Packet) -> bool:
        """Whether a pod's discovery packet speaks of itself, and to its own link only."""
        if not is_link_local(packet.destination) and not is_link_multicast(packet.destination):
            return False
        if not any(packet.source) or is_link_local(packet.source):
            return True
        own = self._judge.maps.endpoints.get(packet.source)
        return own is not None and own.ifindex == ifindex

    def _enforce(
        self,
        packet: Packet,
        what: Head,
        own: Endpoint,
        direction: Direction,
        peer: int,
    ) -> Reason:
        reason = self._flows.enforce(self._judge, packet, what, own, direction, peer)
        self._counters[direction, reason] += 1
        if reason not in (Reason.ALLOWED_ESTABLISHED, Reason.ALLOWED_RELATED):
            self._tell(direction, reason, packet, what, own.identity, peer)
        return reason

    def _pass(self, direction: Direction, reason: Reason) -> Outcome:
        self._counters[direction, reason] += 1
        return Outcome(Action.PASS, reason)

    def _refuse(
        self,
        direction: Direction,
        reason: Reason,
        packet: Packet,
        own: int = 0,
        peer: int = 0,
        what: Head | None = None,
    ) -> Outcome:
        self._counters[direction, reason] += 1
        self._tell(direction, reason, packet, what or head(packet), own, peer)
        return Outcome(Action.DROP, reason)

    def _tell(
        self, direction: Direction, reason: Reason, packet: Packet, what: Head, own: int, peer: int
    ) -> None:
        """Every refusal and every new flow."""
        if not self._watchers:
            return
        is_egress = direction is Direction.EGRESS
        verdict = Verdict(
            at=time.time_ns(),
            direction=direction,
            reason=reason,
            source=packet.source,
            destination=packet.destination,
            source_identity=own if is_egress else peer,
            destination_identity=peer if is_egress else own,
            protocol=what.protocol,
            source_port=what.source_port,
            destination_port=what.destination_port,
        )
        for watcher in self._watchers:
            if not watcher.pending:
                watcher.loop.call_soon_threadsafe(self._flush, watcher)
            if len(watcher.pending) < VERDICTS_PENDING_MAX:
                watcher.pending.append(verdict)

    def _flush(self, watcher: _Watcher) -> None:
        with self._lock:
            verdicts, watcher.pending = watcher.pending, []
        if verdicts:
            watcher.deliver(verdicts)
