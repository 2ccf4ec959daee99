"""Packets: sent by pods (and by strangers), through each kernel's hooks on their way.

A packet is told in words: `p1.1 10.244.2.3 80 40001` (who sends, to which address and port, from
which port), `answer …` with the words of the packet that it answers, `stranger …` with the address
that it claims to be from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from tabard.dataplane import packet as plain
from tabard.dataplane.maps import Mode, Protocol, address, address_text
from tabard.dataplane.memory import Action, Outcome
from tabard.simulator.catalogue import OUTSIDE, PORTS
from tabard.simulator.clocks import true_time
from tabard.simulator.loop import VirtualLoop
from tabard.simulator.processes import AgentProcess
from tabard.simulator.world import Judged, Packet, Pod, World

SOURCE_PORTS = (40_001, 40_002)
STRANGER = "192.168.9.99"
"""Underlay address of no node."""
UNDER_WAY_MAX = 8
LINGERS_NS_MAX = 500_000_000
"""No wire holds a packet for longer: it is lost."""
ANSWERS, AGAIN = 0.3, 0.2
"""Shares of packets that answer a flow of before, and that have its addresses and ports."""


@dataclass(slots=True)
class _Way:
    """A packet under way."""

    words: str
    packet: plain.Packet
    source: str
    source_node: str
    sent_at: int
    sent_step: int
    opened_step: int
    is_answer: bool
    judged: list[Judged] = field(default_factory=list)
    node: str = ""
    """Where it goes to, and how it gets there."""
    tunnelled: int | None = None
    outer_source: str = ""


@dataclass(frozen=True, slots=True)
class _Flow:
    """One of which a packet passed."""

    step: int
    """In which the first one did."""
    words: str
    """That one's."""
    source: str
    destination: str
    """UIDs: between others at the same addresses it would be another flow."""


class Wire:
    """The network between kernels."""

    def __init__(self, loop: VirtualLoop, world: World, agents: Mapping[str, AgentProcess]) -> None:
        self._loop = loop
        self._world = world
        self._agents = agents
        self._by_underlay: dict[bytes, AgentProcess] = {
            address(each.seen.underlay): each for each in agents.values()
        }
        self._opened: dict[tuple[str, str, int, int], _Flow] = {}
        self.under_way: dict[str, _Way] = {}

    def draw(self, chance: Random, near: str = "") -> str:
        """A packet that may be sent now, in words; empty if nobody can send. If it can be, it is
        sent or received on the node `near`."""
        pods = self._world.pods
        up = {uid: pod for uid, pod in pods.items() if pod.attached}
        senders = [uid for uid, pod in up.items() if pod.started.node == near]
        targets = [pod.started.addresses[0] for pod in up.values() if pod.running]
        if near and senders and len(targets) > 1:
            addresses = [up[uid].started.addresses[0] for uid in senders]
            one, other = chance.choice(list(up)), chance.choice(senders)
            ports = f"{chance.choice(PORTS)} {chance.choice(SOURCE_PORTS)}"
            if chance.random() < 0.5:
                return f"{other} {chance.choice(targets)} {ports}"
            return f"{one} {chance.choice(addresses)} {ports}"
        dice = chance.random()
        # What is wrong of a pod is so when it has just come, most of all.
        senders = list(up) if chance.random() < 0.5 else list(up)[-3:]
        if not up or dice > 0.93:
            senders = [uid for uid, pod in pods.items() if self._interface(pod)]
        if not senders:
            return ""
        if dice < ANSWERS:
            # Also to who opened it and is gone: another may be at that address.
            alive = [flow for flow in self._opened.values() if flow.destination in up]
            if alive:
                return f"answer {chance.choice(alive).words}"
        elif dice < ANSWERS + AGAIN and self._opened:
            source, to, source_port, port = chance.choice(list(self._opened))
            if sender := self._uid_at(source):  # it need not be the pod that opened it
                return f"{sender} {to} {port} {source_port}"
        targets = targets or list(OUTSIDE)
        port = chance.choice(PORTS)
        if dice < ANSWERS + AGAIN + 0.03:
            return f"stranger {chance.choice(targets)} {chance.choice(targets)} {port}"
        if dice < ANSWERS + AGAIN + 0.1:
            targets = [*OUTSIDE, *(pod.started.addresses[0] for pod in pods.values())]
        source_port = chance.choice(SOURCE_PORTS)
        return f"{chance.choice(senders)} {chance.choice(targets)} {port} {source_port}"

    def send(self, words: str, *, lingers: bool = False) -> bool:
        """Send a packet; one that `lingers` is on the wire until `arrive`. False if it cannot be
        sent."""
        match words.split():
            case ["stranger", claimed, to, port]:
                return self._send_strange(words, claimed, to, int(port))
            case ["answer", uid, to, port, source_port]:
                return self._send_answer(words, uid, to, int(port), int(source_port), lingers)
            case [uid, to, port, source_port]:
                pod = self._world.pods.get(uid)
                # What a pod says to itself does not leave it.
                if pod is None or to == pod.started.addresses[0]:
                    return False
                source = pod.started.addresses[0]
                flow = source, to, int(source_port), int(port)
                opened = self._open(flow, uid, self._uid_at(to))
                step = self._world.step if opened is None else opened.step
                return self._from_pod(words, pod, flow, step, lingers, is_answer=False)
        return False

    def _send_answer(
        self, words: str, uid: str, to: str, port: int, source_port: int, lingers: bool
    ) -> bool:
        opener = self._world.pods.get(uid)
        if opener is None:
            return False
        source = opener.started.addresses[0]
        answering = self._running_at(to)
        if answering is None:
            return False
        opened = self._open((source, to, source_port, port), uid, answering.started.uid)
        if opened is None:
            return False
        flow = to, source, port, source_port
        return self._from_pod(words, answering, flow, opened.step, lingers, is_answer=True)

    def _open(self, flow: tuple[str, str, int, int], source: str, destination: str) -> _Flow | None:
        """The flow between these two pods, if a packet of it passed."""
        found = self._opened.get(flow)
        if found is None or (found.source, found.destination) == (source, destination):
            return found
        del self._opened[flow]
        return None

    def _from_pod(
        self,
        words: str,
        pod: Pod,
        flow: tuple[str, str, int, int],
        opened_step: int,
        lingers: bool,
        *,
        is_answer: bool,
    ) -> bool:
        interface = self._interface(pod)
        if not interface:
            return False
        source, to, source_port, port = flow
        flags = plain.TcpFlag.ACK | plain.TcpFlag.SYN if is_answer else plain.TcpFlag.SYN
        packet = plain.Packet(
            address(source), address(to), Protocol.TCP, source_port, port, tcp_flags=flags
        )
        agent = self._agents[pod.started.node]
        now, step = true_time(self._loop), self._world.step
        way = _Way(
            words,
            packet,
            pod.started.uid,
            agent.name,
            now,
            step,
            opened_step,
            is_answer,
        )
        outcome = agent.kernel.from_pod(interface, packet)
        self._note(way, "from_pod", agent, outcome)
        match outcome.action:
            case Action.DELIVER:
                self._to_pod(way, agent, outcome.ifindex, outcome.identity)
            case Action.TUNNEL:
                to_node = self._by_underlay.get(outcome.node)
                if to_node is None:
                    self._end(way, passed=False)
                    return True
                way.node, way.tunnelled = to_node.name, outcome.identity
                way.outer_source = agent.seen.underlay
                self._go_on(way, lingers)
            case Action.PASS:
                way.node = self._node_of(to)
                if not way.node:
                    self._end(way, passed=True)  # out of the cluster
                elif agent.seen.mode is Mode.OVERLAY or way.node == agent.name:
                    self._end(way, passed=False)  # no route leads there but the tunnel
                else:
                    self._go_on(way, lingers)
            case Action.DROP:
                self._end(way, passed=False)
        return True

    def _go_on(self, way: _Way, lingers: bool) -> None:
        if lingers and len(self.under_way) < UNDER_WAY_MAX and way.words not in self.under_way:
            self.under_way[way.words] = way
        else:
            self._arrive(way)

    def arrive(self, words: str) -> bool:
        way = self.under_way.pop(words, None)
        if way is None:
            return False
        if true_time(self._loop) - way.sent_at > LINGERS_NS_MAX:
            self._end(way, passed=False)
        else:
            self._arrive(way)
        return True

    def _arrive(self, way: _Way) -> None:
        agent = self._agents[way.node]
        if way.tunnelled is not None:
            outer = address(way.outer_source)
            outcome = agent.kernel.from_overlay(outer, way.tunnelled, way.packet)
            self._note(way, "from_overlay", agent, outcome)
            if outcome.action is not Action.DELIVER:
                self._end(way, passed=False)
                return
            self._to_pod(way, agent, outcome.ifindex, outcome.identity)
            return
        outcome = agent.kernel.from_wire(way.packet)
        self._note(way, "from_wire", agent, outcome)
        pod = self._running_at(address_text(way.packet.destination))
        if outcome.action is not Action.PASS or pod is None:
            self._end(way, passed=False)
            return
        self._to_pod(way, agent, agent.kernel.ifindex(pod.interface), None)

    def _to_pod(self, way: _Way, agent: AgentProcess, ifindex: int, mark: int | None) -> None:
        interface = agent.kernel.interface(ifindex)
        if not interface:
            self._end(way, passed=False)
            return
        outcome = agent.kernel.to_pod(ifindex, way.packet, mark)
        self._note(way, "to_pod", agent, outcome)
        got = next((uid for uid, pod in self._world.pods.items() if pod.interface == interface), "")
        self._end(way, passed=outcome.action is Action.PASS, got=got)

    def _send_strange(self, words: str, claimed: str, to: str, port: int) -> bool:
        """Through the tunnel, from an address of no node."""
        pod = self._running_at(to)
        if pod is None:
            return False
        agent = self._agents[pod.started.node]
        packet = plain.Packet(address(claimed), address(to), Protocol.TCP, 40_009, port)
        now, step = true_time(self._loop), self._world.step
        way = _Way(words, packet, "", "", now, step, step, is_answer=False, node=agent.name)
        way.tunnelled = min(agent.kernel.maps.identities, default=0)
        way.outer_source = STRANGER
        self._arrive(way)
        return True

    def _note(self, way: _Way, hook: str, agent: AgentProcess, outcome: Outcome) -> None:
        seen = agent.seen
        way.judged.append(
            Judged(
                hook,
                agent.name,
                self._world.step,
                true_time(self._loop),
                outcome.action is not Action.DROP,
                outcome.reason,
                outcome.identity,
                seen.enforced,
                seen.reached,
                seen.settled,
            )
        )

    def _end(self, way: _Way, *, passed: bool, got: str = "") -> None:
        world, packet = self._world, way.packet
        source, to = address_text(packet.source), address_text(packet.destination)
        destination = got or self._uid_at(to)
        if passed and not way.is_answer and way.source:
            flow = source, to, packet.source_port, packet.destination_port
            opened = _Flow(world.step, way.words, way.source, destination)
            self._opened.setdefault(flow, opened)
        world.packets.append(
            Packet(
                way.source,
                way.source_node,
                source,
                to,
                destination,
                packet.protocol,
                packet.source_port,
                packet.destination_port,
                way.sent_at,
                way.sent_step,
                passed,
                way.opened_step,
                way.is_answer,
                tuple(way.judged),
            )
        )
        world.counts["packets passed" if passed else "packets dropped"] += 1

    def _interface(self, pod: Pod) -> int:
        """The number of its interface, if it sends packets through one that is guarded."""
        if not pod.running:
            return 0
        kernel = self._agents[pod.started.node].kernel
        return kernel.attached().get(pod.started.uid, 0)

    def _node_of(self, text: str) -> str:
        prefix = text.rpartition(".")[0] + ".0/24"
        for agent in self._agents.values():
            if prefix in agent.seen.pod_cidrs:
                return agent.name
        return ""

    def _running_at(self, text: str) -> Pod | None:
        for pod in self._world.pods.values():
            if pod.running and pod.started.addresses[0] == text:
                return pod
        return None

    def _uid_at(self, text: str) -> str:
        found = self._running_at(text)
        return "" if found is None else found.started.uid
