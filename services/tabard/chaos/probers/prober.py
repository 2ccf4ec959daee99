"""The probers' loop: probes and exchanges at their rates, from one thread that is now in one pod's
namespace and now in another's."""

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tabard.chaos.probers.choosing import Chooser
from tabard.chaos.probers.flows import Flow
from tabard.chaos.probers.held import Held
from tabard.chaos.probers.telling import Come, Gone
from tabard.chaos.record import Packet
from tabard.demo.probe import Attempt

PROBES_PER_S = 300
EXCHANGES_PER_S = 120
BEHIND_S_MAX = 0.1
"""What was not begun by then on a busy machine is left out."""
PROBE_S = 1.4
"""After how long without an answer a probe is given up: TCP asks twice by then (RFC 6298)."""
EXCHANGE_S = 1.0
IN_FLIGHT_MAX = 800
FLOWS_MAX = 60
FLOW_LIFE_S = 20.0
"""How long a flow stays open, on average."""
KEPT_SHARE = 0.5
"""Of the probes that pass while there is room for flows, how many stay open."""
HELD_S = 20.0
"""How long the namespace of a pod that is gone is held, to send from it and to its addresses."""
GONE_MAX = 60
"""Most pods that are held so."""
TICK_S = 0.005
LOOK_S = 0.2
"""Between two looks for namespaces that come, go and are given up."""

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: a connection that is closed leaves nothing behind."""


@dataclass(frozen=True, slots=True)
class _Probe:
    attempt: Attempt
    source: Held
    source_address: str
    ends_at: float


class Prober:
    """`told` is fed what `telling` says; `step` is called again and again."""

    def __init__(self, chance: Random, stamp: Callable[[Packet], None]) -> None:
        self.pods: dict[str, Held] = {}
        self.poller = select.epoll()
        self._chance = chance
        self._stamp = stamp
        self._chooser = Chooser(chance, self.pods)
        self._probes: dict[int, _Probe] = {}
        """By descriptor, in the order of their beginning."""
        self._flows: dict[int, Flow] = {}
        self._turns: deque[int] = deque()
        """The flows' descriptors, in the order in which they send."""
        now = time.monotonic()
        self._probed_until = self._exchanged_until = now
        self._looked_at = 0.0

    def told(self, news: Come | Gone) -> None:
        match news:
            case Come():
                if news.uid not in self.pods:
                    self.pods[news.uid] = Held(news)
            case Gone():
                if (pod := self.pods.get(news.uid)) is not None and pod.gone_at is None:
                    pod.gone_at = time.monotonic()

    def step(self, descriptors: list[int]) -> None:
        """Take what came on these of the poller's descriptors, and send what is due."""
        for descriptor in descriptors:
            if (probe := self._probes.get(descriptor)) is not None:
                self._on_probe(descriptor, probe)
            elif (flow := self._flows.get(descriptor)) is not None:
                self._on_flow(descriptor, flow)
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look(now)
        self._give_up(now)
        self._probed_until = max(self._probed_until, now - BEHIND_S_MAX)
        while self._probed_until < now:
            self._probed_until += 1 / PROBES_PER_S
            self._probe(now)
        self._exchanged_until = max(self._exchanged_until, now - BEHIND_S_MAX)
        while self._exchanged_until < now:
            self._exchanged_until += 1 / EXCHANGES_PER_S
            self._exchange(now)

    def close(self) -> None:
        """Nothing is open afterwards; what was under way has no stamp."""
        for probe in self._probes.values():
            probe.attempt.socket.close()
        for flow in self._flows.values():
            flow.socket.close()
        for pod in self.pods.values():
            pod.close()
        self.poller.close()

    # Probes: each opens a flow.

    def _probe(self, now: float) -> None:
        chosen = self._chooser.next()
        if chosen is None or len(self._probes) >= IN_FLIGHT_MAX:
            return
        source, target = chosen
        source.enter()
        attempt = Attempt(target)
        if target.protocol == "TCP":
            attempt.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        is_refused = attempt.send() is False
        probe = _Probe(attempt, source, source.address_towards(target), now + PROBE_S)
        if is_refused:
            self._end(probe, False, "")
            return
        self._probes[attempt.socket.fileno()] = probe
        self.poller.register(attempt.socket.fileno(), attempt.wanted)

    def _on_probe(self, descriptor: int, probe: _Probe) -> None:
        was_connected = probe.attempt.connected
        outcome = probe.attempt.event()
        if outcome is not None:
            del self._probes[descriptor]
            self.poller.unregister(descriptor)
            self._end(probe, *outcome)
        elif probe.attempt.connected is not was_connected:
            self.poller.modify(descriptor, probe.attempt.wanted)

    def _end(self, probe: _Probe, passed: bool, said: str) -> None:
        attempt, source = probe.attempt, probe.source.pod
        target = attempt.target
        packet = Packet(
            source.uid,
            probe.source_address,
            target.address,
            target.port,
            target.protocol,
            attempt.began,
            time.time_ns(),
            passed,
            said,
        )
        self._stamp(packet)
        if passed:
            self._chooser.passed((source.uid, target))
        if said and len(self._flows) < FLOWS_MAX and self._chance.random() < KEPT_SHARE:
            ends_at = time.monotonic() + self._chance.expovariate(1 / FLOW_LIFE_S)
            self._flows[attempt.socket.fileno()] = Flow(packet, attempt.socket, ends_at)
            self._turns.append(attempt.socket.fileno())
            self.poller.register(attempt.socket.fileno(), select.EPOLLIN)
        else:
            attempt.socket.close()

    # Flows: exchanges on what is open.

    def _exchange(self, now: float) -> None:
        if not self._turns:
            return
        descriptor = self._turns.popleft()
        flow = self._flows[descriptor]
        if now < flow.ends_at and not flow.broken:
            flow.send()
            self._turns.append(descriptor)
        else:
            for packet in flow.give_up(time.time_ns() - int(EXCHANGE_S * 1e9)):
                self._stamp(packet)
            del self._flows[descriptor]
            self.poller.unregister(descriptor)
            flow.socket.close()

    def _on_flow(self, descriptor: int, flow: Flow) -> None:
        for packet in flow.receive():
            self._stamp(packet)
        if flow.broken:  # until its turn comes it would report that for ever
            self.poller.modify(descriptor, 0)

    # What is due.

    def _give_up(self, now: float) -> None:
        for descriptor, probe in list(self._probes.items()):
            if probe.ends_at > now:
                break
            del self._probes[descriptor]
            self.poller.unregister(descriptor)
            # Connected, but the listener's line did not come in time: packets did pass.
            self._end(probe, probe.attempt.connected, "")

    def _look(self, now: float) -> None:
        for probe in self._probes.values():
            probe.attempt.resend_if_due()
        before = time.time_ns() - int(EXCHANGE_S * 1e9)
        for flow in self._flows.values():
            for packet in flow.give_up(before):
                self._stamp(packet)
        gone = sorted(
            (pod.gone_at, uid) for uid, pod in self.pods.items() if pod.gone_at is not None
        )
        for place, (gone_at, uid) in enumerate(gone):
            if now - gone_at > HELD_S or place < len(gone) - GONE_MAX:
                self._let_go(uid)
        for pod in self.pods.values():
            pod.look()

    def _let_go(self, uid: str) -> None:
        left = self.pods.pop(uid)
        left.close()
        others = {address for pod in self.pods.values() for address in pod.pod.addresses}
        self._chooser.forget(frozenset(left.pod.addresses) - others)
